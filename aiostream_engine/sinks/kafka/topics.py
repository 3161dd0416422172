"""How many partitions the topics of a sink have, looked up before batches are packed for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ...errors import SinkError
from ...kafka.admin import KafkaAdmin
from ...kafka.settings import KafkaSettings

__all__ = ["Topics"]


class Topics:
    """The topics that a sink writes to.

    create_partitions: a topic that is missing is made with so many; None refuses it.
    create_replicas: of such a topic.
    """

    def __init__(self, settings: KafkaSettings, create_partitions: int | None, create_replicas: int) -> None:
        self._settings = settings
        self._create_partitions = create_partitions
        self._create_replicas = create_replicas
        self.partitions: dict[str, int] = {}

    async def learn(self, names: Iterable[str]) -> None:
        """Look topics up, and make those that are missing if that is wanted. Raises SinkError."""
        wanted = [name for name in dict.fromkeys(names) if name not in self.partitions]
        if not wanted:
            return
        try:
            async with KafkaAdmin(self._settings) as admin:
                there = await admin.topics()
                for name in wanted:
                    self.partitions[name] = there.get(name) or await self._create(admin, name)
        except KafkaError as error:
            raise SinkError(f"cannot look up topics {', '.join(wanted)}: {error!r}") from error

    async def _create(self, admin: KafkaAdmin, name: str) -> int:
        if self._create_partitions is None:
            raise SinkError(
                f"topic {name!r} does not exist: create it, or let the sink do so with create_partitions="
            )
        await admin.create_topic(name, self._create_partitions, replicas=self._create_replicas)
        return self._create_partitions

    def refresh(self, producer: AIOKafkaProducer) -> bool:
        """Take over what the producer knows by now of partitions that were added; True for a change."""
        changed = False
        known: Callable[[str], set[int] | None] = producer.client.cluster.partitions_for_topic
        for name, count in self.partitions.items():
            now = len(known(name) or ())
            if now > count:
                self.partitions[name] = now
                changed = True
        return changed
