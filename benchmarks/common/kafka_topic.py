"""A broker of the benchmark's own, with a topic of 100-byte values in it."""

from __future__ import annotations

import asyncio
import atexit
import sys

from aiokafka import AIOKafkaProducer

from aiostream_engine.kafka.admin import KafkaAdmin
from aiostream_engine.kafka.settings import KafkaSettings
from aiostream_engine.testing.kafka_broker import LocalKafka

__all__ = ["PARTITIONS", "VALUE_BYTES", "broker_with_topics"]

PARTITIONS = 4
VALUE_BYTES = 100
BATCH_BYTES = 16_384  # the default of Kafka's own producer


def broker_with_topics(sizes: dict[str, int]) -> LocalKafka:
    """A broker that dies with this process; ``sizes`` are records by topic, spread over the partitions."""
    broker = LocalKafka().start()
    atexit.register(broker.close)
    for topic, records in sizes.items():
        print(f"  filling topic {topic} with {records} records …", file=sys.stderr, flush=True)
        asyncio.run(_fill(broker.bootstrap, topic, records))
    return broker


async def _fill(bootstrap: str, topic: str, records: int) -> None:
    async with KafkaAdmin(KafkaSettings(bootstrap)) as admin:
        await admin.create_topic(topic, PARTITIONS)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=BATCH_BYTES, acks=1)
    await producer.start()
    try:
        await asyncio.gather(
            *(
                _fill_partition(producer, topic, partition, records // PARTITIONS)
                for partition in range(PARTITIONS)
            )
        )
    finally:
        await producer.stop()


async def _fill_partition(producer: AIOKafkaProducer, topic: str, partition: int, records: int) -> None:
    value = b"v" * VALUE_BYTES
    waiting = []
    done = 0
    while done < records:
        batch = producer.create_batch()
        while done < records and batch.append(key=None, value=value, timestamp=None) is not None:
            done += 1
        waiting.append(await producer.send_batch(batch, topic, partition=partition))
        if len(waiting) >= 64:
            await asyncio.gather(*waiting)
            waiting.clear()
    await asyncio.gather(*waiting)
