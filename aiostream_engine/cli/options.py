"""Options that several commands share, with their help."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AppDir",
    "AppTarget",
    "Duration",
    "LogLevel",
    "LogLevelName",
    "StopTimeout",
    "Uvloop",
]


class LogLevelName(enum.StrEnum):
    """Levels of standard logging, as written on the command line."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


AppTarget = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:FUNCTION",
        help="What to run: module:name or path/to/file.py:name. It is imported, which **executes its code**.",
        show_default=False,
    ),
]
AppDir = Annotated[Path, typer.Option(help="Where modules are looked for first.")]
Duration = Annotated[
    float | None,
    typer.Option(
        min=0, metavar="SECONDS", help="Drain and leave after this time; default: go on until asked."
    ),
]
StopTimeout = Annotated[
    float,
    typer.Option(
        "--stop-timeout",
        "--drain-timeout",
        min=0,
        metavar="SECONDS",
        help="How long draining may take after SIGTERM; then exit code 3. The process ends 5 s after that at "
        "the latest: give containers a longer grace period than both (Kubernetes: 30 s by default).",
    ),
]
LogLevel = Annotated[LogLevelName, typer.Option(help="Least level of log records on standard error.")]
Uvloop = Annotated[bool, typer.Option("--uvloop/--no-uvloop", help="Use uvloop when it is installed.")]
