"""Tells a consumer group's coordinator what was processed, for tools that show the lag of groups."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from ...kafka.settings import KafkaSettings
from .partition_queue import Place

__all__ = ["GroupOffsets", "OffsetCommits"]

_log = logging.getLogger("aiostream_engine.kafka")

CLOSE_TIMEOUT_S = 5.0


class GroupOffsets(Protocol):
    """The offsets that a group keeps, for its members and for others."""

    group: str

    async def start(self) -> None:
        """Connect. Raises KafkaError."""

    async def committed(self, places: Collection[Place]) -> dict[Place, int]:
        """The offsets that the group has; partitions without one are left out. Raises KafkaError."""

    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Commit soon; does not wait. The latest offsets win."""

    async def aclose(self) -> None:
        """Commit what waits, for a bounded time, and disconnect."""


class OffsetCommits:
    """Commits offsets for a group without being its member; the latest ones win.

    Nothing depends on it: what fails is logged, counted and replaced by the next commit.
    """

    def __init__(self, settings: KafkaSettings, group: str) -> None:
        self.group = group
        self._settings = settings
        self._consumer: Any = None
        self._known: set[TopicPartition] = set()
        self._waiting: dict[TopicPartition, int] = {}
        self._sender: asyncio.Task[None] | None = None
        self.failures = 0

    async def start(self) -> None:
        """Connect. Raises KafkaError."""
        self._consumer = AIOKafkaConsumer(
            **await self._settings.client_options(),
            group_id=self.group,
            enable_auto_commit=False,
            auto_offset_reset="none",
        )
        await self._consumer.start()

    async def committed(self, places: Collection[Place]) -> dict[Place, int]:
        """The offsets that the group has; partitions without one are left out. Raises KafkaError."""
        self._assign({TopicPartition(*place) for place in places})
        found = {}
        for place in places:
            offset = await self._consumer.committed(TopicPartition(*place))
            if offset is not None and offset >= 0:
                found[place] = offset
        return found

    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Commit soon; does not wait."""
        self._waiting.update({TopicPartition(*place): offset for place, offset in offsets.items()})
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send(), name="aiostream-kafka-commit")

    async def _send(self) -> None:
        while self._waiting:
            offsets, self._waiting = self._waiting, {}
            try:
                self._assign(set(offsets))
                await self._consumer.commit(offsets)
            except KafkaError as error:
                self.failures += 1
                _log.warning("offsets of group %s were not committed: %r", self.group, error)
                await asyncio.sleep(self._settings.retry_backoff_ms / 1000)

    def _assign(self, places: set[TopicPartition]) -> None:
        """The consumer commits only for partitions of its own; it fetches nothing of them."""
        if places <= self._known:
            return
        self._known |= places
        self._consumer.assign(list(self._known))
        self._consumer.pause(*self._known)
        for place in self._known:  # else it asks for positions that nobody needs
            self._consumer.seek(place, 0)

    async def aclose(self) -> None:
        """Send what waits, for a bounded time, and disconnect."""
        if self._sender is not None and not self._sender.done():
            await asyncio.wait({self._sender}, timeout=CLOSE_TIMEOUT_S)
            self._sender.cancel()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(KafkaError, OSError):
                await consumer.stop()
