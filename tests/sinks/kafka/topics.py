"""What is in topics of a real broker, and streams that write to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from aiostream_engine.context import StreamingContext
from aiostream_engine.sinks.base import SinkContext, WriteKey
from aiostream_engine.sinks.kafka import KafkaSink
from aiostream_engine.types import BatchTime

DEADLINE_S = 30.0


@asynccontextmanager
async def reading(bootstrap: str, topic: str, partitions: int = 1) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of committed records, from the beginning."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
        yield consumer
    finally:
        await consumer.stop()


async def committed(bootstrap: str, topic: str, count: int, partitions: int = 1) -> list[Any]:
    """Wait for so many committed records, and a moment more for what must not be there."""
    found: list[Any] = []
    async with reading(bootstrap, topic, partitions) as consumer, asyncio.timeout(DEADLINE_S):
        while len(found) < count:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
        for records in (await consumer.getmany(timeout_ms=500)).values():
            found += records
    return found


async def write(sink: KafkaSink, records: Iterable[Any], *, batch: int = 1) -> None:
    """Encode, pack and write records as a stream would do, without workers."""
    encoded = [sink.encoding.encode(record) for record in records] if sink.encoding else records

    async def chunks() -> AsyncIterator[list[Any]]:
        yield list(sink.packer()(iter(encoded)))

    await sink.write(WriteKey(sink.name, batch, BatchTime(batch * 1000), 0, 1), chunks())


@asynccontextmanager
async def opened(sink: KafkaSink) -> AsyncIterator[KafkaSink]:
    """The sink, open."""
    await sink.open(SinkContext(sink.name))
    try:
        yield sink
    finally:
        await sink.aclose()


async def run(records: list[list[Any]], sink: KafkaSink, **options: Any) -> None:
    """A stream of these batches into the sink, until all are written."""
    async with StreamingContext(0.02, "local", **options) as ssc:
        ssc.queue_stream(records, name="given").to(sink, name="out")
        await ssc.start()
        await ssc.stop(timeout_s=DEADLINE_S)
        await ssc.await_termination()
