"""Options that several commands share, with their help."""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import Annotated

import typer

from ..errors import OptionError

__all__ = [
    "AppDir",
    "AppTarget",
    "Duration",
    "LogLevel",
    "LogLevelName",
    "StopTimeout",
    "Uvloop",
    "bytes_of",
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


_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def bytes_of(text: str) -> int:
    """A size as written on the command line, in bytes. Raises OptionError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if found is None or found[2] not in _UNITS:
        raise OptionError(f"{text!r} is no size: write bytes, or a number with KB, MB, GB, KiB, MiB or GiB")
    return int(float(found[1]) * _UNITS[found[2]])
