"""A topic of words as JSON, and what must be in the topic of their running counts."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from aiostream_engine.kafka.admin import KafkaAdmin
from aiostream_engine.kafka.murmur2 import partition_of
from aiostream_engine.kafka.settings import KafkaSettings
from common.program import digest_counts, stopwatch

__all__ = ["PARTITIONS", "fill_words", "make_topic", "read_counts"]

PARTITIONS = 4
WORDS = 2000
POLL_S = 0.01
STILL_S = 1.0


async def make_topic(bootstrap: str, name: str) -> None:
    """Create a topic."""
    async with KafkaAdmin(KafkaSettings(bootstrap)) as admin:
        await admin.create_topic(name, PARTITIONS)


async def fill_words(bootstrap: str, topic: str, records: int) -> str:
    """Write words, each to the partition of its key; gives the digest of their counts."""
    await make_topic(bootstrap, topic)
    words = [f"word{number}" for number in range(WORDS)]
    weights = [1 / (number + 1) for number in range(WORDS)]
    chosen = random.Random(5).choices(words, weights, k=records)
    lanes: dict[int, list[str]] = {}
    for word in chosen:
        lanes.setdefault(partition_of(word.encode(), PARTITIONS), []).append(word)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks=1) as producer:
        for partition, lane in lanes.items():
            await _fill_partition(producer, topic, partition, lane)
    return digest_counts(Counter(chosen))


async def _fill_partition(producer: AIOKafkaProducer, topic: str, partition: int, words: list[str]) -> None:
    done = 0
    while done < len(words):
        batch = producer.create_batch()
        while done < len(words):
            word = words[done]
            value = json.dumps({"word": word}).encode()
            if batch.append(key=word.encode(), value=value, timestamp=None) is None:
                break
            done += 1
        await producer.send_batch(batch, topic, partition=partition)
    await producer.flush()


async def read_counts(bootstrap: str, topic: str, total: int, timeout_s: float) -> tuple[str, float]:
    """Wait until the counts in a topic add up to ``total``; give their digest and when the last was there.

    Reading a record costs a consumer in Python about what it costs a contender to make it, on the same
    cores. So the end of the topic is watched, and it is read only when that stands still.
    """
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    counts: dict[str, int] = {}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    async with consumer, asyncio.timeout(timeout_s), asyncio.TaskGroup() as tasks:
        consumer.assign(partitions)
        growth: list[tuple[int, float]] = [(0, stopwatch())]
        watch = tasks.create_task(_watch(consumer, partitions, growth))
        while sum(counts.values()) < total:
            await asyncio.sleep(STILL_S / 10)
            if growth[-1][0] and stopwatch() - growth[-1][1] > STILL_S:
                await _read_to_end(consumer, partitions, counts)
        watch.cancel()
    return digest_counts(counts), growth[-1][1]


async def _watch(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition], growth: list[tuple[int, float]]
) -> None:
    """Note each time at which the topic is found longer."""
    while True:
        end = sum((await consumer.end_offsets(partitions)).values())
        if end != growth[-1][0]:
            growth.append((end, stopwatch()))
        await asyncio.sleep(POLL_S)


async def _read_to_end(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition], counts: dict[str, int]
) -> None:
    ends = await consumer.end_offsets(partitions)
    while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
        for records in (await consumer.getmany(timeout_ms=100)).values():
            for record in records:
                entry = json.loads(record.value)
                counts[entry["word"]] = max(counts.get(entry["word"], 0), entry["count"])
