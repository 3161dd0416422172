"""What tests ask of a cluster and nobody else does."""

from __future__ import annotations

from aiokafka.admin import NewPartitions
from aiokafka.errors import for_code

from aiostream_engine.kafka.admin import KafkaAdmin

__all__ = ["ClusterAdmin"]


class ClusterAdmin(KafkaAdmin):
    """Changes topics that are there, and looks at their replicas."""

    async def add_partitions(self, name: str, total: int) -> None:
        """Give a topic more partitions, up to this total; returns when they have leaders."""
        for _, code, *_ in (await self._client.create_partitions({name: NewPartitions(total)})).topic_errors:
            if code:
                raise for_code(code)(name)
        await self._until_led(name, total)

    async def replicas_in_sync(self, name: str) -> int:
        """The number of brokers that have all of a topic: of the partition that has the fewest."""
        found = (await self._client.describe_topics([name]))[0]
        return min((len(one["isr"]) for one in found["partitions"]), default=0)
