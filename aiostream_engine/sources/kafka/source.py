"""The direct source: batches are ranges of offsets, fetched ahead and closed at the cut (KAF-1 … KAF-14)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Unpack

from aiokafka.errors import KafkaError

from ...config import QueueLimits
from ...errors import AiostreamError, LifecycleError, OptionError, SourceError
from ...kafka.decoding import FORMAT
from ...kafka.record import OffsetRange
from ...kafka.serde import Deserializer
from ...kafka.settings import ConnectionOptions, KafkaSettings
from ...observe.events import ReceiverInfo
from ...observe.logs import RateLimiter, StructuredLogger
from ...types import BatchTime
from ..base import BatchInput, ReplayableSource, SourceContext
from ..receiver import cancel_and_wait
from .assignment import Assignment, OnLostOffsets, Positions
from .contents import content_of
from .lane import FetchLimits, Lane, LaneEvents, LaneKind, make_lane
from .lane_start import started_lane
from .offset_commits import GroupOffsets, OffsetCommits
from .pace import Pace
from .partition_queue import Budget, PartitionQueue, Place
from .ranges import Taken, read_ranges
from .record_form import Projection, RecordForm
from .subscription import StartAt, StopAt, Subscription, read_bound

__all__ = ["Isolation", "KafkaSource"]

_log = logging.getLogger("aiostream_engine.kafka")

Isolation = Literal["read_committed", "read_uncommitted"]
_CHANGE_PAUSE_S = 0.2  # between two looks at the cluster that errors ask for


class KafkaSource(ReplayableSource):
    """Records of topics, each range of offsets once, decoded in the workers.

    The engine keeps the offsets, Kafka keeps the records: with a checkpoint directory a batch that was
    begun is fetched again, with the same ranges. There is no group membership here: partitions are
    assigned, all of them to this stream.

    Order: records of a partition come in its order; a batch has one RDD partition for each Kafka
    partition with records in it. Records are fetched ahead up to the bound of the queue, so that
    cutting a batch only closes ranges.

    Parameters
    ----------
    bootstrap: ``host:port`` of brokers, settings, or a mapping with Kafka's names; see
        :class:`~aiostream_engine.kafka.settings.KafkaSettings`.
    topics, pattern, partitions: one of: names, a regular expression that fits whole names, or
        (topic, number) pairs. Topics must exist at start; of a pattern none need to.
    start: where to begin without a checkpoint: ``earliest``, ``latest``, a datetime with a time zone,
        ``committed`` (offsets of ``group``, else the earliest), or {(topic, number): any of these or an
        offset}. Partitions that appear later are read from their earliest record.
    stop: where to end, in the same words; the stream then finishes. None for never.
    projection: what a record is: ``record`` a :class:`KafkaRecord`, ``pair`` (key, value), ``value``
        alone, the fastest; or a function of a KafkaRecord.
    key, value: how these are decoded: a name of :mod:`aiostream_engine.kafka.serde` or a function of
        bytes. Kafka's null stays None.
    isolation: ``read_committed`` leaves out what transactions did not commit, and stops before those
        that are not over; ``read_uncommitted`` reads all.
    group: a consumer group whose offsets are set after each committed batch, for tools that show lag.
    on_lost_offsets: when offsets to be read are not in the log any more, or the topic was deleted and
        made again: ``fail`` the stream, or go on at the ``earliest`` or ``latest``, which is logged and
        counted (``offsets_lost``, ``topics_recreated``).
    min_partitions: at least so many RDD partitions a batch, by splitting large ranges.
    rate_max, rate_min: records a second of each partition, at most and at least.
    limits: bounds of what is fetched ahead, by default those of the context.
    fetch: how much one fetch brings.
    lane: ``raw`` hands on the bytes as they come, ``client`` uses aiokafka's public consumer; ``auto``
        takes the raw one where this aiokafka is known to it.
    metadata_refresh_s: how often new partitions and topics are looked for.
    connect_timeout_s: how long a start may take.
    connection: further settings, by the names of :class:`~aiostream_engine.kafka.settings.KafkaSettings`.

    Raises OptionError. :meth:`start` raises SourceError when Kafka or a topic is not there.
    """

    format = FORMAT
    paced = True

    def __init__(
        self,
        bootstrap: str | Mapping[str, Any] | KafkaSettings,
        topics: str | Iterable[str] | None = None,
        *,
        pattern: str | re.Pattern[str] | None = None,
        partitions: Iterable[Place] | None = None,
        start: StartAt = "earliest",
        stop: StopAt | None = None,
        projection: Projection = "record",
        key: str | Deserializer = "bytes",
        value: str | Deserializer = "bytes",
        isolation: Isolation = "read_committed",
        group: str | None = None,
        on_lost_offsets: OnLostOffsets = "fail",
        min_partitions: int | None = None,
        rate_max: float | None = None,
        rate_min: float = 1.0,
        limits: QueueLimits | None = None,
        fetch: FetchLimits | None = None,
        lane: LaneKind = "auto",
        metadata_refresh_s: float = 10.0,
        connect_timeout_s: float = 15.0,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        self.settings = KafkaSettings.of(bootstrap, **connection)
        self.subscription = Subscription(topics, pattern, partitions)
        if isolation not in ("read_committed", "read_uncommitted"):
            raise OptionError(f"isolation {isolation!r} is not known: use read_committed or read_uncommitted")
        for name, number, least in (
            ("min_partitions", min_partitions, 1),
            ("rate_max", rate_max, 0.001),
            ("rate_min", rate_min, 0.001),
            ("metadata_refresh_s", metadata_refresh_s, 0.01),
            ("connect_timeout_s", connect_timeout_s, 0),
        ):
            if number is not None and not number >= least:
                raise OptionError(f"{name} is {number!r}: it must be at least {least}")
        if lane not in ("auto", "raw", "client"):
            raise OptionError(f"lane {lane!r} is not known: use 'auto', 'raw' or 'client'")
        self._from_group = start == "committed"
        if self._from_group and group is None:
            raise OptionError("start='committed' needs a group")
        self.name = f"kafka {self.subscription}"
        self._form = RecordForm(projection, key, value)
        self.converter = self._form.converter
        self._read_committed = isolation == "read_committed"
        self._positions = Positions()
        self.assignment = Assignment(
            self.subscription,
            read_bound("start", "earliest" if self._from_group else start),
            read_bound("stop", stop),
            on_lost_offsets,
            self._positions,
            self._fail,
        )
        self._fail_when_lost = on_lost_offsets == "fail"
        self._commits: GroupOffsets | None = OffsetCommits(self.settings, group) if group else None
        self._min_partitions = min_partitions or 0
        self._pace = Pace(rate_max, rate_min, read_committed=self._read_committed)
        self._own_limits = limits
        self._fetch_limits = fetch or FetchLimits()
        self._lane_kind = lane
        self._refresh_s = metadata_refresh_s
        self._connect_timeout_s = connect_timeout_s
        self._set_idle()

    def _set_idle(self) -> None:
        self._context: SourceContext | None = None
        self.lane: Lane | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stale = asyncio.Event()
        self._failure: Exception | None = None
        self._stopped = False
        self._uncommitted: deque[tuple[BatchTime, dict[Place, int]]] = deque()
        self._logs = StructuredLogger(_log, RateLimiter())
        self._totals: Counter[str] = Counter()
        self._last_error: str | None = None
        self._last_error_ms: int | None = None

    # -- the contract of a source ------------------------------------------------------------

    async def start(self, context: SourceContext) -> None:
        if self._context is not None:
            raise LifecycleError(f"{self.name} was started before: make a new source for a new context")
        self._context = context
        self.name = f"{self.name}[{context.stream_id}]"
        limits = self._own_limits or context.limits
        self._budget = Budget(limits.bytes_max)
        events = LaneEvents(context.notify, self._note_lost, self._stale.set, self._note_error)
        self.lane = await started_lane(
            lambda: self._make_lane(events), self.settings, self._connect_timeout_s
        )
        self.assignment.attach(self.lane, self._budget, context.directory, self._connect_timeout_s)
        await self.assignment.open(await self._committed())
        self._pace.start(context.clock.monotonic(), context.interval_s)
        self._spawn(self._keep_up(), "kafka topics")
        context.on_started(self.info())

    def _make_lane(self, events: LaneEvents) -> Lane:
        assert self._context is not None
        return make_lane(
            self._lane_kind,
            self.settings,
            self._fetch_limits,
            self._context.directory,
            events,
            read_committed=self._read_committed,
        )

    async def _committed(self) -> Mapping[Place, int]:
        """Offsets of the group to begin at, when that was asked for and there is no checkpoint."""
        if self._commits is None:
            return {}
        try:
            await self._commits.start()
            if not self._from_group or self._positions.offsets:
                return {}
            assert self.lane is not None
            topics = await self.lane.topics(self.subscription.names)
            return await self._commits.committed(self.subscription.select(topics))
        except KafkaError as error:
            raise SourceError(f"cannot use group {self._commits.group!r}: {error!r}") from error

    def restore(self, position: Any) -> None:
        self._positions.advance(position)

    def advance(self, change: Any) -> None:
        self._positions.advance(change)

    async def cut(self, time: BatchTime) -> BatchInput:
        if self._failure is not None:
            raise self._failure
        if self._stopped:
            return self._frozen(time, [])
        taken = []
        assert self._context is not None
        limits = self._pace.limits(self._context.clock.monotonic(), self.assignment.queues)
        for place, queue in self.assignment.queues.items():
            start, share = queue.taken, limits.get(place)
            until = queue.ready if share is None else min(queue.ready, start + share)
            if until > start:
                pieces = queue.take(until)
                taken.append((OffsetRange(*place, start, until), queue, pieces))
        assert self.lane is not None
        self.lane.wake()
        return self._frozen(time, taken)

    def _frozen(self, time: BatchTime, taken: Sequence[Taken]) -> BatchInput:
        """The content of a batch, and where the next one begins."""
        changed = {(one.topic, one.partition) for one, _, _ in taken}
        for _, queue, _ in taken:
            self._positions.offsets[queue.place] = queue.taken
        changed |= self.assignment.unwritten
        self.assignment.unwritten.clear()
        if taken and self._commits is not None:
            self._uncommitted.append((time, {queue.place: queue.taken for _, queue, _ in taken}))
        content = content_of(taken, self._form.block_args, self._min_partitions)
        self._totals["records"] += max(0, content.records)
        self._totals["bytes"] += content.bytes
        return BatchInput(
            content.blocks,
            records=content.records,
            bytes=content.bytes,
            metadata={**content.metadata, "lag": self.lag(), **self.assignment.counters},
            position=self._positions.plain,
            position_change=self._positions.plain(changed) if changed else {},
            recipe=content.recipe,
            part_sizes=content.part_sizes,
        )

    async def recompute(self, recipe: Any) -> BatchInput:
        ranges = [OffsetRange(*one) for one in recipe]
        there = [one for one in ranges if one.topic not in self.assignment.recreated]
        if len(there) < len(ranges):
            _log.warning("%s: a batch of an earlier run is repeated without topics made anew", self.name)
        return await self._read(there) if there else BatchInput(metadata={"offsets": ()})

    async def read(self, ranges: Sequence[OffsetRange], context: SourceContext) -> BatchInput:
        """The content of ranges, without a start; the caller holds its blocks. Raises SourceError."""
        self._context = context
        return await self._read(ranges)

    async def _read(self, ranges: Sequence[OffsetRange]) -> BatchInput:
        assert self._context is not None
        taken = await read_ranges(
            self._make_lane,
            ranges,
            self._context.directory,
            fail_when_lost=self._fail_when_lost,
            timeout_s=self.settings.request_timeout_ms / 1000,
        )
        return content_of(taken, self._form.block_args, self._min_partitions)

    async def on_commit(self, time: BatchTime) -> None:
        offsets: dict[Place, int] = {}
        while self._uncommitted and self._uncommitted[0][0] <= time:
            offsets |= self._uncommitted.popleft()[1]
        if offsets and self._commits is not None:
            self._commits.commit(offsets)

    async def stop(self) -> None:
        """Fetch no more; what was fetched and is in no batch is left for the next run."""
        if self._stopped:
            return
        self._stopped = True
        await cancel_and_wait(*self._tasks)
        if self.lane is not None:
            await self.lane.aclose()
            self.assignment.queues.clear()
        if self._context is not None:
            self._context.on_stopped(self.info())

    async def aclose(self) -> None:
        await self.stop()
        if self._commits is not None:
            await self._commits.aclose()

    @property
    def finished(self) -> bool:
        if self._stopped:
            return True
        queues = self.assignment.queues.values()
        return self.assignment.bounded and bool(queues) and all(queue.ended for queue in queues)

    @property
    def pending(self) -> bool:
        if self._failure is not None:
            return not self._stopped
        return any(queue.ready > queue.taken for queue in self.assignment.queues.values())

    def info(self) -> ReceiverInfo:
        started = self._context is not None
        return ReceiverInfo(
            stream_id=self._context.stream_id if self._context is not None else -1,
            name=self.name,
            active=self.lane is not None and not (self._stopped or self._failure or self.lane.failing),
            last_error=self._last_error,
            last_error_ms=self._last_error_ms,
            queue_records=sum(queue.ready - queue.taken for queue in self.assignment.queues.values()),
            queue_bytes=self._budget.bytes if started else 0,
            queue_fill=self._budget.bytes / self._budget.bytes_max if started else 0.0,
            rate_limit=self._pace.rate,
            records_total=self._totals["records"],
            bytes_total=self._totals["bytes"],
            lag=self.lag(),
            held_back=self._pace.held_back(self.assignment.queues.values()),
        )

    # -- rates -------------------------------------------------------------------------------

    def set_rate(self, rate: float | None) -> None:
        self._pace.rate = rate

    def lag(self) -> dict[str, int]:
        """Records that each partition is behind, by ``topic[number]``; offsets, where some are empty."""
        return {
            f"{topic}[{number}]": self._pace.behind(queue)
            for (topic, number), queue in self.assignment.queues.items()
        }

    # -- what happens meanwhile ----------------------------------------------------------------

    def _spawn(self, call: Any, name: str) -> None:
        task = asyncio.get_running_loop().create_task(call, name=f"{self.name} {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_up(self) -> None:
        """Look at the cluster from time to time, and when an answer says that it has changed."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stale.wait(), self._refresh_s)
            self._stale.clear()
            try:
                await self.assignment.refresh()
            except KafkaError as error:
                self._note_error(error, False)
            except AiostreamError as error:
                self._fail(error)
                return
            await asyncio.sleep(_CHANGE_PAUSE_S)

    def _note_lost(self, queue: PartitionQueue) -> None:
        self._spawn(self._decide(queue), "lost offsets")

    async def _decide(self, queue: PartitionQueue) -> None:
        try:
            await self.assignment.lose(queue)
        except AiostreamError as error:
            self._fail(error)

    def _note_error(self, error: Exception, fatal: bool) -> None:
        assert self._context is not None
        self._last_error = f"{type(error).__name__}: {error}"
        self._last_error_ms = int(self._context.clock.time() * 1000)
        self._totals["errors"] += 1
        self._logs.limited("error", logging.WARNING, "Kafka", source=self.name, error=self._last_error)
        if fatal:
            self._fail(error)
        self._context.on_error(self.info())

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
            self._last_error = f"{type(error).__name__}: {error}"
            if self._context is not None:
                self._context.notify()
