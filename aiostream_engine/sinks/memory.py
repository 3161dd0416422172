"""A list as a sink, for tests and notebooks."""

from __future__ import annotations

from typing import Any

from ..types import BatchTime
from .base import IdempotentSink, Records, WriteKey

__all__ = ["ListSink"]


class ListSink(IdempotentSink):
    """Keeps what is written, by key: a repeated write replaces the same partition.

    batches_max: batches kept, the oldest are forgotten; None keeps all, which grows without end.
    """

    def __init__(self, *, name: str = "list", batches_max: int | None = None) -> None:
        self.name = name
        self.writes = 0
        self._batches_max = batches_max
        self._partitions: dict[tuple[int, BatchTime], dict[int, list[Any]]] = {}

    async def write(self, key: WriteKey, records: Records) -> None:
        partition: list[Any] = []
        async for chunk in records:
            partition.extend(chunk)
        # Only a whole partition becomes visible.
        self._partitions.setdefault((key.batch_id, key.time), {})[key.partition] = partition
        self.writes += 1
        if self._batches_max is not None and len(self._partitions) > self._batches_max:
            del self._partitions[min(self._partitions)]

    @property
    def batches(self) -> dict[BatchTime, list[Any]]:
        """Records of each batch by its label, in order of batches and partitions."""
        return {
            time: [record for number in sorted(parts) for record in parts[number]]
            for (_, time), parts in sorted(self._partitions.items(), key=lambda item: item[0])
        }

    @property
    def records(self) -> list[Any]:
        """All records, in order of batches and partitions."""
        return [record for records in self.batches.values() for record in records]

    def clear(self) -> None:
        """Forget everything."""
        self._partitions.clear()
        self.writes = 0
