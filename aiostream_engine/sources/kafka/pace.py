"""How far partitions are behind, and how much of each a batch takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .partition_queue import PartitionQueue, Place
from .shares import shares

__all__ = ["Pace"]


class Pace:
    """Rates into numbers of offsets.

    rate_max, rate_min: records a second of each partition, at most and at least; None for no bound.
    read_committed: records behind the last stable offset cannot be read yet.
    """

    def __init__(self, rate_max: float | None, rate_min: float, *, read_committed: bool) -> None:
        self.rate: float | None = None
        """Records a second of all partitions together, None for no bound."""
        self._rate_max, self._rate_min = rate_max, rate_min
        self._read_committed = read_committed
        self._cut_at = self._interval_s = 0.0

    def start(self, now_s: float, interval_s: float) -> None:
        """The time at which the stream began, of a monotonic clock, and the interval of batches."""
        self._cut_at, self._interval_s = now_s, interval_s

    def limits(self, now_s: float, queues: Mapping[Place, PartitionQueue]) -> dict[Place, int | None]:
        """How many offsets the batch that is cut now may take of each partition; no entry is no bound."""
        # Not more for a batch that is late: it would be late again.
        seconds = min(now_s - self._cut_at, self._interval_s)
        self._cut_at = now_s
        if self.rate is None and self._rate_max is None:
            return {}
        lags = {place: self.behind(queue) for place, queue in queues.items()}
        most = None if self._rate_max is None else self._rate_max * seconds
        whole = None if self.rate is None else self.rate * seconds
        return shares(lags, whole, self._rate_min * seconds, most)

    def behind(self, queue: PartitionQueue) -> int:
        """Offsets that could be read and are in no batch yet."""
        end = queue.stable if self._read_committed and queue.stable >= 0 else queue.highwater
        return max(0, max(end, queue.position) - queue.taken)

    def held_back(self, queues: Iterable[PartitionQueue]) -> int:
        """Offsets behind transactions that are not over."""
        if not self._read_committed:
            return 0
        return sum(queue.highwater - queue.stable for queue in queues if 0 <= queue.stable <= queue.highwater)
