"""Handing input to a watched directory round by round, the way a careful writer does."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from pathlib import Path

__all__ = ["move_in", "round_metrics"]


def move_in(files: Sequence[str], directory: str, name: str) -> None:
    """Make files appear whole, under new names and with the time of now, without copying them."""
    for number, file in enumerate(files):
        hidden = Path(directory, f".{name}-{number}")
        try:
            os.link(file, hidden)
        except OSError:  # another file system
            hidden.write_bytes(Path(file).read_bytes())
        os.utime(hidden)
        hidden.rename(Path(directory, f"{name}-{number}"))


def round_metrics(
    records: int, rounds: Sequence[tuple[float, float]], *, unit: str = "words"
) -> dict[str, float]:
    """Rates from (seconds until the answer, seconds of processing) of each round, the first apart."""
    later = rounds[1:] or rounds
    return {
        f"{unit}_per_s": records / statistics.median(seconds for seconds, _ in later),
        f"processing_{unit}_per_s": records / statistics.median(processing for _, processing in later),
        f"first_{unit}_per_s": records / rounds[0][0],
    }
