"""The raw lane: fetch requests whose bytes become blocks as they are.

Only headers of record batches are looked at on the loop. For each broker one fetch is under way at
a time; while it is, what the one before brought is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import AIOKafkaClient, TopicPartition
from aiokafka.client import ConnectionGroup
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    LeaderNotAvailableError,
    RequestTimedOutError,
    for_code,
)
from aiokafka.protocol.offset import OffsetRequest

from ...errors import AiostreamError, CorruptionError, SourceError, StorageError
from ...kafka.decoding import BATCHES
from ...kafka.record_batch import Piece, slice_batches
from ..receiver import cancel_and_wait
from .lane import Lane, Topic
from .partition_queue import PartitionQueue, Place
from .wire import NO_ID, FetchAnswer, FetchByIdOrName, FetchedPartition, NamedTopics, WantedPartition

__all__ = ["RawLane"]

_log = logging.getLogger("aiostream_engine.kafka")

_OFFSET_OUT_OF_RANGE = 1
_CODES_OF_CHANGE = frozenset((3, 5, 6, 9, 56, 74, 75, 78, 100, 103))  # leaders, topics: ask again
_CODES_FATAL = frozenset((29, 30, 31, 35, 76, 87))  # authorisation, unsupported versions and codecs
_BACKOFF_S_MAX = 2.0
_PARTIAL_WAIT_MS = 50
_FIT_BYTES_MIN = 64 * 1024
_FIT_SHRINK, _FIT_GROWTH = 8, 8  # after an answer that came too late an eighth, after others an eighth more


class RawLane(Lane):
    """Speaks to brokers through aiokafka's client, whose connections, security and metadata it uses."""

    kind = "raw"
    form = BATCHES

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._client: Any = None
        self._leaders: dict[Place, int] = {}
        self._ids: dict[bytes, str] = {}
        self._fetchers: dict[int, asyncio.Task[None]] = {}
        self._work = asyncio.Event()
        self._resting: dict[PartitionQueue, float] = {}
        self._turn = 0
        self._fits: dict[int, int] = {}  # by broker, where answers came too late: bytes to ask for

    @property
    def _isolation(self) -> int:
        return int(self.read_committed)

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        self._client = AIOKafkaClient(**await self.settings.client_options())
        await self._client.bootstrap()

    async def aclose(self) -> None:
        fetchers, self._fetchers = list(self._fetchers.values()), {}
        await cancel_and_wait(*fetchers)
        for queue in list(self.queues.values()):
            self.remove(queue)
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(KafkaError, OSError):
                await client.close()

    # -- what the cluster has ------------------------------------------------------------------

    async def topics(self, names: Collection[str] | None) -> dict[str, Topic]:
        try:
            answer = await self._ask(NamedTopics(None if names is None else sorted(names)))
        except NotImplementedError:  # a broker from before Kafka 3.1
            found = await self._topics_without_ids(names)
        else:
            found = self._take_topics(answer, names)
        if names is not None and found:  # of a large cluster no other topics need to be known
            self._client.set_topics(found)
        self._start_fetchers()
        return found

    def _take_topics(self, answer: Any, names: Collection[str] | None) -> dict[str, Topic]:
        found: dict[str, Topic] = {}
        for error_code, name, topic_id, is_internal, partitions, *_ in answer.topics:
            if error_code in _CODES_FATAL:
                raise for_code(error_code)(f"topic {name!r}")
            if error_code or (is_internal and names is None):
                continue
            found[name] = Topic(name, topic_id, tuple(sorted(item[1] for item in partitions)))
            self._ids[topic_id] = name
            for _, partition, leader, *_ in partitions:
                self._leaders[name, partition] = leader
        return found

    async def _topics_without_ids(self, names: Collection[str] | None) -> dict[str, Topic]:
        metadata = await self._client.fetch_all_metadata()
        known = metadata.topics(exclude_internal_topics=names is None)
        found: dict[str, Topic] = {}
        for name in known if names is None else known & set(names):
            partitions = tuple(sorted(metadata.partitions_for_topic(name) or ()))
            found[name] = Topic(name, NO_ID, partitions)
            for partition in partitions:
                leader = metadata.leader_for_partition(TopicPartition(name, partition))
                self._leaders[name, partition] = -1 if leader is None else leader
        return found

    async def _ask(self, request: NamedTopics) -> Any:
        """Ask any broker that answers."""
        await self._client._maybe_wait_metadata()
        nodes = [broker.nodeId for broker in self._client.cluster.brokers()]
        failure: Exception = KafkaConnectionError("no broker is known")
        for node in nodes:
            try:
                return await self._client.send(node, request)
            except KafkaError as error:
                failure = error
        self._client.force_metadata_update()
        raise failure

    async def offsets(self, at: Mapping[Place, int]) -> dict[Place, int]:
        by_leader: dict[int, dict[str, list[tuple[int, int]]]] = {}
        for (topic, partition), when in at.items():
            leader = self._leaders.get((topic, partition), -1)
            if leader < 0:
                raise LeaderNotAvailableError(f"{topic}[{partition}]")
            by_leader.setdefault(leader, {}).setdefault(topic, []).append((partition, when))
        found: dict[Place, int] = {}
        for node, topics in by_leader.items():
            request = OffsetRequest(-1, self._isolation, list(topics.items()))
            answer = await self._client.send(node, request)
            for topic, partitions in answer.topics:
                for partition, error_code, _, offset, *_ in partitions:
                    if error_code:
                        raise for_code(error_code)(f"{topic}[{partition}]")
                    found[topic, partition] = offset
        return found

    # -- fetching ------------------------------------------------------------------------------

    def add(self, queue: PartitionQueue) -> None:
        super().add(queue)
        self._start_fetchers()

    def wake(self) -> None:
        self._work.set()

    def _start_fetchers(self) -> None:
        """One task for each broker that leads a partition of ours."""
        for place in self.queues:
            node = self._leaders.get(place, -1)
            if node >= 0 and (node not in self._fetchers or self._fetchers[node].done()):
                self._fetchers[node] = asyncio.get_running_loop().create_task(
                    self._fetch_from(node), name=f"aiostream-kafka-fetch-{node}"
                )
        self._work.set()

    async def _fetch_from(self, node: int) -> None:
        storing: asyncio.Task[None] | None = None
        failures = 0
        try:
            while self._client is not None:
                wanted, all_of_them = self._wanted(node)
                if not wanted:
                    self.failing.discard(node)  # it may lead nothing of ours any more
                    await self._wait_for_work()
                    continue
                try:
                    answer = await self._send(node, wanted, all_of_them)
                    failures = 0
                    self.failing.discard(node)
                    self._fit_larger(node)
                except (KafkaError, OSError) as error:
                    failures += 1
                    self.failing.add(node)
                    if isinstance(error, RequestTimedOutError):
                        self._fit_smaller(node)
                    await self._rest_after(error, failures)
                    continue
                admitted = self._accept(wanted, answer)
                if storing is not None:
                    await storing
                storing = asyncio.ensure_future(self._store(admitted))
        except Exception as error:  # a defect, or what the source must know: never a silent end
            self.events.error(error, True)
        finally:
            if storing is not None:
                await asyncio.wait({storing})

    async def _store(self, admitted: list[tuple[PartitionQueue, list[Piece]]]) -> None:
        try:
            await self.store(admitted)
        except StorageError as error:
            self.events.error(error, True)

    def _wanted(self, node: int) -> tuple[list[tuple[PartitionQueue, WantedPartition]], bool]:
        """What to ask the broker for, each time beginning with another partition; whether that is all."""
        now = time.monotonic()
        own = [queue for place, queue in self.queues.items() if self._leaders.get(place) == node]
        ready = [queue for queue in own if queue.wants_more and self._resting.get(queue, 0) <= now]
        if not ready:
            return [], False
        self._turn += 1
        turn = self._turn % len(ready)
        wanted = [
            (
                queue,
                WantedPartition(
                    queue.topic,
                    queue.topic_id,
                    queue.partition,
                    queue.position,
                    min(self.limits.partition_bytes_max, self._fits.get(node, 2**31 - 1)),
                ),
            )
            for queue in ready[turn:] + ready[:turn]
        ]
        return wanted, len(ready) == len(own)

    async def _wait_for_work(self) -> None:
        self._work.clear()
        now = time.monotonic()
        due = [at - now for queue, at in self._resting.items() if at > now and queue.active]
        try:
            await asyncio.wait_for(self._work.wait(), min(due, default=None) if due else None)
        except TimeoutError:
            self._resting = {queue: at for queue, at in self._resting.items() if at > time.monotonic()}

    async def _send(
        self, node: int, wanted: list[tuple[PartitionQueue, WantedPartition]], all_of_them: bool
    ) -> FetchAnswer:
        limits = self.limits
        budget = min(limits.response_bytes_max, max(1, wanted[0][0].room), self._fits.get(node, 2**31 - 1))
        request = FetchByIdOrName(
            [item for _, item in wanted],
            # A long wait for these would keep out those whose queue is emptied meanwhile.
            wait_ms=limits.wait_ms if all_of_them else min(limits.wait_ms, _PARTIAL_WAIT_MS),
            bytes_min=limits.bytes_min,
            bytes_max=budget,
            isolation=self._isolation,
        )
        # On a connection of its own: a broker answers one request a connection at a time.
        answer: FetchAnswer = await self._client.send(node, request, group=ConnectionGroup.COORDINATION)
        if answer.error_code:
            raise for_code(answer.error_code)("fetch")
        return answer

    def _fit_smaller(self, node: int) -> None:
        """An answer that does not come in time would be asked for again for ever: the next one is smaller."""
        size = self._fits.get(node, self.limits.response_bytes_max)
        self._fits[node] = max(_FIT_BYTES_MIN, size // _FIT_SHRINK)

    def _fit_larger(self, node: int) -> None:
        size = self._fits.get(node)
        if size is None:
            return
        self._fits[node] = size + size // _FIT_GROWTH
        if self._fits[node] >= self.limits.response_bytes_max:
            del self._fits[node]

    async def _rest_after(self, error: Exception, failures: int) -> None:
        self.events.error(error, False)
        if isinstance(error, RequestTimedOutError | KafkaConnectionError) or getattr(
            error, "invalid_metadata", True
        ):
            self._client.force_metadata_update()
            self.events.stale()
        backoff = self.settings.retry_backoff_ms / 1000 * 2 ** min(failures - 1, 6)
        await asyncio.sleep(min(backoff, _BACKOFF_S_MAX))

    # -- answers -------------------------------------------------------------------------------

    def _accept(
        self, wanted: list[tuple[PartitionQueue, WantedPartition]], answer: FetchAnswer
    ) -> list[tuple[PartitionQueue, list[Piece]]]:
        asked = {(item.topic, item.partition): (queue, item.offset) for queue, item in wanted}
        admitted: list[tuple[PartitionQueue, list[Piece]]] = []
        for part in answer.partitions:
            name = part.topic if isinstance(part.topic, str) else self._ids.get(part.topic, "")
            queue, offset = asked.get((name, part.partition), (None, -1))
            # It may have been told to go on elsewhere meanwhile.
            if queue is None or not queue.active or queue.position != offset or queue.blocked:
                continue
            if part.error_code:
                self._take_error(queue, part.error_code)
                continue
            queue.highwater, queue.stable = part.highwater, part.stable
            queue.log_start = part.log_start
            if part.records and (pieces := self._pieces(queue, part)):
                admitted.append((queue, queue.admit(pieces)))
        return admitted

    def _pieces(self, queue: PartitionQueue, part: FetchedPartition) -> list[Piece]:
        aborted = part.aborted if self.read_committed else ()
        try:
            pieces = slice_batches(part.records, queue.position, aborted)
        except (SourceError, CorruptionError) as error:
            self._refuse(queue, type(error)(f"{queue.topic}[{queue.partition}]: {error}"))
            return []
        if not pieces and len(part.records) >= self.limits.partition_bytes_max:
            self._refuse(queue, SourceError(f"{queue}: no whole batch in {len(part.records)} bytes"))
        return pieces

    def _refuse(self, queue: PartitionQueue, error: AiostreamError) -> None:
        queue.blocked = True
        self.events.error(error, True)

    def _take_error(self, queue: PartitionQueue, code: int) -> None:
        if code == _OFFSET_OUT_OF_RANGE:
            queue.blocked = True
            self.events.lost(queue)
            return
        error = for_code(code)(repr(queue))
        if code in _CODES_FATAL:
            queue.blocked = True
            self.events.error(SourceError(f"{queue.topic}[{queue.partition}] cannot be read: {error}"), True)
            return
        self._resting[queue] = time.monotonic() + self.settings.retry_backoff_ms / 1000
        if code in _CODES_OF_CHANGE:
            self._client.force_metadata_update()
            self.events.stale()
        self.events.error(error, False)
