"""Handing input to a watched directory round by round, the way a careful writer does."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["WatchedDirectory", "round_metrics", "seconds_to_move"]

MARGIN_S = 0.1


class WatchedDirectory:
    """A directory into which whole files are moved under new names.

    Parameters
    ----------
    scratch: a place for it; in shared memory, so that no writing to a disk disturbs the timing.
    """

    def __init__(self, scratch: str) -> None:
        self.path = os.path.join(scratch, "watched")
        self._staged = Path(scratch, "staged")
        self._staged.mkdir(exist_ok=True)
        Path(self.path).mkdir(exist_ok=True)

    def stage(self, files: Sequence[str], name: str) -> Callable[[], None]:
        """Copy files beside it, and drop those of earlier rounds; the result moves the copies in at once.

        They are copies, for a link to a file that was read is not a new file.
        """
        for old in Path(self.path).iterdir():
            old.unlink()
        copies = [
            Path(shutil.copyfile(file, self._staged / f"{name}-{number}"))
            for number, file in enumerate(files)
        ]

        def move_in() -> None:
            for copy in copies:
                os.utime(copy)
                copy.rename(Path(self.path, copy.name))

        return move_in


def seconds_to_move(interval_s: float) -> float:
    """How long to wait so that files move in 0.1 s before a tick: everybody then waits alike.

    Both Spark and this engine cut batches at epoch multiples of the interval.
    """
    return interval_s - (time.time() + MARGIN_S) % interval_s


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
