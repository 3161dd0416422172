"""How fast a source may be read: Spark's PID estimator, entered through a slow start.

The PID rows are BP-3 … BP-6. Spark leaves the first batch without a limit, which is how a
backlog kills a fresh stream; here the first batch is small, and the limit grows with each batch
that used it and was done early, until one batch takes half of the interval.
"""

from __future__ import annotations

from ..config import BackpressureConfig

__all__ = ["SLOW_START_RECORDS", "RateController"]

# The first batch of a source without an initial rate. Small enough for slow functions (10 ms a
# record: ten seconds), and four tenfold steps from ten million.
SLOW_START_RECORDS = 1_000

_PROCESSING_MIN_S = 1e-6  # what a clock can tell; keeps all figures finite
_GROWTH_MIN = 2.0
_GROWTH_MAX = 10.0
_BUSY_SHARE = 0.5


class RateController:
    """The rate limit of one source, updated with the figures of each finished batch. Pure.

    Parameters
    ----------
    config: gains and bounds; when it is not ``enabled``, the limit is always its ``rate_max``.
    interval_s: batch interval in seconds.
    """

    def __init__(self, config: BackpressureConfig, interval_s: float) -> None:
        self._config = config
        self._interval_s = interval_s
        self._time_ms: int | None = None
        self._error = 0.0
        self._estimating = False
        start = SLOW_START_RECORDS / interval_s if config.initial_rate is None else config.initial_rate
        self._rate = self._bounded(start)

    @property
    def rate(self) -> float | None:
        """Records per second that the source may give now; None for no limit."""
        return self._rate if self._config.enabled else self._config.rate_max

    @property
    def estimating(self) -> bool:
        """True when the slow start is over."""
        return self._estimating

    def update(self, time_ms: int, records: int, processing_s: float, scheduling_s: float) -> float | None:
        """Learn from a finished batch; gives the new :attr:`rate`.

        A batch that teaches nothing changes nothing (row BP-4): without records, without
        processing time, or not later than the one before.

        Parameters
        ----------
        time_ms: when the batch ended, epoch milliseconds.
        records: records of this source in the batch.
        processing_s: seconds from start to end of its work.
        scheduling_s: seconds that it waited to be started.
        """
        newer = self._time_ms is None or time_ms > self._time_ms
        if self._config.enabled and newer and records > 0 and processing_s > 0:
            speed = records / max(processing_s, _PROCESSING_MIN_S)
            if self._estimating:
                self._rate = self._bounded(self._estimate(time_ms, speed, scheduling_s))
            elif processing_s + scheduling_s >= self._interval_s * _BUSY_SHARE:
                self._estimating = True
                self._rate = self._bounded(min(self._rate, speed))
            else:
                self._grow(records, processing_s)
            self._time_ms = time_ms
        return self.rate

    def _grow(self, records: int, processing_s: float) -> None:
        # A source that leaves its allowance unused does not need a larger one.
        if records >= self._rate * self._interval_s / 2:
            spare = _BUSY_SHARE * self._interval_s / processing_s
            self._rate = self._bounded(self._rate * min(_GROWTH_MAX, max(_GROWTH_MIN, spare)))

    def _estimate(self, time_ms: int, speed: float, scheduling_s: float) -> float:
        """The formula of row BP-4; rates in records a second, errors likewise."""
        assert self._time_ms is not None
        error = self._rate - speed
        backlog = scheduling_s * speed / self._interval_s
        trend = (error - self._error) / ((time_ms - self._time_ms) / 1000)
        self._error = error
        config = self._config
        return (
            self._rate - config.proportional * error - config.integral * backlog - config.derivative * trend
        )

    def _bounded(self, rate: float) -> float:
        rate = max(rate, self._config.rate_min)
        return rate if self._config.rate_max is None else min(rate, self._config.rate_max)
