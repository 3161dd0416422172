"""``run module:function``: a stream graph of the user, until it ends or is asked to."""

from __future__ import annotations

import enum
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import CheckpointConfig, SchedulerConfig, StateConfig
from ..errors import OptionError
from .exit_code import ExitCode
from .loop import run_loop
from .options import AppDir, AppTarget, Duration, LogLevel, LogLevelName, StopTimeout, Uvloop, bytes_of
from .session import Outcome, Session, say, say_failure
from .signals import StopSignals
from .target import TargetError, build, load

if TYPE_CHECKING:
    from ..context import StreamingContext
    from ..observe.terminal import TerminalView

__all__ = ["ContextOptions", "Trigger", "run", "set_up_logging"]


class Trigger(enum.StrEnum):
    """When batches are cut."""

    INTERVAL = "interval"
    DATA = "data"


class StateBackend(enum.StrEnum):
    """Where keyed state lies."""

    MEMORY = "memory"
    DISK = "disk"


class ContextOptions:
    """Options for the context that a target is given; those not given keep the engine's defaults."""

    def __init__(
        self,
        master: str | None,
        interval_s: float | None,
        trigger: Trigger | None,
        checkpoint: Path | None = None,
        drop_unknown_state: bool = False,
        state: StateBackend | None = None,
        state_memory: str | None = None,
    ) -> None:
        self._given: dict[str, Any] = {}
        self.names: list[str] = []
        self._take("--master", "master", master)
        self._take("--interval", "interval", interval_s)
        if trigger is not None:
            self._take("--trigger", "scheduler", SchedulerConfig(trigger=trigger.value))
        if checkpoint is not None:
            config = CheckpointConfig(str(checkpoint), drop_unknown_state=drop_unknown_state)
            self._take("--checkpoint", "checkpoint", config)
        if state is not None:
            bound = {} if state_memory is None else {"memory_bytes_max": bytes_of(state_memory)}
            self._take("--state", "state", StateConfig(state.value, **bound))

    def _take(self, name: str, parameter: str, value: Any) -> None:
        if value is not None:
            self.names.append(name)
            self._given[parameter] = value

    def make(self) -> StreamingContext:
        """A fresh context. Raises OptionError when an option is wrong."""
        from ..context import StreamingContext

        return StreamingContext(**self._given)


class _StandardErrorHandler(logging.StreamHandler[Any]):
    """Writes to the standard error of the moment, which a live view replaces."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def set_up_logging(level: LogLevelName) -> None:
    """Log to standard error: the command owns the process, so it may."""
    logging.basicConfig(
        level=level.value.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        handlers=[_StandardErrorHandler()],
    )


Master = Annotated[
    str | None,
    typer.Option(help="Where operators run: local, local[4] (worker processes), local[*] (all cores)."),
]
Interval = Annotated[
    float | None, typer.Option(min=0.001, metavar="SECONDS", help="Time between two batches.")
]
TriggerOption = Annotated[
    Trigger | None, typer.Option(help="Cut a batch at each interval, or as soon as there is data.")
]
View = Annotated[
    bool, typer.Option("--view/--no-view", help="Show live figures on standard error, and a summary.")
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        metavar="DIRECTORY",
        help="Survive the end of this process, however it ends: the next start with the same directory goes "
        "on where this one was. Made when missing; private to this stream.",
        show_default=False,
    ),
]
DropUnknownState = Annotated[
    bool,
    typer.Option(
        "--drop-unknown-state",
        help="Start although the directory holds state of steps that are no longer there, and **lose it**.",
    ),
]
State = Annotated[
    StateBackend | None,
    typer.Option(help="Keep state in the memory of the workers, or on disk with a cache in memory."),
]
StateMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="With --state disk, what the caches of one worker may take together: 512MB, 2GiB, or bytes. "
        "Default: 256MiB.",
        show_default=False,
    ),
]
Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[-- ARGS]...", help="Arguments for the application, after two dashes.", show_default=False
    ),
]


def run(
    target: AppTarget,
    arguments: Arguments = None,
    master: Master = None,
    interval: Interval = None,
    duration: Duration = None,
    trigger: TriggerOption = None,
    app_dir: AppDir = Path("."),
    checkpoint: Checkpoint = None,
    drop_unknown_state: DropUnknownState = False,
    state: State = None,
    state_memory: StateMemory = None,
    stop_timeout: StopTimeout = 20.0,
    log_level: LogLevel = LogLevelName.INFO,
    uvloop: Uvloop = True,
    view: View = False,
) -> None:
    """Run a stream of your own until it ends, the time is over, or a signal asks it to drain.

    The target is one of: a function that is given a StreamingContext and builds the graph on
    it, `def build(ssc)` or `def build(ssc, arguments)`; a function without parameters that
    returns a StreamingContext; or a StreamingContext object. Functions may be `async def`.
    Arguments after `--` are in `sys.argv` and in the second parameter.

    **Importing the target executes its code**, with your rights: run only what you trust.

    SIGTERM or Ctrl-C drains: no new data, batches under way are finished, exit code 0. A second
    one stops at once, exit code 3, as does a drain that takes too long. A stream that fails
    exits with 1, wrong usage with 2. With `--checkpoint` none of these loses anything of a source
    that can replay, nor does `kill -9`.

    Examples:

    `python -m aiostream_engine run wordcount:build --master 'local[2]' --interval 0.5`

    `python -m aiostream_engine run jobs/clicks.py:build --duration 60 --view -- --topic clicks`

    `python -m aiostream_engine run wordcount:build --checkpoint /var/lib/wordcount`
    """
    set_up_logging(log_level)
    if drop_unknown_state and checkpoint is None:
        raise typer.BadParameter("it needs --checkpoint", param_hint="--drop-unknown-state")
    if state_memory is not None and state is not StateBackend.DISK:
        raise typer.BadParameter("it needs --state disk", param_hint="--state-memory")
    try:
        options = ContextOptions(
            master, interval, trigger, checkpoint, drop_unknown_state, state, state_memory
        )
    except OptionError as exc:
        raise typer.BadParameter(str(exc), param_hint="--state-memory") from None
    sys.argv = [target, *(arguments or [])]
    try:
        found = load(target, app_dir)
    except TargetError as exc:
        raise typer.BadParameter(str(exc), param_hint="MODULE:FUNCTION") from None
    except Exception as exc:
        say_failure(exc)
        raise typer.Exit(ExitCode.FAILED) from None
    timing = (duration, stop_timeout)
    raise typer.Exit(run_loop(_run(found, target, options, arguments or [], timing, view), uvloop=uvloop))


async def _run(
    found: Any,
    title: str,
    options: ContextOptions,
    arguments: list[str],
    timing: tuple[float | None, float],
    view: bool,
) -> ExitCode:
    duration_s, stop_timeout_s = timing
    with StopSignals(say, stop_timeout_s=stop_timeout_s).installed() as signals:
        try:
            ssc = await build(found, options.make, arguments=arguments, overrides=options.names)
        except TargetError as exc:
            say(f"Error: {exc}")
            return ExitCode.USAGE
        except Exception as exc:
            say_failure(exc)
            return ExitCode.USAGE if _is_wrong_option(exc) else ExitCode.FAILED
        session = Session(
            ssc,
            signals,
            duration_s=duration_s,
            drain_timeout_s=stop_timeout_s,
            view=_view_of(ssc, title, signals) if view else None,
        )
        outcome: Outcome = await session.run()
    if not view:
        say(f"{title}: {outcome.text}")
    return outcome.code


def _is_wrong_option(exc: Exception) -> bool:
    from ..errors import OptionError

    return isinstance(exc, OptionError)


def _view_of(ssc: StreamingContext, title: str, signals: StopSignals) -> TerminalView:
    from ..observe.terminal import TerminalView

    view = TerminalView(ssc.statistics, title=title, redirect=True)
    if view.is_live:
        signals.say = view.set_hint
    return view
