"""A seat in a group by aiokafka's client and our own coordinator: cooperative or eager; without fetching."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import AIOKafkaClient, TopicPartition
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.structs import OffsetAndMetadata

from .group_coordinator import MemberCoordinator
from .group_seat import CLOSE_TIMEOUT_S, COOPERATIVE_STICKY, GroupSeat, assignors, closing_quietly
from .partition_queue import Place
from .subscription import Subscription

__all__ = ["OwnSeat"]

_CHECK_S = 0.2


class OwnSeat(GroupSeat):
    """See :class:`.group_seat.GroupSeat`."""

    _client: Any = None
    _coordinator: Any = None

    async def start(self, subscription: Subscription) -> None:
        self._client = AIOKafkaClient(**await self._client_options())
        await self._client.bootstrap()
        known = {**assignors(), COOPERATIVE_STICKY: COOPERATIVE_STICKY}
        state = SubscriptionState()
        state.register_fetch_waiters(set())
        self._coordinator = MemberCoordinator(
            self._client,
            state,
            self._events,
            cooperative=self.cooperative,
            strategies=[known[name] for name in self._strategies],
            retry_backoff_ms=self._settings.retry_backoff_ms,
            max_poll_interval_ms=math.inf,  # others fetch
            **self._coordinator_options(),
        )
        if subscription.pattern is not None:
            state.subscribe_pattern(re.compile(f"(?:{subscription.pattern.pattern})\\Z"))
            self._client.set_topics([])
        else:
            names = set(subscription.names or ())
            state.subscribe(names)
            self._client.set_topics(names)

    @property
    def owned(self) -> Collection[Place]:
        return self._coordinator.owned if self._coordinator is not None else ()

    @property
    def fenced(self) -> bool:  # type: ignore[override]
        return self._coordinator is not None and self._coordinator.fenced

    async def check(self) -> None:
        self._coordinator.check_errors()
        await asyncio.sleep(_CHECK_S)

    async def committed(self, places: Collection[Place]) -> dict[Place, int]:
        wanted = [TopicPartition(*place) for place in sorted(places)]
        found = await self._coordinator.fetch_committed_offsets(wanted)
        return {(place.topic, place.partition): entry.offset for place, entry in found.items()}

    async def commit(self, offsets: Mapping[Place, int]) -> None:
        entries = {TopicPartition(*place): OffsetAndMetadata(at, "") for place, at in offsets.items()}
        await self._coordinator.commit_offsets(None, entries)

    async def aclose(self) -> None:
        coordinator, self._coordinator = self._coordinator, None
        client, self._client = self._client, None
        if coordinator is not None:
            with closing_quietly():
                await asyncio.wait_for(coordinator.close(), CLOSE_TIMEOUT_S)
        if client is not None:
            with closing_quietly():
                await asyncio.wait_for(client.close(), CLOSE_TIMEOUT_S)
