"""aiokafka's coordinator of a group, taught to give back only what others are to get (KIP-429)."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Sequence
from typing import Any

from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance, GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest
from aiokafka.protocol.types import Int16, Int32, Schema, String

from .cooperative_sticky import CooperativeSticky, decode_claim
from .group_seat import COOPERATIVE_STICKY, SeatEvents
from .partition_queue import Place

__all__ = ["MemberCoordinator", "strangeness"]

_log = logging.getLogger("aiostream_engine.kafka")

_FENCED_INSTANCE_ID = 82
_HEARTBEAT_WITH_INSTANCE = 3


class InstanceFencedError(KafkaError):  # type: ignore[misc]
    """Another member has joined with our ``instance_id``."""


class MemberCoordinator(GroupCoordinator):  # type: ignore[misc]
    """Joins and stays in a group; which partitions are owned is kept here and survives a rebalance.

    Cooperative: joining gives nothing back. After it, partitions that the leader took away are let go
    (``events.revoked``, while heartbeats go on), and the group is joined once more, so that others get
    them. Eager: all of them are given back before joining. While a join is under way commits wait, since
    one of the former generation would cost the membership.

    A static member that is replaced by another with its ``instance_id`` ends with an error: aiokafka
    would join again and replace the other, and so forth.

    Parameters
    ----------
    cooperative: see above. strategies: aiokafka's assignors to offer, the preferred one first.
    options: those of aiokafka's coordinator.
    """

    def __init__(
        self,
        client: Any,
        subscription: SubscriptionState,
        events: SeatEvents,
        *,
        cooperative: bool,
        strategies: Sequence[Any] = (),
        **options: Any,
    ) -> None:
        self.owned: set[Place] = set()
        self.fenced = False
        self._events = events
        self._cooperative = cooperative
        self._owned_since = -1
        self._former: tuple[int, str] | None = None
        self._sticky = CooperativeSticky(lambda: (self.owned, self._owned_since))
        offered = [self._sticky if one == COOPERATIVE_STICKY else one for one in strategies]
        super().__init__(client, subscription, assignors=tuple(offered), enable_auto_commit=False, **options)

    # -- joining -------------------------------------------------------------------------------

    async def _on_join_prepare(self, previous_assignment: Any) -> None:
        """Called while heartbeats still go on."""
        self._group_subscription = None
        if not self._cooperative and self.owned and self.member_id:
            await self._events.revoked(set(self.owned))
            self.owned.clear()

    async def _do_rejoin_group(self, subscription: Any) -> bool:
        await self._check_fencing()
        if self.owned and not self.member_id:  # the group has given them to others
            self._events.lost(set(self.owned))
            self.owned.clear()
        rebalance = CoordinatorGroupRebalance(
            self,
            self.group_id,
            self.coordinator_id,
            subscription,
            self._assignors[:1],  # it would join once for each; _send_req offers them all
            self._session_timeout_ms,
            self._retry_backoff_ms,
        )
        async with self._commit_lock:
            answer = await rebalance.perform_group_join()
        if not subscription.active:
            return False
        if answer is None:
            await asyncio.sleep(self._retry_backoff_ms / 1000)
            return False
        await self._on_join_complete(self.generation, self.member_id, *answer)
        return True

    async def _perform_assignment(self, response: Any) -> Any:
        if response.group_protocol == COOPERATIVE_STICKY:
            self._sticky.claims = {one[0]: decode_claim(bytes(one[-1])) for one in response.members}
        return await super()._perform_assignment(response)

    async def _on_join_complete(
        self, generation: int, member_id: str, protocol: str, member_assignment_bytes: bytes
    ) -> None:
        assignment = ConsumerProtocol.ASSIGNMENT.decode(member_assignment_bytes)
        given = assignment.partitions()
        self._subscription.assign_from_subscribed(given)
        self._lookup_assignor(protocol).on_assignment(assignment)
        self._owned_since = generation
        self._start_heartbeat_task()
        mine = {(topic, number) for topic, number in given}
        taken_away = self.owned - mine
        added = mine - self.owned
        self.owned |= added
        _log.info("group %s: added %s, taken away %s", self.group_id, sorted(added), sorted(taken_away))
        self._events.assigned(added)
        if taken_away:
            await self._events.revoked(set(taken_away))
            self.owned -= taken_away
            self.request_rejoin()

    async def close(self) -> None:
        """Leave the group, unless static; may be cancelled."""
        try:
            await super().close()
        finally:
            await self._stop_heartbeat_task()

    # -- static members ------------------------------------------------------------------------

    def reset_generation(self) -> None:
        """Called when the group knows us no longer."""
        if self._group_instance_id is not None and self.member_id:
            self._former = (self.generation, self.member_id)
        super().reset_generation()

    async def _check_fencing(self) -> None:
        """Ask whether another has our seat, before we would take it from there."""
        if self._former is not None:
            generation, member_id = self._former
            await self._send_req(HeartbeatRequest(self.group_id, generation, member_id))
            self._former = None
        if self.fenced:
            raise InstanceFencedError(self._group_instance_id)

    async def _send_req(self, request: Any) -> Any:
        if isinstance(request, JoinGroupRequest):
            topics = self._subscription.topics
            request._group_protocols = [(one.name, _encoded(one.metadata(topics))) for one in self._assignors]
        elif isinstance(request, HeartbeatRequest) and self._group_instance_id is not None:
            request = _StaticHeartbeat(request, self._group_instance_id)
        answer = await super()._send_req(request)
        if getattr(answer, "error_code", 0) == _FENCED_INSTANCE_ID:
            self.fenced = True
        return answer


def _encoded(metadata: Any) -> bytes:
    return metadata if isinstance(metadata, bytes) else metadata.encode()


class _HeartbeatAnswer(Response):  # type: ignore[misc]
    API_KEY = 12
    API_VERSION = _HEARTBEAT_WITH_INSTANCE
    SCHEMA = Schema(("throttle_time_ms", Int32), ("error_code", Int16))


class _HeartbeatWithInstance(RequestStruct):  # type: ignore[misc]
    API_KEY = 12
    API_VERSION = _HEARTBEAT_WITH_INSTANCE
    RESPONSE_TYPE = _HeartbeatAnswer
    SCHEMA = Schema(
        ("group", String("utf-8")),
        ("generation_id", Int32),
        ("member_id", String("utf-8")),
        ("group_instance_id", String("utf-8")),
    )


class _StaticHeartbeat:
    """A heartbeat by which the broker can tell "replaced" from "unknown"."""

    def __init__(self, plain: HeartbeatRequest, instance_id: str) -> None:
        self._plain, self._instance_id = plain, instance_id

    def prepare(self, versions: dict[int, tuple[int, int]]) -> RequestStruct:
        """What the connection sends; ``versions`` are those of its broker."""
        low, high = versions[12]
        if not low <= _HEARTBEAT_WITH_INSTANCE <= high:  # a broker from before Kafka 2.3
            return self._plain.prepare(versions)
        plain = self._plain
        return _HeartbeatWithInstance(plain._group, plain._generation_id, plain._member_id, self._instance_id)


_SIGNATURES = {
    "__init__": ("client", "subscription", "group_instance_id", "assignors", "max_poll_interval_ms"),
    "_on_join_prepare": ("previous_assignment",),
    "_do_rejoin_group": ("subscription",),
    "_perform_assignment": ("response",),
    "_on_join_complete": ("generation", "member_id", "protocol", "member_assignment_bytes"),
    "_send_req": ("request",),
    "_start_heartbeat_task": (),
    "_stop_heartbeat_task": (),
    "reset_generation": (),
    "request_rejoin": (),
    "check_errors": (),
    "commit_offsets": ("assignment", "offsets"),
    "fetch_committed_offsets": ("partitions",),
}
_SOURCES = (
    (GroupCoordinator, "commit_offsets", "async with self._commit_lock"),
    (GroupCoordinator, "need_rejoin", "self._rejoin_needed_fut"),
    (GroupCoordinator, "_do_heartbeat", "HeartbeatRequest("),
    (GroupCoordinator, "_do_rejoin_group", "_on_join_complete("),
    (GroupCoordinator, "ensure_active_group", "_on_join_prepare(prev_assignment)"),
    (GroupCoordinator, "ensure_active_group", "_do_rejoin_group(subscription)"),
    (CoordinatorGroupRebalance, "perform_group_join", "self._coordinator._send_req(request)"),
    (CoordinatorGroupRebalance, "perform_group_join", "return (protocol, assignment_bytes)"),
    (CoordinatorGroupRebalance, "_on_join_leader", "_perform_assignment(response)"),
    (JoinGroupRequest, "build", "self._group_protocols"),
)


def strangeness() -> str | None:
    """What is needed of aiokafka's coordinator and not found, None when all is there."""
    for name, needed in _SIGNATURES.items():
        missing = set(needed) - inspect.signature(getattr(GroupCoordinator, name)).parameters.keys()
        if missing:
            return f"{name} has no {', '.join(sorted(missing))}"
    for owner, name, text in _SOURCES:
        if text not in inspect.getsource(getattr(owner, name)):
            return f"{owner.__name__}.{name} works in another way"
    plain = HeartbeatRequest("group", 1, "member")
    if (plain._group, plain._generation_id, plain._member_id) != ("group", 1, "member"):
        return "heartbeats are made in another way"
    return None
