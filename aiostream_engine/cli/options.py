"""Options that several commands share, with their help."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AppDir",
    "AppTarget",
    "DrainTimeout",
    "Duration",
    "LogLevel",
    "LogLevelName",
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
DrainTimeout = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="How long draining may take; then exit code 3.")
]
LogLevel = Annotated[LogLevelName, typer.Option(help="Least level of log records on standard error.")]
Uvloop = Annotated[bool, typer.Option("--uvloop/--no-uvloop", help="Use uvloop when it is installed.")]
