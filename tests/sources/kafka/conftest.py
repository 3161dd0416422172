"""Streams over a real broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from aiostream_engine.testing.kafka_broker import LocalKafka

Produce = Callable[..., Awaitable[None]]


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
    bootstrap: str, topic: str, values: Iterable[bytes | None], *, partition: int | None = 0, **options: Any
) -> None:
    """Write values to a partition, or by their key (the value itself) when it is None."""
    async with producer(bootstrap, linger_ms=5, **options) as made:
        sent = [
            await made.send(topic, value, key=value if partition is None else None, partition=partition)
            for value in values
        ]
        for future in sent:
            await future


@pytest.fixture(params=["raw", "client"])
def lane(request: pytest.FixtureRequest) -> str:
    """Both ways to read must do the same."""
    return str(request.param)


__all__ = ["LocalKafka", "lane", "producer", "send"]
