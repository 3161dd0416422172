"""Ranges of offsets read once: batches of an earlier run again, and datasets of given ranges (row KAF-12)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from aiokafka.errors import KafkaError

from ...blocks.directory import BlockDirectory
from ...errors import SourceError
from ...kafka.record import OffsetRange
from ...kafka.record_batch import Piece
from .lane import EARLIEST, LATEST, Lane, LaneEvents, Topic
from .partition_queue import Budget, PartitionQueue, Place

__all__ = ["Taken", "read_ranges"]

T = TypeVar("T")
_log = logging.getLogger("aiostream_engine.kafka")
_UNBOUNDED = 2**62
_ASK_AGAIN_S = 0.1

Taken = tuple[OffsetRange, PartitionQueue, list[Piece]]


async def read_ranges(
    make_lane: Callable[[LaneEvents], Lane],
    ranges: Sequence[OffsetRange],
    directory: BlockDirectory,
    *,
    fail_when_lost: bool,
    timeout_s: float,
) -> list[Taken]:
    """The pieces of each range, in its order; the caller holds them.

    fail_when_lost: raise SourceError when a range is not in the log any more; otherwise what is left
        of it is given, with a warning. timeout_s: how long nothing may come before it is given up.

    Raises SourceError, also for a range that ends behind the end of the log.
    """
    reading = _Reading(directory)
    lane = make_lane(
        LaneEvents(reading.note_data, reading.note_lost, reading.note_nothing, reading.note_error)
    )
    queues: list[PartitionQueue] = []
    try:
        await _patiently(lane.start, timeout_s)
        topics, present = await _patiently(lambda: _look(lane, ranges, fail_when_lost), timeout_s)
        for wanted, (start, stop) in zip(ranges, present, strict=True):
            topic = topics.get(wanted.topic)
            queue = PartitionQueue(
                wanted.topic,
                wanted.partition,
                start,
                reading.budget,
                directory,
                topic_id=topic.id if topic else bytes(16),
                stop=stop,
                form=lane.form,
            )
            queues.append(queue)
            await reading.read(lane, queue, timeout_s)
        return [
            (wanted, queue, queue.take(queue.ready)) for wanted, queue in zip(ranges, queues, strict=True)
        ]
    except BaseException as error:
        for queue in queues:
            queue.clear()
        if not isinstance(error, KafkaError):
            raise
        raise SourceError(f"cannot read ranges of Kafka at {lane.settings.bootstrap}: {error!r}") from error
    finally:
        await lane.aclose()


async def _patiently(call: Callable[[], Awaitable[T]], timeout_s: float) -> T:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        try:
            return await call()
        except KafkaError as error:
            if not error.retriable or loop.time() >= deadline:
                raise
        await asyncio.sleep(_ASK_AGAIN_S)


async def _look(
    lane: Lane, ranges: Sequence[OffsetRange], fail_when_lost: bool
) -> tuple[dict[str, Topic], list[tuple[int, int]]]:
    """The topics and what they hold of the ranges; asked again together, since leaders may move."""
    topics = await lane.topics(sorted({one.topic for one in ranges}))
    return topics, await _present(lane, ranges, fail_when_lost)


async def _present(lane: Lane, ranges: Sequence[OffsetRange], fail_when_lost: bool) -> list[tuple[int, int]]:
    """What of each range the log holds."""
    places = [(one.topic, one.partition) for one in ranges]
    firsts = await lane.offsets(dict.fromkeys(places, EARLIEST))
    ends = await lane.offsets(dict.fromkeys(places, LATEST))
    return [_part(one, firsts, ends, fail_when_lost) for one in ranges]


def _part(
    wanted: OffsetRange, firsts: Mapping[Place, int], ends: Mapping[Place, int], fail_when_lost: bool
) -> tuple[int, int]:
    first, end = firsts[wanted.topic, wanted.partition], ends[wanted.topic, wanted.partition]
    if first <= wanted.start and wanted.stop <= end:
        return wanted.start, wanted.stop
    what = (
        f"offsets {wanted.start} to {wanted.stop} of {wanted.topic}[{wanted.partition}] are not all in its "
        f"log, which holds {first} to {end}"
    )
    if fail_when_lost:
        raise SourceError(what)
    _log.warning("%s: the rest of them is lost", what)
    start = min(max(wanted.start, first), wanted.stop)
    return start, max(start, min(wanted.stop, end))


class _Reading:
    """Waits for queues to be filled."""

    def __init__(self, directory: BlockDirectory) -> None:
        self.budget = Budget(_UNBOUNDED)
        self._came = asyncio.Event()
        self._failure: Exception | None = None

    def note_data(self) -> None:
        self._came.set()

    def note_lost(self, queue: PartitionQueue) -> None:
        self.note_error(SourceError(f"{queue}: its offset is not in the log any more"), True)

    def note_nothing(self) -> None:
        return

    def note_error(self, error: Exception, fatal: bool) -> None:
        if fatal:
            self._failure = error
            self._came.set()

    async def read(self, lane: Lane, queue: PartitionQueue, timeout_s: float) -> None:
        """Return when the queue holds all up to its stop."""
        lane.add(queue)
        try:
            while queue.stop is not None and queue.ready < queue.stop:
                self._came.clear()
                await asyncio.wait_for(self._came.wait(), timeout_s)
                if self._failure is not None:
                    raise self._failure
        except TimeoutError:
            raise SourceError(f"nothing came of {queue} for {timeout_s} s") from None
        finally:
            lane.queues.pop(queue.place, None)
