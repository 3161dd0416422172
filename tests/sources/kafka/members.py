"""Members of a consumer group: engines, and what they have read."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiostream_engine import StreamingContext
from aiostream_engine.sources.kafka.group_membership import GroupTimes
from aiostream_engine.sources.kafka.group_source import GroupKafkaSource
from aiostream_engine.testing.kafka_broker import LocalKafka

QUICK = GroupTimes(session_s=6.0, heartbeat_s=0.2, revoke_s=10.0)
Where = tuple[str, int, int]


class Member:
    """An engine in the group, and what it has read: a list of places for each batch."""

    def __init__(self, kafka: LocalKafka, subscribe: Any, group: str, **options: Any) -> None:
        options = {"times": QUICK, "metadata_refresh_s": 0.3, **options}
        self.source = GroupKafkaSource(kafka.bootstrap, subscribe, group=group, **options)
        self.batches: list[list[Where]] = []
        self.values: list[bytes] = []
        self.seen: set[bytes] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.waits = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Member]:
        async with StreamingContext(0.05, "local") as ssc:
            self.ssc = ssc
            ssc.from_source(self.source).foreach_rdd(self._keep)
            await ssc.start()
            yield self
            await ssc.stop()

    async def _keep(self, rdd: Any) -> None:
        records = await rdd.collect()
        if records:
            self.batches.append([(one.topic, one.partition, one.offset) for one in records])
            self.values += [one.value for one in records]
            self.seen.update(one.value for one in records)
            if not self.gate.is_set():
                self.waits += 1
                await self.gate.wait()

    @property
    def places(self) -> set[tuple[str, int]]:
        return set(self.source.assignment.queues)

    @property
    def rebalances(self) -> int:
        return self.source.assignment.counters["rebalances"]


def all_of(*members: Member) -> Counter[Where]:
    return Counter(where for one in members for batch in one.batches for where in batch)
