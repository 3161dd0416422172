"""Membership of a consumer group: which partitions are ours now, and the offsets that the group keeps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    InconsistentGroupProtocolError,
    KafkaError,
)

from ...durable.checkpoint_directory import FencedError
from ...errors import AiostreamError, OptionError, SourceError
from ...kafka.settings import KafkaSettings
from ..receiver import cancel_and_wait
from .group_seat import (
    CLOSE_TIMEOUT_S,
    COOPERATIVE_STICKY,
    EAGER_STRATEGIES,
    GroupSeat,
    GroupTimes,
    SeatEvents,
    make_seat,
)
from .partition_queue import Place
from .subscription import Subscription

__all__ = ["AssignmentProtocol", "GroupEvents", "GroupMembership", "GroupTimes"]

_log = logging.getLogger("aiostream_engine.kafka")

AssignmentProtocol = Literal["cooperative", "eager"]


@dataclass(frozen=True, slots=True)
class GroupEvents:
    """What the group tells its member.

    revoked: these partitions are asked back; others get them when this returns. lost: these were given
    to others already. assigned: these are ours from now on, beside those that were; returns at once.
    error: something failed and is tried again, or, when ``fatal``, cannot be.
    """

    revoked: Callable[[set[Place]], Awaitable[None]]
    lost: Callable[[set[Place]], None]
    assigned: Callable[[set[Place]], None]
    error: Callable[[Exception, bool], None]


class GroupMembership:
    """Joins, heartbeats, commits and leaves.

    Heartbeats depend on the event loop alone, not on how long batches take (scenario E15).

    Parameters
    ----------
    assignment: ``cooperative`` gives back at a rebalance only what others are to get, and needs a group
        whose members all offer ``cooperative-sticky``; ``eager`` gives back everything.
    instance_id: makes the member static: after a restart within ``session_s`` it gets its
        partitions back without a rebalance. Unique in the group.
    assignors: strategies that an eager member offers, the preferred one first; the group uses one that
        all its members have.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        subscription: Subscription,
        events: GroupEvents,
        *,
        times: GroupTimes,
        assignment: AssignmentProtocol,
        instance_id: str | None,
        assignors: Sequence[str] | None,
        metadata_refresh_s: float,
    ) -> None:
        self.group = group
        self.failures = 0
        self._settings = settings
        self._subscription = subscription
        self._events = events
        self._instance_id = instance_id
        self.seat: GroupSeat = make_seat(
            settings,
            group,
            SeatEvents(events.revoked, events.lost, events.assigned),
            strategies=_strategies(assignment, assignors),
            cooperative=assignment == "cooperative",
            times=times,
            instance_id=instance_id,
            metadata_refresh_s=metadata_refresh_s,
        )
        self._closed = False
        self._poller: asyncio.Task[None] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._waiting: dict[Place, int] = {}

    async def start(self) -> None:
        """Connect, and begin to join; does not wait for partitions. Raises KafkaError."""
        await self.seat.start(self._subscription)
        self._poller = asyncio.get_running_loop().create_task(self._poll(), name="aiostream-kafka-group")

    async def _poll(self) -> None:
        """Ask for what went wrong, until it is what trying again does not help against."""
        while True:
            try:
                await self.seat.check()
            except KafkaError as error:
                if self.seat.fenced or not error.retriable:
                    self._events.error(self._explained(error), True)
                    return
                self._events.error(error, False)
                await asyncio.sleep(self._settings.retry_backoff_ms / 1000)

    def _explained(self, error: KafkaError) -> AiostreamError:
        if self.seat.fenced:
            return FencedError(
                f"another member has joined group {self.group!r} with instance_id {self._instance_id!r}: "
                "this one, the older, stops"
            )
        if isinstance(error, InconsistentGroupProtocolError):
            return SourceError(
                f"group {self.group!r} has members that offer other strategies than this one: "
                "assignment='eager' and assignors say which ones it offers"
            )
        return SourceError(f"cannot be in group {self.group!r}: {error!r}")

    # -- offsets -------------------------------------------------------------------------------

    async def committed(self, places: Collection[Place]) -> dict[Place, int]:
        """The offsets that the group has; partitions without one are left out. Raises KafkaError."""
        return await self.seat.committed(places)

    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Commit soon, as a member of this generation; does not wait. The latest offsets win."""
        self._waiting.update(offsets)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(
                self._send(), name="aiostream-kafka-group-commit"
            )

    async def _send(self) -> None:
        while self._waiting and not self._closed:
            offsets, self._waiting = self._waiting, {}
            owned = offsets.keys() & set(self.seat.owned)
            try:
                if owned:
                    await self.seat.commit({place: offsets[place] for place in owned})
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
        self._closed = True
        await cancel_and_wait(*(task for task in (self._poller, self._sender) if task is not None))
        await self.seat.aclose()


def _strategies(assignment: AssignmentProtocol, assignors: Sequence[str] | None) -> Sequence[str]:
    if assignment not in ("cooperative", "eager"):
        raise OptionError(f"assignment {assignment!r} is not known: use 'cooperative' or 'eager'")
    if assignment == "cooperative":
        if assignors is not None:
            raise OptionError("assignors are those of assignment='eager': a cooperative member has its own")
        return (COOPERATIVE_STICKY,)
    chosen = EAGER_STRATEGIES if assignors is None else tuple(assignors)
    known = (*EAGER_STRATEGIES, COOPERATIVE_STICKY)
    if not chosen or not set(chosen) <= set(known):
        raise OptionError(f"assignors {list(chosen)!r} are not known: use {', '.join(known)}")
    return chosen
