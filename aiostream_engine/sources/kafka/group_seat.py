"""How a member speaks to its group: what both ways promise, and which of them is taken."""

from __future__ import annotations

import abc
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from aiokafka.errors import KafkaError

from ...errors import OptionError
from ...kafka.settings import KafkaSettings
from .partition_queue import Place
from .subscription import Subscription

__all__ = [
    "CLOSE_TIMEOUT_S",
    "COOPERATIVE_STICKY",
    "EAGER_STRATEGIES",
    "GroupSeat",
    "GroupTimes",
    "SeatEvents",
    "assignors",
    "closing_quietly",
    "coordinator_strangeness",
    "make_seat",
]

_log = logging.getLogger("aiostream_engine.kafka")

CLOSE_TIMEOUT_S = 5.0
COOPERATIVE_STICKY = "cooperative-sticky"
EAGER_STRATEGIES = ("sticky", "range", "roundrobin")
_REJOIN_GRACE_S = 5.0  # between the end of a drain and the coordinator giving us up
_ANSWER_GRACE_S = 5.0  # a join is answered when all have joined, or by the end of that


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

    @property
    def rejoin_s(self) -> float:
        """How long the group waits for a member to join again."""
        return self.revoke_s + _REJOIN_GRACE_S


@dataclass(frozen=True, slots=True)
class SeatEvents:
    """What a seat tells.

    revoked: these partitions are asked back; others get them when this returns; heartbeats go on.
    lost: these were given to others already. assigned: these are ours from now on, beside those that
    were; returns at once.
    """

    revoked: Callable[[set[Place]], Awaitable[None]]
    lost: Callable[[set[Place]], None]
    assigned: Callable[[set[Place]], None]


class GroupSeat(abc.ABC):
    """A member of a group as its coordinator sees it; on one event loop. Calls may raise KafkaError.

    Parameters
    ----------
    strategies: names of assignment strategies to offer, the preferred one first.
    cooperative: join without giving anything back.
    metadata_refresh_s: how often new partitions and topics are looked for.
    """

    fenced = False
    """True when another member has joined with our ``instance_id``."""

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        events: SeatEvents,
        *,
        strategies: Sequence[str],
        cooperative: bool,
        times: GroupTimes,
        instance_id: str | None,
        metadata_refresh_s: float,
    ) -> None:
        self._settings = settings
        self.group = group
        self._events = events
        self._strategies = tuple(strategies)
        self.cooperative = cooperative
        self._times = times
        self._instance_id = instance_id
        self._refresh_s = metadata_refresh_s

    @abc.abstractmethod
    async def start(self, subscription: Subscription) -> None:
        """Connect, and begin to join; does not wait for partitions."""

    @property
    @abc.abstractmethod
    def owned(self) -> Collection[Place]:
        """The partitions for which offsets may be committed."""

    @abc.abstractmethod
    async def check(self) -> None:
        """Raises what went wrong in the meantime; returns after half a second at the latest."""

    @abc.abstractmethod
    async def committed(self, places: Collection[Place]) -> dict[Place, int]:
        """The offsets that the group has; partitions without one are left out."""

    @abc.abstractmethod
    async def commit(self, offsets: Mapping[Place, int]) -> None:
        """Raises CommitFailedError when the partitions are not ours any more."""

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Leave the group, for a bounded time; a static member keeps its seat."""

    async def _client_options(self) -> dict[str, Any]:
        """For aiokafka's clients: a join may take as long as others need to give partitions back."""
        options = await self._settings.client_options()
        options["metadata_max_age_ms"] = int(self._refresh_s * 1000)
        least_ms = int((self._times.rejoin_s + _ANSWER_GRACE_S) * 1000)
        options["request_timeout_ms"] = max(options["request_timeout_ms"], least_ms)
        return options

    def _coordinator_options(self) -> dict[str, Any]:
        return {
            "group_id": self.group,
            "group_instance_id": self._instance_id,
            "session_timeout_ms": int(self._times.session_s * 1000),
            "heartbeat_interval_ms": int(self._times.heartbeat_s * 1000),
            "rebalance_timeout_ms": int(self._times.rejoin_s * 1000),
        }


def assignors() -> dict[str, Any]:
    """aiokafka's strategies by name; raises ImportError where they lie elsewhere."""
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor
    from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
    from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

    classes = (StickyPartitionAssignor, RangePartitionAssignor, RoundRobinPartitionAssignor)
    # Classes of our own: what the sticky one remembers lies in its class, shared by all members here.
    return {one.name: type(one.name, (one,), {}) for one in classes}


def make_seat(*args: Any, cooperative: bool, strategies: Sequence[str], **options: Any) -> GroupSeat:
    """Our own coordinator where aiokafka's is as this package knows it, else its public consumer.

    The latter is eager whatever is asked for, and has no ``cooperative-sticky``.
    """
    if coordinator_strangeness() is None:
        from .own_seat import OwnSeat

        return OwnSeat(*args, cooperative=cooperative, strategies=strategies, **options)
    from .public_seat import PublicSeat

    eager = [name for name in strategies if name != COOPERATIVE_STICKY]
    return PublicSeat(*args, cooperative=False, strategies=eager or EAGER_STRATEGIES, **options)


@cache
def coordinator_strangeness() -> str | None:
    """What our coordinator needs of aiokafka's and does not find, None when all is there. Logged once."""
    try:
        from .group_coordinator import strangeness

        found = strangeness()
    except Exception as error:  # of any kind: what is not known may fail in any way
        found = f"{type(error).__name__}: {error}"
    if found is not None:
        _log.warning("Kafka groups are joined by the eager protocol of the public consumer: %s", found)
    return found


@contextlib.contextmanager
def closing_quietly() -> Iterator[None]:
    """For what is left of a connection."""
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        yield
