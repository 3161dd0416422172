"""The other lane: the public consumer of aiokafka, where its insides are not as the raw lane knows them.

Records are objects on the loop and pickled for the workers, so that it is several times slower.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from array import array
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)

from ...errors import SourceError
from ...kafka.decoding import ROWS
from ...kafka.record_batch import Piece
from ..receiver import cancel_and_wait
from .lane import EARLIEST, LATEST, Lane, Topic
from .partition_queue import PartitionQueue, Place

__all__ = ["ClientLane"]

_RECORDS_AT_ONCE = 2000  # pickling them takes a millisecond
_NO_WORK_WAIT_S = 0.05


class ClientLane(Lane):
    """Reads by ``getmany``, which asks by name.

    That a topic was made again is seen when topics are looked at: each ``metadata_refresh_s``, and at once
    when the end of a partition is before one that was seen. Until then records of the new one may be read
    whose offsets fit.
    """

    kind = "client"
    form = ROWS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._consumer: Any = None
        self._fetcher: asyncio.Task[None] | None = None
        self._work = asyncio.Event()
        self._positions: dict[Place, int] = {}

    async def start(self) -> None:
        limits = self.limits
        self._consumer = AIOKafkaConsumer(
            **await self.settings.client_options(),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed" if self.read_committed else "read_uncommitted",
            fetch_min_bytes=limits.bytes_min,
            fetch_max_bytes=limits.response_bytes_max,
            max_partition_fetch_bytes=min(limits.partition_bytes_max, 1024 * 1024),
            fetch_max_wait_ms=limits.wait_ms,
        )
        await self._consumer.start()
        self._fetcher = asyncio.get_running_loop().create_task(self._fetch(), name="aiostream-kafka-getmany")

    async def aclose(self) -> None:
        if self._fetcher is not None:
            await cancel_and_wait(self._fetcher)
        for queue in list(self.queues.values()):
            self.remove(queue)
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(KafkaError, OSError):
                await consumer.stop()

    async def topics(self, names: Collection[str] | None) -> dict[str, Topic]:
        metadata = await self._consumer._client.fetch_all_metadata()
        known = metadata.topics(exclude_internal_topics=names is None)
        ids = await self._topic_ids(names)
        return {
            name: Topic(
                name, ids.get(name, bytes(16)), tuple(sorted(metadata.partitions_for_topic(name) or ()))
            )
            for name in (known if names is None else known & set(names))
        }

    async def _topic_ids(self, names: Collection[str] | None) -> dict[str, bytes]:
        """By a request that aiokafka does not have; none where it, or the broker, is not known to take it."""
        if not _ids_can_be_asked_for():
            return {}
        from .wire import NamedTopics

        client = self._consumer._client
        request = NamedTopics(None if names is None else sorted(names))
        try:
            answer = await client.send(client.get_random_node(), request)
        except NotImplementedError:  # a broker from before Kafka 3.1
            return {}
        return {name: topic_id for _, name, topic_id, *_ in answer.topics}

    async def offsets(self, at: Mapping[Place, int]) -> dict[Place, int]:
        places = {TopicPartition(*place): when for place, when in at.items()}
        found: dict[Any, int] = {}
        if earliest := [tp for tp, when in places.items() if when == EARLIEST]:
            found |= await self._consumer.beginning_offsets(earliest)
        if latest := [tp for tp, when in places.items() if when == LATEST]:
            found |= await self._consumer.end_offsets(latest)
        if timed := {tp: when for tp, when in places.items() if when >= 0}:
            for tp, answer in (await self._consumer.offsets_for_times(timed)).items():
                found[tp] = -1 if answer is None else answer.offset
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    def wake(self) -> None:
        self._work.set()

    # -- fetching ------------------------------------------------------------------------------

    async def _fetch(self) -> None:
        try:
            while True:
                ready = self._follow_queues()
                if not ready:
                    self._work.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._work.wait(), _NO_WORK_WAIT_S)
                    continue
                try:
                    await self._fetch_once(ready)
                    self.failing.clear()
                except OffsetOutOfRangeError as error:
                    self._lose(error)
                except (TopicAuthorizationFailedError, GroupAuthorizationFailedError) as error:
                    self.events.error(SourceError(f"Kafka refuses: {error}"), True)
                    return
                except KafkaError as error:
                    self.failing.add("consumer")
                    self.events.error(error, False)
                    self.events.stale()
                    await asyncio.sleep(self.settings.retry_backoff_ms / 1000)
        except Exception as error:
            self.events.error(error, True)

    def _follow_queues(self) -> list[PartitionQueue]:
        """Assign what there are queues for, at their positions; gives those that want more."""
        if self._positions.keys() != self.queues.keys():
            self._consumer.assign([TopicPartition(*place) for place in self.queues])
            self._positions = dict.fromkeys(self.queues, -1)
        ready = [queue for queue in self.queues.values() if queue.wants_more]
        for queue in ready:
            if self._positions[queue.place] != queue.position:
                self._consumer.seek(TopicPartition(*queue.place), queue.position)
                self._positions[queue.place] = queue.position
        return ready

    async def _fetch_once(self, ready: Sequence[PartitionQueue]) -> None:
        waiting = {TopicPartition(*queue.place): queue for queue in ready}
        wait_ms = self.limits.wait_ms if len(ready) == len(self.queues) else 50
        found = await self._consumer.getmany(
            *waiting, timeout_ms=min(wait_ms, 100), max_records=_RECORDS_AT_ONCE
        )
        admitted = []
        for place, queue in waiting.items():
            if not queue.active or self.queues.get(queue.place) is not queue:
                continue
            position = await self._consumer.position(place)
            self._note_ends(queue, place)
            if position > queue.position:
                pieces = queue.admit([_piece(queue.position, position, found.get(place, ()))])
                admitted.append((queue, pieces))
                self._positions[queue.place] = queue.position
        await self.store(admitted)

    def _note_ends(self, queue: PartitionQueue, place: Any) -> None:
        highwater = self._consumer.highwater(place)
        stable = self._consumer.last_stable_offset(place)
        if highwater is not None and highwater < queue.highwater:
            self.events.stale()  # it may be another topic of that name
        queue.highwater = -1 if highwater is None else highwater
        queue.stable = queue.highwater if stable is None or stable < 0 else stable

    def _lose(self, error: Any) -> None:
        offsets = error.args[0] if error.args and isinstance(error.args[0], Mapping) else {}
        lost = [queue for tp in offsets if (queue := self.queues.get((tp.topic, tp.partition)))]
        for queue in lost or [queue for queue in self.queues.values() if queue.wants_more]:
            queue.blocked = True
            self._positions[queue.place] = -1
            self.events.lost(queue)


@cache
def _ids_can_be_asked_for() -> bool:
    try:
        from .wire import strangeness

        return strangeness() is None
    except Exception:  # of any kind: what is not known may fail in any way
        return False


def _piece(start: int, stop: int, records: Sequence[Any]) -> Piece:
    if not records:
        return Piece(start, stop)
    rows = [(one.offset, one.timestamp, one.key, one.value, one.headers) for one in records]
    payload = pickle.dumps(rows, pickle.HIGHEST_PROTOCOL)
    data = len(payload).to_bytes(4, "big") + payload
    return Piece(
        start,
        stop,
        len(rows),
        True,
        len(data),
        views=[memoryview(data)],
        bases=array("q", [start]),
        starts=array("q", [0]),
    )
