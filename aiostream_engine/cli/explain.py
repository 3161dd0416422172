"""``explain module:function``: the graph and its plans, without running anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..planner.explain import EXPLAIN_STAGES
from .exit_code import ExitCode
from .loop import run_loop
from .options import AppDir, AppTarget
from .run import Arguments, ContextOptions, Master
from .session import say, say_failure
from .target import TargetError, build, load

__all__ = ["explain"]

Stage = Annotated[
    str | None,
    typer.Option(help=f"Show the plan of each output after this stage: {', '.join(EXPLAIN_STAGES)}, or all."),
]


def explain(
    target: AppTarget,
    arguments: Arguments = None,
    master: Master = None,
    stage: Stage = None,
    app_dir: AppDir = Path("."),
) -> None:
    """Print the stream graph of a target, or the plans it is turned into; nothing is started.

    The target is what `run` takes. **Importing it executes its code.**

    Example: `python -m aiostream_engine explain wordcount:build --stage optimised`
    """
    if stage not in (None, "all", *EXPLAIN_STAGES):
        raise typer.BadParameter(f"use one of {', '.join(EXPLAIN_STAGES)}, or all", param_hint="--stage")
    try:
        found = load(target, app_dir)
    except TargetError as exc:
        raise typer.BadParameter(str(exc), param_hint="MODULE:FUNCTION") from None
    except Exception as exc:
        say_failure(exc)
        raise typer.Exit(ExitCode.FAILED) from None
    raise typer.Exit(run_loop(_explain(found, ContextOptions(master, None, None), arguments or [], stage)))


async def _explain(found: Any, options: ContextOptions, arguments: list[str], stage: str | None) -> ExitCode:
    try:
        ssc = await build(found, options.make, arguments=arguments, overrides=options.names)
    except TargetError as exc:
        say(f"Error: {exc}")
        return ExitCode.USAGE
    except Exception as exc:
        say_failure(exc)
        return ExitCode.FAILED
    try:
        for name in EXPLAIN_STAGES if stage == "all" else [stage]:
            if stage == "all":
                typer.echo(f"== {name}")
            typer.echo(ssc.explain(name))
    finally:
        await ssc.stop(graceful=False)
    return ExitCode.OK
