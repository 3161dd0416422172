"""Lines to and from a topic, for people who try things: no engine in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from ..errors import ConfigurationError
from .settings import KafkaSettings

__all__ = ["read_records", "send_lines"]

SENDS_IN_FLIGHT_MAX = 1000


async def send_lines(
    settings: KafkaSettings, topic: str, lines: AsyncIterable[bytes], *, key_separator: bytes | None = None
) -> int:
    """Send each line as a record and wait until all are acknowledged; gives their number.

    key_separator: what stands before its first occurrence in a line is the key.
    """
    count = 0
    async with AIOKafkaProducer(
        **await settings.client_options(), enable_idempotence=True, linger_ms=5
    ) as producer:
        await _require(producer.client, topic, wait_s=10)
        waiting: list[Any] = []
        async for line in lines:
            key, found, value = line.partition(key_separator) if key_separator else (b"", b"", line)
            waiting.append(
                await producer.send(
                    topic, value if found or not key_separator else line, key if found else None
                )
            )
            count += 1
            if len(waiting) >= SENDS_IN_FLIGHT_MAX:
                await _all(waiting)
        await _all(waiting)
    return count


async def _all(waiting: list[Any]) -> None:
    for future in waiting:
        await future
    waiting.clear()


async def read_records(
    settings: KafkaSettings, topic: str, *, from_beginning: bool = False
) -> AsyncGenerator[Any, None]:
    """aiokafka's records of a topic as they come, for ever; commits nothing and joins no group."""
    consumer = AIOKafkaConsumer(
        **await settings.client_options(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest" if from_beginning else "latest",
        isolation_level="read_committed",
    )
    async with consumer:
        await _require(consumer._client, topic, wait_s=1)
        consumer.subscribe([topic])
        async for record in consumer:
            yield record


async def _require(client: Any, topic: str, *, wait_s: float) -> None:
    """A topic that is not there is an error, not a wait of a minute.

    Asking for it by name makes a broker create it, where that is allowed; hence the wait.
    """
    end = asyncio.get_running_loop().time() + wait_s
    await client.set_topics([topic])
    while client.cluster.partitions_for_topic(topic) is None:
        if asyncio.get_running_loop().time() > end:
            raise ConfigurationError(f"there is no topic {topic!r}")
        await asyncio.sleep(0.1)
        await client.force_metadata_update()
