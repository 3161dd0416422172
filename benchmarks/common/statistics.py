"""Small statistics over a handful of runs or many latencies."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Summary", "latency_metrics", "percentile", "summarize"]


class Summary(NamedTuple):
    """What several runs of the same measurement gave."""

    runs: int
    median: float
    min: float
    max: float


def summarize(values: Sequence[float]) -> Summary:
    """Median and extremes of at least one value; raises ValueError on none."""
    if not values:
        raise ValueError("no run gave a value")
    return Summary(len(values), statistics.median(values), min(values), max(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: always a value that was seen, never one between two.

    Raises ValueError on no values or a percent outside of 0 … 100.
    """
    if not values or not 0 <= percent <= 100:
        raise ValueError("percentile needs values and a percent between 0 and 100")
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def latency_metrics(seconds: Sequence[float], prefix: str = "") -> dict[str, float]:
    """p50, p95, p99 and the maximum of latencies in milliseconds, named ``{prefix}p50_ms`` …"""
    metrics = {f"{prefix}p{rank}_ms": percentile(seconds, rank) * 1e3 for rank in (50, 95, 99)}
    return {**metrics, f"{prefix}max_ms": max(seconds) * 1e3}
