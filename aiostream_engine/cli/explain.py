"""``explain module:function``: the graph and its plans, without running anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from .exit_code import ExitCode
from .loop import run_loop
from .options import AppDir, AppTarget
from .run import Arguments, ContextOptions, Master
from .session import say, say_failure
from .target import TargetError, build, load

__all__ = ["explain"]


def explain(
    target: AppTarget, arguments: Arguments = None, master: Master = None, app_dir: AppDir = Path(".")
) -> None:
    """Print the stream graph of a target and the plans it is turned into; nothing is started.

    The target is what `run` takes. **Importing it executes its code.**

    Example: `python -m aiostream_engine explain wordcount:build`
    """
    try:
        found = load(target, app_dir)
    except TargetError as exc:
        raise typer.BadParameter(str(exc), param_hint="MODULE:FUNCTION") from None
    except Exception as exc:
        say_failure(exc)
        raise typer.Exit(ExitCode.FAILED) from None
    raise typer.Exit(run_loop(_explain(found, ContextOptions(master, None, None), arguments or [])))


async def _explain(found: Any, options: ContextOptions, arguments: list[str]) -> ExitCode:
    try:
        ssc = await build(found, options.make, arguments=arguments, overrides=options.names)
    except TargetError as exc:
        say(f"Error: {exc}")
        return ExitCode.USAGE
    except Exception as exc:
        say_failure(exc)
        return ExitCode.FAILED
    try:
        typer.echo(ssc.explain())
    finally:
        await ssc.stop(graceful=False)
    return ExitCode.OK
