"""Where a stream keeps what survives it: one directory a run, below the directory that the program names."""

from __future__ import annotations

import contextlib
import os
import shutil
import time

from ....config import CheckpointConfig

__all__ = ["Checkpoints"]

_PREFIX = "stream-"
_RUNS_KEPT = 2


class Checkpoints:
    """The checkpoint directory of a context.

    A program that calls ``checkpoint(dir)`` alone begins anew at each start, one that comes from
    ``getOrCreate`` goes on: hence a directory of its own for each run, of which the newest is gone on
    from. Older ones are removed when a new one is in use, but for the last.

    directory: as the program gave it, None for no checkpoints.
    """

    def __init__(self, directory: str | None) -> None:
        self.directory = directory
        self._run: str | None = None
        self.resumed = False

    @staticmethod
    def newest(directory: str) -> str | None:
        """The run to go on from; None when the directory holds none."""
        runs = _runs(_local(directory))
        return runs[-1] if runs else None

    def resume(self, run: str | None) -> None:
        """Go on from ``run``, if there is one; this run is meant to be gone on from as well."""
        self.resumed = True
        self._run = run

    def config(self) -> CheckpointConfig | None:
        """What the engine is given at start."""
        if self.directory is None:
            return None
        if self._run is None:
            self._run = os.path.join(_local(self.directory), f"{_PREFIX}{time.time_ns() // 1000:020d}")
        return CheckpointConfig(self._run)

    def started(self) -> None:
        """The run's directory is in use: remove those before the last."""
        if self.directory is None or self._run is None:
            return
        for run in _runs(_local(self.directory))[:-_RUNS_KEPT]:
            if run != self._run:
                with contextlib.suppress(OSError):
                    shutil.rmtree(run)


def _runs(directory: str) -> list[str]:
    try:
        names = sorted(name for name in os.listdir(directory) if name.startswith(_PREFIX))
    except FileNotFoundError:
        return []
    runs = [os.path.join(os.path.realpath(directory), name) for name in names]
    return [run for run in runs if os.path.exists(os.path.join(run, "META"))]


def _local(path: str) -> str:
    return os.path.realpath(path.removeprefix("file://").removeprefix("file:"))
