"""``pyspark script.py [args]``: an existing PySpark program, unchanged, on this engine."""

from __future__ import annotations

import builtins
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Annotated, NoReturn

import typer

from .exit_code import ExitCode

__all__ = ["pyspark", "run_script"]

Script = Annotated[
    Path, typer.Argument(metavar="SCRIPT", help="A Python program that imports pyspark.", show_default=False)
]
Arguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ARGS]...", help="Arguments of the program.", show_default=False),
]
Master = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Where to run if the program does not say: local[4], local[*]."),
]
Name = Annotated[str | None, typer.Option(help="Name of the application when the program does not say.")]
Conf = Annotated[
    list[str] | None,
    typer.Option("--conf", metavar="KEY=VALUE", help="A configuration key; repeatable."),
]


def pyspark(
    script: Script,
    arguments: Arguments = None,
    master: Master = None,
    name: Name = None,
    conf: Conf = None,
) -> None:
    """Run a PySpark streaming program without Spark.

    `import pyspark` gives this engine's layer, in the program and in its workers, whether real PySpark is
    installed or not. Options stand before the script, as for spark-submit; what follows is the program's.
    """
    pairs = [("spark.master", master), ("spark.app.name", name)]
    keys = {key: value for key, value in pairs if value is not None}
    for entry in conf or []:
        key, found, value = entry.partition("=")
        if not found:
            raise typer.BadParameter(f"{entry!r} is no KEY=VALUE", param_hint="--conf")
        keys[key] = value
    if not script.is_file():
        raise typer.BadParameter(f"there is no file {script}", param_hint="SCRIPT")
    run_script(str(script), arguments or [], keys)


def run_script(path: str, arguments: Sequence[str], conf: dict[str, str] | None = None) -> NoReturn:
    """Run ``path`` as the main program, then stop what it left running; does not return.

    The process ends as Python would end it: with the status of ``sys.exit``, 1 after a traceback of the
    script's own frames, by SIGINT after Ctrl-C.
    conf: what a SparkConf starts from.
    """
    from ..compat.pyspark.conf import DEFAULTS
    from ..compat.pyspark.install import install_as_pyspark

    DEFAULTS.update(conf or {})
    DEFAULTS.setdefault("spark.master", "local[*]")
    DEFAULTS.setdefault("spark.app.name", os.path.basename(path))
    install_as_pyspark()
    status = _status_of(lambda: _execute(path, arguments), path)
    stopping = _status_of(_stop_what_runs, path)
    _leave(status if stopping == ExitCode.OK else stopping)


def _execute(path: str, arguments: Sequence[str]) -> None:
    sys.argv[:] = [path, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    main = ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=builtins)
    sys.modules["__main__"] = main  # stays: its functions are sent to workers by value
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    exec(code, main.__dict__)


def _stop_what_runs() -> None:
    """The stream first, gracefully if it asks for that, then the workers; before Python ends its threads."""
    context = sys.modules.get("aiostream_engine.compat.pyspark.context")
    active = None if context is None else context.SparkContext._active_spark_context
    if active is not None:
        active.stop()


def _status_of(call: Callable[[], None], path: str) -> int:
    """The exit status that Python gives after ``call``; negative for the number of a signal."""
    try:
        call()
    except SystemExit as error:
        return _status_of_exit(error)
    except KeyboardInterrupt as error:
        _print_traceback(error, path)
        return -signal.SIGINT
    except BaseException as error:
        _print_traceback(error, path)
        return 1
    return 0


def _status_of_exit(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1


def _print_traceback(error: BaseException, path: str) -> None:
    """As Python prints it: from the first frame of the script on."""
    hook = sys.excepthook
    trace = error.__traceback__
    own = trace
    while own is not None and own.tb_frame.f_code.co_filename != path:
        own = own.tb_next
    _flush()
    shown = error.with_traceback(own if own is not None else _after_this_file(trace))
    hook(type(shown), shown, shown.__traceback__)
    if hook is not sys.__excepthook__:
        _flush()


def _after_this_file(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def _leave(status: int) -> NoReturn:
    if status >= 0:
        sys.exit(status)
    _flush()
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
    raise SystemExit(128 - status)  # where the signal is blocked


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            traceback.print_exc(file=sys.__stderr__)
