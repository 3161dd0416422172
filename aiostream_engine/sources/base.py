"""What a source is to the engine, and the three kinds that differ in what they can promise.

* :class:`ReplayableSource` can give the same records again from a position (files, Kafka).
* :class:`ReceiverSource` is handed records by the outside and cannot ask for them again
  (sockets, custom receivers, actors); a write-ahead log can make it recoverable.
* :class:`EphemeralSource` lives in this process and dies with it (queues, generators).

The engine reads the guarantee from the class. Sources never see plans, and an implementation
imports its optional dependency inside its own file.
"""

from __future__ import annotations

import abc
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..blocks.directory import BlockDirectory
from ..clock import Clock, SystemClock
from ..config import QueueLimits
from ..observe.events import ReceiverInfo
from ..types import BatchTime, BlockRef

__all__ = [
    "BatchInput",
    "EphemeralSource",
    "ReceiverSource",
    "ReplayableSource",
    "Source",
    "SourceContext",
]


def _ignore(*_: Any) -> None:
    return None


@dataclass(slots=True)
class SourceContext:
    """What the runtime hands to a source at its start.

    stream_id: number of the input, in order of definition (row SRC-23).
    directory: where blocks are written; blocks given to the engine are retained once in its ledger.
    limits: bounds of the source's queue.
    parallelism: number of partitions that keeps all workers busy.
    interval_s: seconds from one batch to the next, for a source that gives only so much a batch.
    notify: call it when data is ready to be cut; wakes the as-soon-as-data trigger. Cheap.
    on_started, on_error, on_stopped: report a receiver event with its current info.
    """

    stream_id: int
    directory: BlockDirectory
    limits: QueueLimits = field(default_factory=QueueLimits)
    clock: Clock = field(default_factory=SystemClock)
    parallelism: int = 1
    interval_s: float = 1.0
    random: random.Random = field(default_factory=random.Random)
    notify: Callable[[], None] = _ignore
    on_started: Callable[[ReceiverInfo], None] = _ignore
    on_error: Callable[[ReceiverInfo], None] = _ignore
    on_stopped: Callable[[ReceiverInfo], None] = _ignore


@dataclass(frozen=True, slots=True)
class BatchInput:
    """The frozen content of one source for one batch.

    blocks: what to read, in arrival order; the engine owns the one retain of each.
    datasets: RDDs handed through by a queue of RDDs; the source does not look into them.
    records, bytes: how much it is, records -1 when unknown before reading.
    metadata: for people and listeners (file names, offset ranges), with ``description`` if any.
    position: for a replayable source, plain data from which the *next* batch starts, or a function
        that gives it, which is called before the next cut or not at all.
    position_change: what the batch adds to the position before it, as plain data that
        :meth:`ReplayableSource.advance` understands, empty when that stays as it was. For sources
        whose position is large; None writes the whole position whenever it differs.
    recipe: plain data from which :meth:`ReplayableSource.recompute` makes the same content again.
        A journal then holds it instead of the bytes of the blocks.
    part_sizes: how many of the blocks, one after the other, make each partition; empty leaves it to
        the engine to deal them out.
    """

    blocks: tuple[BlockRef, ...] = ()
    datasets: tuple[Any, ...] = ()
    records: int = 0
    bytes: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    position: Any = None
    position_change: Any = None
    recipe: Any = None
    part_sizes: tuple[int, ...] = ()


class Source(abc.ABC):
    """One input of the stream graph; used on one event loop.

    Subclasses set ``name`` (shown everywhere) and ``format``/``format_args`` (what their blocks
    are, known before the first one so that the planner can specialise; the arguments of a single
    block may differ, as for a compressed file among plain ones).

    decode_strictly: encoding of text that is handed over undecoded, so that the engine decodes it
        in a step of its own, where an error policy can apply; None when there is nothing to decode.
    converter: applied to every record in the workers, None for none.
    reader: applied to every path in the workers, gives an iterable of records; None for none.
    paced: the engine sets its rate by :meth:`set_rate` as batches show what they can take.
    at_least_once: the outside gives records again, to this program or another, until :meth:`on_commit`;
        in other batches, so that no sink can tell.
    """

    name: str = "source"
    format: str = "pickle"
    format_args: tuple[Any, ...] = ()
    decode_strictly: str | None = None
    converter: Callable[[Any], Any] | None = None
    reader: Callable[[str], Iterable[Any]] | None = None
    paced: bool = False
    at_least_once: bool = False

    @abc.abstractmethod
    async def start(self, context: SourceContext) -> None:
        """Begin to take data; returns when the source runs, not when it is connected."""

    @abc.abstractmethod
    async def cut(self, time: BatchTime) -> BatchInput:
        """Freeze what belongs to the batch ``time``: everything ready now, within the limits."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """Take no new data; what was taken can still be cut. Bounded in time; may be called twice."""

    async def aclose(self) -> None:  # noqa: B027 - most sources hold nothing more
        """Free everything, after :meth:`stop`."""

    @property
    @abc.abstractmethod
    def finished(self) -> bool:
        """True when nothing will ever come again and all was cut."""

    @property
    @abc.abstractmethod
    def pending(self) -> bool:
        """True when :meth:`cut` would give data now."""

    @abc.abstractmethod
    def info(self) -> ReceiverInfo:
        """Statistics of this moment."""

    def set_rate(self, rate: float | None) -> None:  # noqa: B027 - a hook, by default no limit
        """Take at most ``rate`` records a second from now on; None for no limit."""

    async def on_commit(self, time: BatchTime) -> None:  # noqa: B027 - a hook
        """Batch ``time`` is committed: acknowledge to the outside what it held."""


class ReplayableSource(Source):
    """Can be read again from a position; exactly-once input."""

    @abc.abstractmethod
    def restore(self, position: Any) -> None:
        """Go on after the position of a batch, which may have been through JSON; before :meth:`start`."""

    def advance(self, change: Any) -> None:
        """Go on after one more ``position_change``, which may have been through JSON, as :meth:`restore`."""
        raise NotImplementedError(f"{type(self).__name__} gives position changes and does not take them")

    async def recompute(self, recipe: Any) -> BatchInput:
        """The content of a batch of an earlier run again, from its ``recipe``, which may have been
        through JSON; after :meth:`start`, before the first cut. Raises SourceError when it is gone."""
        raise NotImplementedError(f"{type(self).__name__} gives recipes and does not take them")


class ReceiverSource(Source):
    """Is handed records by the outside; what was not committed is lost with the driver, unless logged."""

    paced = True


class EphemeralSource(Source):
    """Lives in this process; dies with it."""
