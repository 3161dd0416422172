"""What a sink is to the engine, and the three kinds that differ in what they can promise.

* :class:`PlainSink`: effects are visible at once; a repeated batch is written again.
* :class:`IdempotentSink`: a repeated write under the same :class:`WriteKey` changes nothing.
* :class:`TransactionalSink`: stages a batch, then commits or aborts it as a whole.

The engine reads the guarantee from the class and prints it at start.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..types import BatchTime

__all__ = ["IdempotentSink", "PlainSink", "Records", "Sink", "SinkContext", "TransactionalSink", "WriteKey"]

# The records of one partition, in order, in bounded chunks.
Records = AsyncIterator[Sequence[Any]]


class WriteKey(NamedTuple):
    """Names one partition of one batch of one sink: the same in every repetition (row OUT-9).

    batch_id rises by one a batch; time is the label; partitions is frozen with the batch.
    """

    sink: str
    batch_id: int
    time: BatchTime
    partition: int
    partitions: int

    @property
    def text(self) -> str:
        """The key as text, for systems that take an idempotence key: the same for the same write."""
        return f"{self.sink}-{self.time:013d}-{self.batch_id:010d}-{self.partition:05d}"


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What the runtime hands to a sink when it opens it."""

    name: str


class Sink(abc.ABC):  # noqa: B024 - its three kinds have the abstract methods
    """One output of the stream graph; used on one event loop.

    ``concurrency_max`` bounds how many partitions of a batch are written at the same time; 1 keeps
    their order. Batches come one after the other, in order.
    """

    name: str = "sink"
    concurrency_max: int = 1

    async def open(self, context: SinkContext) -> None:  # noqa: B027 - many need no opening
        """Make ready, before the first batch."""

    async def aclose(self) -> None:  # noqa: B027
        """Free everything; may be called without :meth:`open`."""


class PlainSink(Sink):
    """Writes at once. At-least-once from a replayable source."""

    @abc.abstractmethod
    async def write(self, key: WriteKey, records: Records) -> None:
        """Write one partition; returning means that the outside has it."""


class IdempotentSink(Sink):
    """Writes at once, and the same key twice has the effect of once."""

    @abc.abstractmethod
    async def write(self, key: WriteKey, records: Records) -> None:
        """Write one partition under ``key``."""


class TransactionalSink(Sink):
    """Stages, then makes visible as a whole. ``commit`` and ``abort`` may be repeated for a token."""

    @abc.abstractmethod
    async def stage(self, key: WriteKey, records: Records) -> Any:
        """Stage one partition invisibly; gives a token of plain data that survives a restart."""

    @abc.abstractmethod
    async def commit(self, batch_id: int, time: BatchTime, tokens: Sequence[Any]) -> None:
        """Make the staged partitions of a batch visible, all or nothing."""

    @abc.abstractmethod
    async def abort(self, batch_id: int, tokens: Sequence[Any]) -> None:
        """Throw the staged partitions away."""
