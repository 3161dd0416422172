"""From the keys of a SparkConf to the engine's configuration of a stream."""

from __future__ import annotations

import re
from typing import Literal, cast

from ....config import BackpressureConfig, SchedulerConfig
from ..conf import SparkConf
from ..errors import IllegalArgumentException

__all__ = ["MISSED_TICKS", "backpressure_of", "is_true", "scheduler_of", "seconds_of"]

# ``coalesce`` (default): one batch for all ticks that were missed. ``every``: Spark's way (row CTX-24).
MISSED_TICKS = "spark.aiostream.missedTicks"

_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_STOP_TIMEOUT_S_MIN = 30.0


def is_true(conf: SparkConf, key: str) -> bool:
    """A key that is ``true`` or ``false``, false by default."""
    return (conf.get(key) or "false").strip().lower() == "true"


def seconds_of(conf: SparkConf, key: str, unit: str = "ms") -> float | None:
    """A key such as ``10s`` or ``200ms``; a bare number counts ``unit``. None when it is not set.

    Raises IllegalArgumentException for anything else.
    """
    text = conf.get(key)
    if text is None:
        return None
    match = re.fullmatch(r"\s*(-?\d+)\s*([a-z]*)\s*", text.lower())
    if match is None or (match[2] or unit) not in _UNITS_S:
        raise IllegalArgumentException(f"{key} is {text!r}: give a time such as 200ms or 10s")
    return int(match[1]) * _UNITS_S[match[2] or unit]


def scheduler_of(conf: SparkConf, interval_s: float) -> SchedulerConfig:
    """When batches are cut, and how many may run: ``concurrentJobs``, ``gracefulStopTimeout``."""
    missed = conf.get(MISSED_TICKS, "coalesce")
    if missed not in ("coalesce", "every"):
        raise IllegalArgumentException(f"{MISSED_TICKS} is {missed!r}: use 'coalesce' or 'every'")
    concurrent = int(conf.get("spark.streaming.concurrentJobs", "1"))
    stop_timeout_s = seconds_of(conf, "spark.streaming.gracefulStopTimeout")
    return SchedulerConfig(
        missed_ticks=cast('Literal["coalesce", "every"]', missed),
        concurrent_batches=concurrent,
        batches_in_flight_max=concurrent + 1,
        stop_timeout_s=max(10 * interval_s, _STOP_TIMEOUT_S_MIN)
        if stop_timeout_s is None
        else stop_timeout_s,
    )


def backpressure_of(conf: SparkConf) -> BackpressureConfig:
    """Rate control of receivers (rows BP-1 … BP-6): off by default, as in Spark."""
    key = "spark.streaming.backpressure"
    limit = float(conf.get("spark.streaming.receiver.maxRate", "0"))
    rate_max = limit if limit > 0 else None
    if not is_true(conf, f"{key}.enabled"):
        return BackpressureConfig(enabled=False, rate_max=rate_max)
    first = conf.get(f"{key}.initialRate")
    initial = rate_max if first is None else float(first)
    least = float(conf.get(f"{key}.pid.minRate", "100"))
    return BackpressureConfig(
        initial_rate=initial,
        rate_max=rate_max,
        rate_min=min(rate for rate in (least, initial, rate_max) if rate is not None),
        proportional=float(conf.get(f"{key}.pid.proportional", "1.0")),
        integral=float(conf.get(f"{key}.pid.integral", "0.2")),
        derivative=float(conf.get(f"{key}.pid.derived", "0.0")),
    )
