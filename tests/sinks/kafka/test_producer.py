"""How writers of one producer wait for each other."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from aiostream_engine.config import RetryPolicy
from aiostream_engine.kafka.packing import PackedBatch
from aiostream_engine.kafka.settings import KafkaSettings
from aiostream_engine.sinks.kafka.producer import BatchProducer

Place = tuple[str, int]


class Client:
    """Takes batches when told to, and notes who stands at the door of a partition."""

    def __init__(self) -> None:
        self.waiting: Counter[Place] = Counter()
        self.most: Counter[Place] = Counter()
        self.together: set[frozenset[Place]] = set()
        self.taken: list[tuple[Place, int]] = []
        self.room = asyncio.Event()

    async def send_batch(self, builder: Any, topic: str, *, partition: int) -> asyncio.Future[None]:
        place = topic, partition
        self.waiting[place] += 1
        self.most[place] = max(self.most[place], self.waiting[place])
        self.together.add(frozenset(+self.waiting))
        await self.room.wait()
        await asyncio.sleep(0)
        self.waiting[place] -= 1
        self.taken.append((place, builder.record_count()))
        future = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


def batch(partition: int, number: int) -> PackedBatch:
    return PackedBatch("topic", partition, number, bytearray(100))


async def test_one_writer_at_a_time_waits_for_room_in_a_partition_and_they_take_turns() -> None:
    """All at once would each be woken by the client at each batch, and lose their time-outs by that."""
    options = {"delivery_timeout_s": 30.0, "in_flight_bytes_max": 10**6, "retry": RetryPolicy()}
    producer = BatchProducer(KafkaSettings("127.0.0.1:1"), {}, **options)
    producer._client = client = Client()  # type: ignore[assignment]
    writers = [asyncio.ensure_future(producer.send([batch(0, n)])) for n in range(1, 21)]
    writers.append(asyncio.ensure_future(producer.send([batch(1, 21)])))
    async with asyncio.timeout(30):
        while len(+client.waiting) < 2:
            await asyncio.sleep(0)
        client.room.set()
        await asyncio.gather(*writers)
    assert client.most == {("topic", 0): 1, ("topic", 1): 1}
    assert frozenset({("topic", 0), ("topic", 1)}) in client.together  # of two partitions nobody waits
    assert [number for place, number in client.taken if place == ("topic", 0)] == list(range(1, 21))
