"""Who gets which partitions in a cooperative group, without a broker."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocol

from aiostream_engine.sources.kafka.cooperative_sticky import (
    Claim,
    CooperativeSticky,
    decode_claim,
    encode_claim,
    share_out,
)

WORDS = frozenset({"words"})


def words(*numbers: int) -> frozenset[tuple[str, int]]:
    return frozenset(("words", number) for number in numbers)


def settle(claims: dict[str, Claim], partitions: dict[str, range]) -> tuple[dict[str, Claim], int]:
    """Rounds of joining until nobody has to give anything back; also how often a partition changed hands."""
    moves = 0
    for generation in range(1, 20):
        shares = share_out(claims, partitions)
        for one, other in combinations(shares.values(), 2):
            assert not one & other
        for member, places in shares.items():
            others = {place for name, claim in claims.items() if name != member for place in claim.owned}
            assert not places & others  # never while another has it
            moves += len(places - claims[member].owned)
        changed = any(claims[member].owned - places for member, places in shares.items())
        claims = {
            member: Claim(claim.topics, frozenset(shares[member]), generation)
            for member, claim in claims.items()
        }
        if not changed:
            return claims, moves
    raise AssertionError("no end of rebalances")


def test_a_newcomer_gets_nothing_before_it_was_given_back() -> None:
    claims = {"a": Claim(WORDS, words(0, 1, 2, 3), 1), "b": Claim(WORDS)}
    first = share_out(claims, {"words": range(4)})
    assert first["b"] == set()
    assert len(first["a"]) == 2
    second = share_out(
        {"a": Claim(WORDS, frozenset(first["a"]), 2), "b": Claim(WORDS, frozenset(), 2)}, {"words": range(4)}
    )
    assert second["a"] == first["a"]
    assert second["b"] == words(0, 1, 2, 3) - first["a"]


def test_the_partitions_of_a_dead_member_are_given_at_once() -> None:
    claims = {"a": Claim(WORDS, words(0, 1), 4), "b": Claim(WORDS, words(2), 4)}
    shares = share_out(claims, {"words": range(5)})
    assert shares["a"] >= words(0, 1)
    assert shares["b"] >= words(2)
    assert shares["a"] | shares["b"] == words(*range(5))
    assert sorted(map(len, shares.values())) == [2, 3]


def test_no_more_partitions_move_than_an_even_share_takes() -> None:
    claims = {f"m{n}": Claim(WORDS, words(*range(n * 6, n * 6 + 6)), 1) for n in range(4)}
    settled, moves = settle({**claims, "new": Claim(WORDS)}, {"words": range(24)})
    assert sorted(len(claim.owned) for claim in settled.values()) == [4, 5, 5, 5, 5]
    assert moves == 4


def test_of_two_that_claim_a_partition_the_later_generation_has_it() -> None:
    claims = {"stale": Claim(WORDS, words(0, 1), 3), "owner": Claim(WORDS, words(0), 5)}
    shares = share_out(claims, {"words": range(2)})
    assert shares == {"stale": set(words(1)), "owner": set(words(0))}


def test_what_two_claim_alike_is_taken_from_both_first() -> None:
    claims = {"a": Claim(WORDS, words(0), 5), "b": Claim(WORDS, words(0), 5)}
    assert share_out(claims, {"words": range(1)}) == {"a": set(), "b": set()}


def test_members_get_only_what_they_subscribe_to() -> None:
    claims = {
        "both": Claim(frozenset({"words", "views"}), words(0, 1) | {("views", 0), ("gone", 0)}, 1),
        "words": Claim(WORDS),
        "none": Claim(frozenset({"missing"})),
    }
    settled, _ = settle(claims, {"words": range(3), "views": range(1), "missing": range(0)})
    assert settled["both"].owned >= {("views", 0)}
    assert all(topic == "words" for topic, _ in settled["words"].owned)
    assert settled["none"].owned == frozenset()
    assert {len(settled["both"].owned), len(settled["words"].owned)} == {2}


def test_all_is_dealt_out_evenly_whoever_comes_and_goes() -> None:
    chance = random.Random(17)
    partitions = {"words": range(13), "views": range(7)}
    topics = frozenset(partitions)
    claims = {"m0": Claim(topics)}
    for step in range(1, 60):
        if len(claims) > 1 and chance.random() < 0.4:
            del claims[chance.choice(sorted(claims))]
        else:
            claims[f"m{step}"] = Claim(topics)
        claims, _ = settle(claims, partitions)
        sizes = [len(claim.owned) for claim in claims.values()]
        assert sum(sizes) == 20
        assert max(sizes) - min(sizes) <= 1


def test_a_claim_survives_the_wire() -> None:
    claim = Claim(frozenset({"a", "b"}), words(3, 1) | {("b", 0)}, 7)
    assert decode_claim(encode_claim(claim)) == claim


def test_older_versions_of_a_claim_are_understood() -> None:
    plain = ConsumerProtocol.METADATA(0, ["words"], b"").encode()
    assert decode_claim(plain) == Claim(WORDS)
    owned = b"\0\0\0\1\0\5words\0\0\0\1\0\0\0\2"
    version_1 = ConsumerProtocol.METADATA(1, ["words"], b"\0\0\0\6").encode() + owned
    assert decode_claim(version_1) == Claim(WORDS, words(2), 6)


def test_clients_that_know_less_can_read_a_claim() -> None:
    old = ConsumerProtocol.METADATA.decode(encode_claim(Claim(WORDS, words(1), 2)))
    assert old.subscription == ["words"]


def test_a_claim_that_is_cut_short_is_refused() -> None:
    with pytest.raises(ValueError, match="convert value"):
        decode_claim(encode_claim(Claim(WORDS, words(1), 2))[:-2])


def test_the_leader_hands_out_what_other_clients_can_read() -> None:
    class Cluster:
        def partitions_for_topic(self, topic: str) -> set[int] | None:
            return {0, 1, 2} if topic == "words" else None

    leader = CooperativeSticky(lambda: (words(0), 3))
    claims = {"a": decode_claim(leader.metadata(["words"])), "b": Claim(frozenset({"words", "missing"}))}
    leader.claims = claims
    handed = leader.assign(Cluster(), dict.fromkeys(claims))
    places = {
        name: {tuple(one) for one in ConsumerProtocol.ASSIGNMENT.decode(bytes_.encode()).partitions()}
        for name, bytes_ in handed.items()
    }
    assert places["a"] | places["b"] == words(0, 1, 2)
    assert places["a"] >= words(0)
