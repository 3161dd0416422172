"""How old counts are when they can be read, at shares of the rate at which a program drains a backlog.

The load and its probes come from this process, which reads the counts as well: what it takes of the two
cores, the program has less than when its maximum was measured.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from aiostream_engine.kafka.murmur2 import partition_of
from common.kafka_words import PARTITIONS, WORDS, make_topic, read_counts
from common.program import parameters, report, stopwatch
from common.ready_program import ready_program
from common.statistics import percentile

given = parameters()
SLOT_S = 0.005
WARM_UP_S = 2.0
SHARES = (25, 50, 75)


class Lane:
    """The words of one partition, in the order in which they are sent, and its probes."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        words = [f"word{number}" for number in range(WORDS)]
        own = [word for word in words if partition_of(word.encode(), PARTITIONS) == partition]
        weights = [1 / (int(word[4:]) + 1) for word in own]
        chosen = random.Random(partition).choices(own, weights, k=5000)
        self._records = [(word.encode(), json.dumps({"word": word}).encode()) for word in chosen]
        self._next = 0
        self._probe = 0

    def batch(self, producer: AIOKafkaProducer, records: int, sent: dict[bytes, float]) -> Any:
        """The load of a slot, and one probe after it."""
        batch = producer.create_batch()
        for _ in range(records):
            key, value = self._records[self._next % len(self._records)]
            self._next += 1
            assert batch.append(key=key, value=value, timestamp=None) is not None
        self._probe += 1
        name = f"probe-{self.partition}-{self._probe}"
        key, value = name.encode(), json.dumps({"word": name}).encode()
        sent[key] = time.perf_counter()
        assert batch.append(key=key, value=value, timestamp=None) is not None
        return batch


async def feed(topic: str, rate: float, seconds: float, sent: dict[bytes, float]) -> None:
    """Send a load with probes: to one partition in each slot, in turn."""
    lanes = [Lane(number) for number in range(PARTITIONS)]
    async with AIOKafkaProducer(bootstrap_servers=given["bootstrap"], max_batch_size=2**20) as producer:
        started, done = time.perf_counter(), 0
        for slot in range(int(seconds / SLOT_S)):
            await asyncio.sleep(max(0.0, started + slot * SLOT_S - time.perf_counter()))
            due = int(rate * (slot + 1) * SLOT_S) - done
            done += due
            lane = lanes[slot % PARTITIONS]
            batch = lane.batch(producer, due, sent)
            await producer.send_batch(batch, topic, partition=lane.partition)
        await producer.flush()


async def ages(topic: str, target: str, rate: float, seconds: float) -> list[float]:
    """Of the probes after a time of warming up, from when they are sent until their count is here."""
    sent: dict[bytes, float] = {}
    found: list[float] = []
    consumer = AIOKafkaConsumer(bootstrap_servers=given["bootstrap"], auto_offset_reset="earliest")
    async with consumer, asyncio.timeout(given["timeout_s"]):
        consumer.assign([TopicPartition(target, number) for number in range(PARTITIONS)])
        feeding = asyncio.create_task(feed(topic, rate, WARM_UP_S + seconds, sent))
        begin = time.perf_counter() + WARM_UP_S
        while sent or not feeding.done():
            fetched = await consumer.getmany(timeout_ms=100)
            now = time.perf_counter()
            for records in fetched.values():
                for record in records:
                    if record.key.startswith(b"probe") and (at := sent.pop(record.key)) >= begin:
                        found.append(now - at)
        await feeding
    return found


def run(topic: str, target: str) -> Any:
    asyncio.run(make_topic(given["bootstrap"], target))
    return ready_program(given["interpreter"], given["program"], {**given, "topic": topic, "target": target})


def main() -> None:
    mark = uuid.uuid4().hex[:8]
    target = f"max-{mark}"
    with run(given["topic"], target):
        started = stopwatch()
        digest, ended = asyncio.run(
            read_counts(given["bootstrap"], target, given["records"], given["timeout_s"])
        )
        rate = given["records"] / (ended - started)
    metrics = {"records_per_s": rate}
    for share in SHARES:
        topic, target = f"load-{mark}-{share}", f"aged-{mark}-{share}"
        asyncio.run(make_topic(given["bootstrap"], topic))
        with run(topic, target):
            found = asyncio.run(ages(topic, target, rate * share / 100, given["seconds"]))
        metrics[f"p50_{share}_ms"] = percentile(found, 50) * 1000
        metrics[f"p99_{share}_ms"] = percentile(found, 99) * 1000
    report(answer=digest, version=given["version"], metrics=metrics)


main()
