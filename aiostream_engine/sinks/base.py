"""What a sink is to the engine, and the three kinds that differ in what they can promise.

* :class:`PlainSink`: effects are visible at once; a repeated batch is written again.
* :class:`IdempotentSink`: a repeated write under the same :class:`WriteKey` changes nothing.
* :class:`TransactionalSink`: stages a batch, then commits or aborts it as a whole;
  :class:`CommitPointSink` is one whose transaction decides about the batch.

The engine reads the guarantee from the class and prints it at start.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import SinkError
from ..types import BatchTime, OnError

__all__ = [
    "BatchCommit",
    "BatchMark",
    "CommitPointSink",
    "Encoding",
    "IdempotentSink",
    "PartialWriteError",
    "PlainSink",
    "Records",
    "Sink",
    "SinkContext",
    "TransactionalSink",
    "WriteKey",
]

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


class PartialWriteError(SinkError):
    """The outside took a part of a write; only the rest is worth another try (scenario F5).

    failed: the records that were not taken, in order, to be tried again.
    refused: pairs of a record that will never be taken, and why; nobody tries them again.
    """

    def __init__(
        self,
        message: str,
        failed: Sequence[Any] = (),
        refused: Sequence[tuple[Any, BaseException | str]] = (),
    ) -> None:
        super().__init__(message)
        self.failed = list(failed)
        self.refused = list(refused)


@dataclass(frozen=True, slots=True)
class Encoding:
    """A step before a sink, in the workers: what a sink would else do on the loop.

    encode: called for each record; one on which it raises is given up as ``on_error`` says.
    dead_letters: with ``on_error="dead-letter"`` the sink that gets these records, as entries of
        :func:`~.dead_letters.dead_letter_entry`.
    """

    encode: Callable[[Any], Any]
    on_error: OnError | str = OnError.FAIL
    dead_letters: Sink | None = None


class BatchMark(NamedTuple):
    """Names a batch in the memory of a sink that decides about batches."""

    batch_id: int
    time: int


class BatchCommit(NamedTuple):
    """A batch about to become true. inputs: by name, what describes the content of each input."""

    batch_id: int
    time: BatchTime
    inputs: Mapping[str, Mapping[str, Any]]

    @property
    def mark(self) -> BatchMark:
        """What the sink has to remember."""
        return BatchMark(self.batch_id, int(self.time))


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
    writes_early: bool = False
    """A partition may be written while others of its batch are still computed, and may fail yet."""
    encoding: Encoding | None = None
    """A step that the engine puts before the sink, None for none."""

    def packer(self) -> Callable[[Iterator[Any]], Iterator[Any]] | None:
        """What turns a partition's records into what :meth:`write` gets, in the workers; None for nothing.

        Asked before each batch, after :meth:`open`. The same object as long as it does the same.
        """
        return None

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


class CommitPointSink(TransactionalSink):
    """Its transaction *is* the point at which a whole batch becomes true: state, positions and output.

    The engine makes all else of the batch durable before, so that it is taken when the transaction is
    committed, and dropped when it is not. A stream has one such sink at most. ``stage`` only holds the
    output; a token that says ``{"records": 0}`` has none, and a batch without output is decided without
    the sink. ``commit_point`` names where the sink remembers.
    """

    commit_point: str = ""

    @abc.abstractmethod
    async def commit_batch(self, commit: BatchCommit, tokens: Sequence[Any]) -> None:
        """Write the staged output and remember ``commit.mark``, both or neither.

        When it raises, the outcome may be unknown: the stream stops, and the next start asks.
        """

    @abc.abstractmethod
    async def committed(self) -> BatchMark | None:
        """The last batch whose transaction was committed, None when the outside does not remember one.

        Nothing of an earlier driver can be committed any more when it returns.
        """

    @abc.abstractmethod
    async def begin(self, mark: BatchMark) -> None:
        """Remember ``mark``: nothing is remembered yet, which later must not be taken for a loss."""

    async def commit(self, batch_id: int, time: BatchTime, tokens: Sequence[Any]) -> None:
        """Nothing is left to do: the batch is true because the transaction was committed."""
