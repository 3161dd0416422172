"""How old counts are when they can be read, at shares of the rate at which a program drains a backlog.

The load and its probes come from this process, which reads the counts as well: what it takes of the two
cores, the program has less than when its maximum was measured. So it sends batches that are built in C, and
looks for the probes in the bytes of the answers.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import time
import uuid
from contextlib import aclosing
from itertools import repeat
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from aiostream_engine.kafka.murmur2 import partition_of
from aiostream_engine.kafka.packing import PackedBatch
from aiostream_engine.sinks.kafka.lean_request import send_lean
from aiostream_engine.sinks.kafka.ready_batch import as_builder
from common.kafka_raw_read import read
from common.kafka_words import PARTITIONS, WORDS, make_topic, read_counts
from common.program import parameters, report, stopwatch
from common.ready_program import ready_program
from common.statistics import percentile

given = parameters()
SLOT_S = 0.005
WARM_UP_S = 2.0
SHARES = (25, 50, 75)
PROBE = re.compile(rb"probe-[0-9]+-[0-9]+")


class Lane:
    """The words of one partition, in the order in which they are sent, and its probes."""

    def __init__(self, topic: str, partition: int) -> None:
        self._topic, self._partition = topic, partition
        words = [f"word{number}" for number in range(WORDS)]
        own = [word for word in words if partition_of(word.encode(), PARTITIONS) == partition]
        weights = [1 / (int(word[4:]) + 1) for word in own]
        chosen = random.Random(partition).choices(own, weights, k=5000)
        self._keys = itertools.cycle([word.encode() for word in chosen])
        self._values = itertools.cycle([json.dumps({"word": word}).encode() for word in chosen])
        self._probe = 0

    def batch(self, records: int, sent: dict[bytes, float]) -> PackedBatch:
        """The load of a slot, and one probe after it."""
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 2**20)
        now = int(time.time() * 1000)
        columns = range(records), repeat(now), self._keys, self._values, repeat([])
        assert all(map(builder.append, *columns))
        self._probe += 1
        name = f"probe-{self._partition}-{self._probe}"
        key, value = name.encode(), json.dumps({"word": name}).encode()
        sent[key] = time.perf_counter()
        assert builder.append(records, now, key, value, []) is not None
        return PackedBatch(self._topic, self._partition, records + 1, builder.build())


async def feed(topic: str, rate: float, seconds: float, sent: dict[bytes, float]) -> None:
    """Send a load with probes: to one partition in each slot, in turn."""
    lanes = [Lane(topic, number) for number in range(PARTITIONS)]
    producer = AIOKafkaProducer(bootstrap_servers=given["bootstrap"], max_batch_size=2**20)
    send_lean(producer)
    async with producer:
        started, done = time.perf_counter(), 0
        for slot in range(int(seconds / SLOT_S)):
            await asyncio.sleep(max(0.0, started + slot * SLOT_S - time.perf_counter()))
            due = int(rate * (slot + 1) * SLOT_S) - done
            done += due
            batch = lanes[slot % PARTITIONS].batch(due, sent)
            await producer.send_batch(as_builder(producer, batch), topic, partition=batch.partition)
        await producer.flush()


async def ages(topic: str, target: str, rate: float, seconds: float) -> list[float]:
    """Of the probes after a time of warming up, from when they are sent until their count is here."""
    sent: dict[bytes, float] = {}
    found: list[float] = []
    async with asyncio.timeout(given["timeout_s"]):
        feeding = asyncio.create_task(feed(topic, rate, WARM_UP_S + seconds, sent))
        begin = time.perf_counter() + WARM_UP_S
        async with aclosing(read(given["bootstrap"], target)) as responses:
            async for records in responses:
                now = time.perf_counter()
                # In key and value, uncompressed. To decode all to find these would take half a core.
                for name in set(PROBE.findall(records)):
                    if (at := sent.pop(name, 0.0)) >= begin:
                        found.append(now - at)
                if feeding.done() and not sent:
                    break
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
