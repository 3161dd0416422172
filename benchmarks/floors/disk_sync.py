"""What the disk takes to make a small record of a growing file durable: what no journal can be under."""

from __future__ import annotations

import os
import platform

from common.program import parameters, report, stopwatch
from common.statistics import percentile

given = parameters()
RECORD = os.urandom(1000)


def sync_seconds(path: str) -> float:
    """The median of writing and syncing a record."""
    seconds = []
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for _ in range(given["syncs"]):
        started = stopwatch()
        os.write(fd, RECORD)
        os.fdatasync(fd)
        seconds.append(stopwatch() - started)
    os.close(fd)
    return percentile(seconds, 50)


report(
    answer="none",
    version=platform.python_version(),
    metrics={"sync_ms": sync_seconds(os.path.join(given["disk"], "synced")) * 1e3},
)
