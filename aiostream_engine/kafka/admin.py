"""Topics and groups of a cluster: what the command line and tests ask and change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from .settings import KafkaSettings

__all__ = ["KafkaAdmin"]

TOPIC_TIMEOUT_S = 30.0
BOUNDS_TIMEOUT_S = 5.0


class KafkaAdmin:
    """Creates, deletes and describes topics; an async context manager.

    Errors of Kafka are raised as aiokafka's exceptions.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: Any = None

    async def __aenter__(self) -> KafkaAdmin:
        self._client = AIOKafkaAdminClient(**await self._settings.client_options())
        try:
            await self._client.start()
        except BaseException:
            await self._client.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.close()

    async def create_topic(
        self,
        name: str,
        partitions: int = 1,
        *,
        replicas: int = 1,
        configs: Mapping[str, Any] | None = None,
    ) -> None:
        """Create a topic and wait until brokers know the leaders of its partitions."""
        texts = {key: str(value) for key, value in (configs or {}).items()}
        topic = NewTopic(name, partitions, replicas, topic_configs=texts)
        _check((await self._client.create_topics([topic])).topic_errors)
        await self._until_led(name, partitions)

    async def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until it is no longer known."""
        _check((await self._client.delete_topics([name])).topic_error_codes)
        async with asyncio.timeout(TOPIC_TIMEOUT_S):
            while name in await self.topics():
                await asyncio.sleep(0.02)

    async def _until_led(self, name: str, partitions: int) -> None:
        async with asyncio.timeout(TOPIC_TIMEOUT_S):
            while True:
                found = (await self._client.describe_topics([name]))[0]
                led = [p for p in found["partitions"] if p["leader"] >= 0]
                if len(led) >= partitions:
                    return
                await asyncio.sleep(0.02)

    async def topics(self) -> dict[str, int]:
        """Number of partitions by topic; without Kafka's internal topics."""
        found = await self._client.describe_topics()
        return {one["topic"]: len(one["partitions"]) for one in found if not one["is_internal"]}

    async def bounds(self, topics: Iterable[str]) -> dict[tuple[str, int], tuple[int, int]]:
        """First offset that is there and next one to be written, by topic and partition.

        Topics that do not answer in ``BOUNDS_TIMEOUT_S`` are left out: one that is being deleted, or
        has lost its brokers, keeps nobody from seeing the others.
        """
        counts = await self.topics()
        places = {
            name: [TopicPartition(name, n) for n in range(counts[name])] for name in topics if name in counts
        }
        if not places:
            return {}
        consumer = AIOKafkaConsumer(**await self._settings.client_options(), group_id=None)
        async with consumer:
            answers = await asyncio.gather(*(_bounds(consumer, one) for one in places.values()))
        return {place: bounds for answer in answers for place, bounds in answer.items()}

    async def committed(self, group: str) -> dict[tuple[str, int], int]:
        """Offsets that a consumer group committed, by topic and partition."""
        found = await self._client.list_consumer_group_offsets(group)
        return {(p.topic, p.partition): entry.offset for p, entry in found.items() if entry.offset >= 0}


async def _bounds(consumer: Any, partitions: list[Any]) -> dict[tuple[str, int], tuple[int, int]]:
    try:
        async with asyncio.timeout(BOUNDS_TIMEOUT_S):
            first = await consumer.beginning_offsets(partitions)
            end = await consumer.end_offsets(partitions)
    except (TimeoutError, KafkaError):
        return {}
    return {(p.topic, p.partition): (first[p], end[p]) for p in partitions}


def _check(errors: Any) -> None:
    for name, code, *message in errors:
        if code:
            raise for_code(code)(f"{name}: {message[0] if message and message[0] else 'refused'}")
