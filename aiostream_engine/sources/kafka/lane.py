"""How the bytes of a topic get into blocks: what both lanes promise, and which of them is taken."""

from __future__ import annotations

import abc
import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, NamedTuple

from ...blocks.directory import BlockDirectory
from ...errors import OptionError
from ...kafka.record_batch import Piece
from ...kafka.settings import KafkaSettings
from ...types import INLINE_BYTES_MAX
from .partition_queue import PartitionQueue, Place

__all__ = ["EARLIEST", "LATEST", "FetchLimits", "Lane", "LaneEvents", "LaneKind", "Topic", "make_lane"]

_log = logging.getLogger("aiostream_engine.kafka")

EARLIEST, LATEST = -2, -1
MIB = 1024 * 1024
_IN_THREAD_BYTES = 256 * 1024  # writing this much takes a tenth of a millisecond

LaneKind = Literal["auto", "raw", "client"]


class Topic(NamedTuple):
    """A topic as the cluster has it; ``id`` is of 16 bytes, all zero where it is not known."""

    name: str
    id: bytes
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How much a fetch brings, in bytes, and how long the broker may wait for ``bytes_min``."""

    bytes_min: int = 1
    partition_bytes_max: int = 2 * MIB
    response_bytes_max: int = 4 * MIB
    wait_ms: int = 500

    def __post_init__(self) -> None:
        for name in ("bytes_min", "partition_bytes_max", "response_bytes_max", "wait_ms"):
            if not 1 <= getattr(self, name) < 2**31:
                raise OptionError(f"{name} is {getattr(self, name)!r}: it must be at least 1, below 2**31")


def _ignore(*_: object) -> None:
    return None


@dataclass(slots=True)
class LaneEvents:
    """What a lane tells its source.

    data: something was stored. lost: the queue's position is not there any more; nothing more is
    fetched for it until it leaps. stale: what is known of the topics has to be asked for again.
    error: something failed and is tried again, or, when ``fatal``, cannot be.
    """

    data: Callable[[], None] = _ignore
    lost: Callable[[PartitionQueue], None] = _ignore
    stale: Callable[[], None] = _ignore
    error: Callable[[Exception, bool], None] = field(default=_ignore)


class Lane(abc.ABC):
    """Fills queues; on one event loop. Calls may raise aiokafka's KafkaError.

    read_committed: leave out records of transactions that are aborted or not over.
    """

    kind: str
    form: str

    def __init__(
        self,
        settings: KafkaSettings,
        limits: FetchLimits,
        directory: BlockDirectory,
        events: LaneEvents,
        *,
        read_committed: bool,
    ) -> None:
        self.settings = settings
        self.limits = limits
        self.directory = directory
        self.events = events
        self.read_committed = read_committed
        self.queues: dict[Place, PartitionQueue] = {}
        self.failing: set[object] = set()
        """Brokers that did not answer the last request; empty when all is well."""

    @abc.abstractmethod
    async def start(self) -> None:
        """Connect. Raises KafkaError when no broker can be reached."""

    @abc.abstractmethod
    async def aclose(self) -> None:
        """End what is under way and the connections. May be called twice, and after a failed start."""

    @abc.abstractmethod
    async def topics(self, names: Collection[str] | None) -> dict[str, Topic]:
        """The topics that there are, of ``names`` or of all; internal ones only by name."""

    @abc.abstractmethod
    async def offsets(self, at: Mapping[Place, int]) -> dict[Place, int]:
        """For each partition the first offset at or after a time, -1 for none.

        at: epoch milliseconds, EARLIEST or LATEST. LATEST with ``read_committed`` is the last stable
            offset. Raises KafkaError.
        """

    @abc.abstractmethod
    def wake(self) -> None:
        """There is room again in some queue, or another position."""

    def add(self, queue: PartitionQueue) -> None:
        """Fill ``queue`` from its position on; its topic was among those of :meth:`topics`."""
        self.queues[queue.place] = queue
        self.wake()

    def remove(self, queue: PartitionQueue) -> None:
        """Fill ``queue`` no longer; it is emptied."""
        if self.queues.get(queue.place) is queue:
            del self.queues[queue.place]
        queue.drop()

    async def store(self, admitted: list[tuple[PartitionQueue, list[Piece]]]) -> None:
        """Put bytes where blocks lie and the pieces into their queues."""
        for queue, pieces in admitted:
            if sum(piece.length for piece in pieces) > INLINE_BYTES_MAX:
                await self._write(pieces)
            else:
                for piece in pieces:
                    piece.data, piece.views = b"".join(piece.views), []
            self._hand_over(queue, pieces)
        if admitted:
            self.events.data()

    async def _write(self, pieces: list[Piece]) -> None:
        views = [view for piece in pieces for view in piece.views]
        write = self.directory.writer.write
        if sum(map(len, views)) > _IN_THREAD_BYTES:
            path, offsets = await asyncio.to_thread(write, views)
        else:
            path, offsets = write(views)
        at = iter(offsets)
        for piece in pieces:
            if piece.views:
                begins = [next(at) for _ in piece.views]
                piece.path, piece.offset, piece.views = path, begins[0], []

    def _hand_over(self, queue: PartitionQueue, pieces: list[Piece]) -> None:
        blocks = [queue.block(piece) for piece in pieces if piece.bases]
        self.directory.ledger.retain(blocks)
        if not queue.active:
            self.directory.ledger.release(blocks)
            return
        for piece in pieces:
            queue.append(piece)


def make_lane(
    kind: LaneKind,
    settings: KafkaSettings,
    limits: FetchLimits,
    directory: BlockDirectory,
    events: LaneEvents,
    *,
    read_committed: bool,
) -> Lane:
    """The raw lane where the client's insides are as this package knows them, else the client's own."""
    if kind not in ("auto", "raw", "client"):
        raise OptionError(f"lane {kind!r} is not known: use 'auto', 'raw' or 'client'")
    strangeness = raw_lane_strangeness() if kind != "client" else None
    if strangeness is not None and kind == "raw":
        raise OptionError(f"lane='raw' does not fit this aiokafka: {strangeness}")
    if kind == "client" or strangeness is not None:
        from .client_lane import ClientLane

        return ClientLane(settings, limits, directory, events, read_committed=read_committed)
    from .raw_lane import RawLane

    return RawLane(settings, limits, directory, events, read_committed=read_committed)


@cache
def raw_lane_strangeness() -> str | None:
    """What the raw lane needs of aiokafka and does not find, None when all is there. Logged once."""
    strangeness = _look_for_strangeness()
    if strangeness is not None:
        _log.warning("Kafka is read through the public consumer, which is slower: %s", strangeness)
    return strangeness


def _look_for_strangeness() -> str | None:
    import inspect

    try:
        from aiokafka.client import AIOKafkaClient, ConnectionGroup
        from aiokafka.conn import AIOKafkaConnection
        from aiokafka.errors import for_code
        from aiokafka.protocol.offset import OffsetRequest

        from . import wire
    except Exception as error:  # of any kind: what is not known may fail in any way
        return f"{type(error).__name__}: {error}"
    needed = {
        AIOKafkaClient.send: ("node_id", "request", "group"),
        AIOKafkaConnection.send: ("request",),
        OffsetRequest.__init__: ("replica_id", "isolation_level", "topics"),
    }
    for function, names in needed.items():
        missing = set(names) - inspect.signature(function).parameters.keys()
        if missing:
            return f"{function.__qualname__} has no {', '.join(sorted(missing))}"
    if "request.prepare(self._versions)" not in inspect.getsource(AIOKafkaConnection.send):
        return "connections prepare requests in another way"
    if "RESPONSE_TYPE" not in inspect.getsource(AIOKafkaConnection):
        return "connections decode answers in another way"
    if not hasattr(ConnectionGroup, "COORDINATION") or for_code(1).__name__ != "OffsetOutOfRangeError":
        return "names of its parts are others"
    if "group" not in inspect.getsource(AIOKafkaClient._get_conn):
        return "connections are kept in another way"
    return wire.strangeness()
