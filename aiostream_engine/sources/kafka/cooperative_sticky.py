"""Who gets which partitions when nobody gives any back beforehand (KIP-429).

The strategy and the bytes are those that Kafka's own clients call ``cooperative-sticky``, so that they
can be members of the same group, and its leader.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from io import BytesIO
from typing import Any, NamedTuple

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.protocol.types import Array, Bytes, Int16, Int32, Schema, String

from .group_seat import COOPERATIVE_STICKY
from .partition_queue import Place

__all__ = ["Claim", "CooperativeSticky", "decode_claim", "encode_claim", "share_out"]

_VERSION = 2  # of a subscription: 1 adds what is owned, 2 since which generation
_NO_GENERATION = -1
_HEAD = Schema(("version", Int16), ("topics", Array(String("utf-8"))), ("user_data", Bytes))
_OWNED = Array(("topic", String("utf-8")), ("partitions", Array(Int32)))
_GENERATION = struct.Struct(">i")  # also the user data, where members of version 1 look for it


class Claim(NamedTuple):
    """What a member tells when it joins: what it subscribes to, and what it has since which generation."""

    topics: frozenset[str]
    owned: frozenset[Place] = frozenset()
    generation: int = _NO_GENERATION


def encode_claim(claim: Claim) -> bytes:
    """The bytes of a join request."""
    generation = _GENERATION.pack(claim.generation)
    head: bytes = _HEAD.encode((_VERSION, sorted(claim.topics), generation))
    owned: bytes = _OWNED.encode(list(_by_topic(claim.owned).items()))
    return head + owned + generation


def decode_claim(data: bytes) -> Claim:
    """What a member told, in any version, of any client. Raises ValueError when it is cut short."""
    stream = BytesIO(data)
    version, topics, user_data = _HEAD.decode(stream)
    owned: frozenset[Place] = frozenset()
    generation = _NO_GENERATION
    if user_data and len(user_data) >= _GENERATION.size:
        (generation,) = _GENERATION.unpack_from(user_data)
    if version >= 1:
        owned = frozenset((topic, number) for topic, numbers in _OWNED.decode(stream) for number in numbers)
    if version >= 2:
        generation = Int32.decode(stream)
    return Claim(frozenset(topics), owned, generation)


def share_out(
    claims: Mapping[str, Claim], partitions: Mapping[str, Collection[int]]
) -> dict[str, set[Place]]:
    """Partitions for each member: as even as its subscriptions allow, with as few moves as that takes.

    A partition that is to move is given to nobody yet: its owner sees that it is gone, lets it go and joins
    again, and only then another gets it.

    claims: by member. partitions: the numbers of each topic's.
    """
    claimants = _claimants(claims)
    owners = {place: next(iter(members)) for place, members in claimants.items() if len(members) == 1}
    shares: dict[str, set[Place]] = {member: set() for member in claims}
    free = []
    for place in sorted((topic, number) for topic in partitions for number in partitions[topic]):
        owner = owners.get(place)
        if owner is not None and place[0] in claims[owner].topics:
            shares[owner].add(place)
        else:
            free.append(place)
    for place in free:
        taker = _poorest(place[0], claims, shares)
        if taker is not None:
            shares[taker].add(place)
    while _move_one(claims, shares, owners):
        pass
    return {
        member: {place for place in places if not claimants.get(place, set()) - {member}}
        for member, places in shares.items()
    }


def _claimants(claims: Mapping[str, Claim]) -> dict[Place, set[str]]:
    """Who has each partition by the highest generation: one, unless somebody errs."""
    found: dict[Place, set[str]] = {}
    since: dict[Place, int] = {}
    for member, claim in claims.items():
        for place in claim.owned:
            if claim.generation > since.get(place, _NO_GENERATION - 1):
                found[place], since[place] = {member}, claim.generation
            elif claim.generation == since[place]:
                found[place].add(member)
    return found


def _poorest(topic: str, claims: Mapping[str, Claim], shares: Mapping[str, set[Place]]) -> str | None:
    takers = [member for member, claim in claims.items() if topic in claim.topics]
    return min(takers, key=lambda member: (len(shares[member]), member), default=None)


def _move_one(
    claims: Mapping[str, Claim], shares: Mapping[str, set[Place]], owners: Mapping[Place, str]
) -> bool:
    """Move a partition to a member that has two less; False when there is none such."""
    poorest: dict[str, str | None] = {}
    for giver in sorted(shares, key=lambda member: (-len(shares[member]), member)):
        for topic in sorted({topic for topic, _ in shares[giver]}):
            if topic not in poorest:
                poorest[topic] = _poorest(topic, claims, shares)
            taker = poorest[topic]
            if taker is None or len(shares[taker]) + 2 > len(shares[giver]):
                continue
            of_topic = (place for place in shares[giver] if place[0] == topic)
            place = max(of_topic, key=lambda one: (owners.get(one) != giver, one))
            shares[giver].remove(place)
            shares[taker].add(place)
            return True
    return False


def _by_topic(places: Iterable[Place]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = {}
    for topic, number in sorted(places):
        topics.setdefault(topic, []).append(number)
    return topics


class CooperativeSticky:
    """The strategy in the way that aiokafka's coordinator asks for one.

    claim: gives what this member has at the moment, for its next join.
    """

    name = COOPERATIVE_STICKY

    def __init__(self, claim: Callable[[], tuple[Collection[Place], int]]) -> None:
        self._claim = claim
        self.claims: dict[str, Claim] = {}
        """Of all members, told by the coordinator before :meth:`assign`: aiokafka decodes half of it."""

    def metadata(self, topics: Iterable[str]) -> bytes:
        """What goes into a join request."""
        owned, generation = self._claim()
        return encode_claim(Claim(frozenset(topics), frozenset(owned), generation))

    def assign(
        self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """The assignment that a leader hands out."""
        claims = {member: self.claims[member] for member in members}
        topics = frozenset().union(*(claim.topics for claim in claims.values()))
        shares = share_out(claims, {topic: cluster.partitions_for_topic(topic) or () for topic in topics})
        return {
            member: ConsumerProtocolMemberAssignment(0, list(_by_topic(places).items()), b"")
            for member, places in shares.items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Nothing: what this member has is known elsewhere."""
