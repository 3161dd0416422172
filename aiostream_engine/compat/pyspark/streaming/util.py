"""Names of the files of a batch."""

from __future__ import annotations

import time
from datetime import datetime

__all__ = ["rddToFileName"]


def rddToFileName(prefix: str, suffix: str | None, timestamp: datetime | int) -> str:
    """``prefix-<epoch ms>``, with ``.suffix`` unless that is None; as PySpark (row OUT-5)."""
    if isinstance(timestamp, datetime):
        seconds = int(time.mktime(timestamp.timetuple()))
        timestamp = seconds * 1000 + timestamp.microsecond // 1000
    name = f"{prefix}-{timestamp}"
    return name if suffix is None else f"{name}.{suffix}"
