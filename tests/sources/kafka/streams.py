"""Streams over a real broker, and what writes to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer

from aiostream_engine.context import StreamingContext
from aiostream_engine.dstream import DStream

DEADLINE_S = 30.0


@asynccontextmanager
async def producer(bootstrap: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer."""
    made = AIOKafkaProducer(bootstrap_servers=bootstrap, **options)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def send(
    bootstrap: str, topic: str, values: Iterable[bytes | None], *, partition: int = 0, **options: Any
) -> None:
    """Write values to a partition; returns when the broker has them."""
    async with producer(bootstrap, linger_ms=5, **options) as made:
        for future in [await made.send(topic, value, partition=partition) for value in values]:
            await future


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition, not for ever."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)


class Seen:
    """A running stream of Kafka, and the records and batches that it gave."""

    def __init__(self, ssc: StreamingContext) -> None:
        self.ssc = ssc
        self.batches: list[list[Any]] = []
        self.inputs: list[Any] = []
        self.partitions: list[int] = []

    @property
    def records(self) -> list[Any]:
        return [record for batch in self.batches for record in batch]

    async def take(self, rdd: Any, time: Any) -> None:
        found = await rdd.glom().collect()
        self.partitions.append(len(found))
        self.batches.append([record for part in found for record in part])
        self.inputs.append(self.ssc.batch_inputs()[0])

    async def count(self, number: int) -> None:
        """Wait for so many records."""
        await until(lambda: len(self.records) >= number)


@asynccontextmanager
async def streaming(
    bootstrap: str,
    topics: Any = None,
    *,
    interval: float = 0.05,
    master: str = "local",
    build: Callable[[DStream[Any]], DStream[Any]] = lambda stream: stream,
    context: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Seen]:
    """A stream that runs inside of the block."""
    async with StreamingContext(interval, master, **(context or {})) as ssc:
        seen = Seen(ssc)
        build(ssc.kafka_stream(bootstrap, topics, **options)).foreach_rdd(seen.take)
        await ssc.start()
        yield seen


async def read(bootstrap: str, topics: Any = None, **options: Any) -> Seen:
    """All that there is now, by a stream that ends."""
    options.setdefault("stop", "latest")
    async with streaming(bootstrap, topics, **options) as seen:
        async with asyncio.timeout(DEADLINE_S):
            await seen.ssc.await_termination()
    return seen


class Load:
    """Sends numbered values round the partitions until told to end; each is acknowledged once."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self._bootstrap, self._topic, self._partitions = bootstrap, topic, partitions
        self._ended = False
        self.sent = 0

    @property
    def values(self) -> set[bytes]:
        return {b"%d" % n for n in range(self.sent)}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        self._task = asyncio.ensure_future(self._send())
        try:
            yield self
        finally:
            await self.end()

    async def end(self) -> None:
        """Returns when all that was sent is acknowledged."""
        self._ended = True
        await self._task

    async def _send(self) -> None:
        options = {"enable_idempotence": True, "acks": "all", "request_timeout_ms": 60_000}
        async with producer(self._bootstrap, **options) as made:
            while not self._ended:
                sent = [
                    await made.send(self._topic, b"%d" % n, partition=n % self._partitions)
                    for n in range(self.sent, self.sent + 20)
                ]
                for future in sent:
                    await future
                self.sent += len(sent)
                await asyncio.sleep(0.02)
