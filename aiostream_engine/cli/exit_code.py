"""What the exit status of a command means."""

from __future__ import annotations

import enum

__all__ = ["ExitCode"]


class ExitCode(enum.IntEnum):
    """Exit status of the commands; USAGE is also what typer uses for wrong options."""

    OK = 0  # ended by itself, or drained
    FAILED = 1  # the pipeline failed, or the doctor found a problem
    USAGE = 2  # wrong arguments; nothing was started
    FORCED = 3  # stopped by a second signal, or the drain deadline passed
