"""What the outputs of the keyed state gave: a module, since Spark pickles output functions."""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["done", "result", "take"]

done = threading.Event()
result: dict[str, int] = {"batches": 0, "last": 0, "sum": 0}


def take(rdd: Any) -> None:
    """Only a count of the output, but the sum of all in the last batch."""
    if done.is_set():
        return
    rdd.count()
    if result["batches"] == result["last"]:
        result["sum"] = rdd.values().sum()
        done.set()
    result["batches"] += 1
