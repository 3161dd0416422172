"""A seat in a consumer group: which partitions are ours now, and the offsets that the group keeps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from ...errors import OptionError, SourceError
from ...kafka.settings import KafkaSettings
from ..receiver import cancel_and_wait
from .partition_queue import Place
from .subscription import Subscription

__all__ = ["GroupEvents", "GroupMembership", "GroupTimes"]

_log = logging.getLogger("aiostream_engine.kafka")

CLOSE_TIMEOUT_S = 5.0
_REJOIN_GRACE_S = 5.0  # between the end of a drain and the coordinator giving us up
_POLL_MS = 500
_ASSIGNORS = {
    "sticky": StickyPartitionAssignor,
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
}


@dataclass(frozen=True, slots=True)
class GroupTimes:
    """How patient a group is with a member.

    session_s: without a heartbeat for so long, it is out. heartbeat_s: from one to the next.
    revoke_s: how long a rebalance may wait for batches under way with partitions that are taken away.
    """

    session_s: float = 30.0
    heartbeat_s: float = 3.0
    revoke_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_s < self.session_s:
            raise OptionError(f"heartbeat_s is {self.heartbeat_s!r}: it must be below session_s, above 0")
        if self.revoke_s < 0:
            raise OptionError(f"revoke_s is {self.revoke_s!r}: it must not be negative")


@dataclass(frozen=True, slots=True)
class GroupEvents:
    """What the group tells its member.

    revoked: these partitions are asked back; others get them when this returns. assigned: these are
    ours from now on; returns at once, since heartbeats begin after it. error: something failed and
    is tried again, or, when ``fatal``, cannot be.
    """

    revoked: Callable[[set[Place]], Awaitable[None]]
    assigned: Callable[[set[Place]], None]
    error: Callable[[Exception, bool], None]


class GroupMembership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Joins, heartbeats, commits and leaves by aiokafka's consumer, which fetches nothing here.

    The protocol is the eager one, the only one that aiokafka has: at a rebalance every member
    gives all its partitions back, and the sticky assignor hands most of them to their owners again.
    Heartbeats depend on the event loop alone, not on how long batches take (scenario E15).

    Parameters
    ----------
    instance_id: makes the member static: after a restart within ``session_s`` it gets its
        partitions back without a rebalance. Unique in the group.
    assignors: strategies that are offered, the preferred one first; the group uses one that all have.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        subscription: Subscription,
        events: GroupEvents,
        *,
        times: GroupTimes,
        instance_id: str | None,
        assignors: Sequence[str],
        metadata_refresh_s: float,
    ) -> None:
        unknown = [name for name in assignors if name not in _ASSIGNORS]
        if unknown or not assignors:
            raise OptionError(f"assignors {list(assignors)!r} are not known: use {', '.join(_ASSIGNORS)}")
        self.group = group
        self.failures = 0
        self._settings = settings
        self._subscription = subscription
        self._events = events
        self._times = times
        self._instance_id = instance_id
        # A class of our own: what the sticky one remembers lies in its class, shared by all members here.
        self._assignors = tuple(type(name, (_ASSIGNORS[name],), {}) for name in assignors)
        self._refresh_s = metadata_refresh_s
        self._consumer: Any = None
        self._poller: asyncio.Task[None] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._waiting: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        """Connect, and begin to join; does not wait for partitions. Raises KafkaError."""
        times = self._times
        options = await self._settings.client_options()
        options["metadata_max_age_ms"] = int(self._refresh_s * 1000)
        self._consumer = AIOKafkaConsumer(
            **options,
            group_id=self.group,
            group_instance_id=self._instance_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # of a position that nobody uses
            partition_assignment_strategy=self._assignors,
            session_timeout_ms=int(times.session_s * 1000),
            heartbeat_interval_ms=int(times.heartbeat_s * 1000),
            rebalance_timeout_ms=int((times.revoke_s + _REJOIN_GRACE_S) * 1000),
            max_poll_interval_ms=2**31 - 1,
            fetch_max_bytes=1,
            max_partition_fetch_bytes=1,
        )
        await self._consumer.start()
        names, pattern = self._subscription.names, self._subscription.pattern
        if pattern is not None:
            self._consumer.subscribe(pattern=f"(?:{pattern.pattern})\\Z", listener=self)
        else:
            self._consumer.subscribe(topics=sorted(names or ()), listener=self)
        self._poller = asyncio.get_running_loop().create_task(self._poll(), name="aiostream-kafka-group")

    async def _poll(self) -> None:
        """The consumer tells of failures to those only who ask it for records."""
        while True:
            try:
                await self._consumer.getmany(timeout_ms=_POLL_MS)
            except KafkaError as error:
                if not error.retriable:
                    self._events.error(SourceError(f"cannot be in group {self.group!r}: {error!r}"), True)
                    return
                self._events.error(error, False)
                await asyncio.sleep(self._settings.retry_backoff_ms / 1000)

    # -- called by the consumer ----------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        """The group waits for the end of this, heartbeats go on."""
        if revoked:
            await self._events.revoked({(one.topic, one.partition) for one in revoked})

    async def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """The consumer itself must not fetch: others do, from where they seek to."""
        if assigned:
            self._consumer.pause(*assigned)
        self._events.assigned({(one.topic, one.partition) for one in assigned})

    # -- offsets -------------------------------------------------------------------------------

    async def committed(self, places: Collection[Place]) -> dict[Place, int]:
        """The offsets that the group has; partitions without one are left out. Raises KafkaError."""
        ordered = sorted(places)
        answers = await asyncio.gather(*(self._consumer.committed(TopicPartition(*one)) for one in ordered))
        return {
            place: offset
            for place, offset in zip(ordered, answers, strict=True)
            if offset is not None and offset >= 0
        }

    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Commit soon, as a member of this generation; does not wait. The latest offsets win."""
        self._waiting.update({TopicPartition(*place): offset for place, offset in offsets.items()})
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(
                self._send(), name="aiostream-kafka-group-commit"
            )

    async def _send(self) -> None:
        while self._waiting and self._consumer is not None:
            offsets, self._waiting = self._waiting, {}
            owned = offsets.keys() & self._consumer.assignment()
            try:
                await self._consumer.commit({place: offsets[place] for place in owned})
            except (CommitFailedError, IllegalStateError) as error:
                self.failures += 1
                _log.warning(
                    "offsets of group %s were not committed, its partitions have moved on; the batches "
                    "they belong to may be read again: %s",
                    self.group,
                    error,
                )
            except KafkaError as error:
                self.failures += 1
                _log.warning("offsets of group %s were not committed: %r", self.group, error)
                self._waiting = offsets | self._waiting
                await asyncio.sleep(self._settings.retry_backoff_ms / 1000)

    async def flush(self, timeout_s: float) -> None:
        """Wait until what waits is committed, for a bounded time."""
        if self._sender is not None and not self._sender.done():
            await asyncio.wait({self._sender}, timeout=timeout_s)

    async def aclose(self) -> None:
        """Commit what waits and leave the group, for a bounded time; a static member keeps its seat."""
        await self.flush(CLOSE_TIMEOUT_S)
        await cancel_and_wait(*(task for task in (self._poller, self._sender) if task is not None))
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            await asyncio.wait_for(consumer.stop(), CLOSE_TIMEOUT_S)
            return
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            await asyncio.wait_for(consumer._client.close(), CLOSE_TIMEOUT_S)
