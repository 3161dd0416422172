"""A seat in a group by aiokafka's public consumer, for versions of it that are not known: eager only."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from .group_seat import CLOSE_TIMEOUT_S, GroupSeat, assignors, closing_quietly
from .partition_queue import Place
from .subscription import Subscription

__all__ = ["PublicSeat"]

_POLL_MS = 500


class PublicSeat(GroupSeat):
    """See :class:`.group_seat.GroupSeat`; the consumer fetches nothing here."""

    _consumer: Any = None

    async def start(self, subscription: Subscription) -> None:
        known = assignors()
        self._consumer = AIOKafkaConsumer(
            **await self._client_options(),
            **self._coordinator_options(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # of a position that nobody uses
            partition_assignment_strategy=tuple(known[name] for name in self._strategies),
            max_poll_interval_ms=2**31 - 1,
            fetch_max_bytes=1,
            max_partition_fetch_bytes=1,
        )
        await self._consumer.start()
        listener = _Listener(self)
        if subscription.pattern is not None:
            self._consumer.subscribe(pattern=f"(?:{subscription.pattern.pattern})\\Z", listener=listener)
        else:
            self._consumer.subscribe(topics=sorted(subscription.names or ()), listener=listener)

    @property
    def owned(self) -> Collection[Place]:
        return _places(self._consumer.assignment()) if self._consumer is not None else ()

    async def check(self) -> None:
        """The consumer tells of failures to those only who ask it for records."""
        await self._consumer.getmany(timeout_ms=_POLL_MS)

    async def committed(self, places: Collection[Place]) -> dict[Place, int]:
        ordered = sorted(places)
        answers = await asyncio.gather(*(self._consumer.committed(TopicPartition(*one)) for one in ordered))
        return {
            place: offset
            for place, offset in zip(ordered, answers, strict=True)
            if offset is not None and offset >= 0
        }

    async def commit(self, offsets: Mapping[Place, int]) -> None:
        await self._consumer.commit({TopicPartition(*place): at for place, at in offsets.items()})

    async def aclose(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        with closing_quietly():
            await asyncio.wait_for(consumer.stop(), CLOSE_TIMEOUT_S)
            return
        with closing_quietly():
            await asyncio.wait_for(consumer._client.close(), CLOSE_TIMEOUT_S)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, seat: PublicSeat) -> None:
        self._seat = seat

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        """The group waits for the end of this, heartbeats go on."""
        if revoked:
            await self._seat._events.revoked(_places(revoked))

    async def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """The consumer itself must not fetch: others do, from where they seek to."""
        if assigned:
            self._seat._consumer.pause(*assigned)
        self._seat._events.assigned(_places(assigned))


def _places(partitions: Collection[Any]) -> set[Place]:
    return {(one.topic, one.partition) for one in partitions}
