"""What is read, and from where, in the forms that users write; shares of a batch; which lane is taken."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiostream_engine.blocks.directory import BlockDirectory
from aiostream_engine.errors import ConfigurationError, OptionError
from aiostream_engine.kafka.settings import KafkaSettings
from aiostream_engine.sources.kafka import lane as lanes
from aiostream_engine.sources.kafka.assignment import Positions
from aiostream_engine.sources.kafka.lane import EARLIEST, LATEST, FetchLimits, LaneEvents, Topic, make_lane
from aiostream_engine.sources.kafka.shares import shares
from aiostream_engine.sources.kafka.subscription import Subscription, read_bound

TOPICS = {
    "a-1": Topic("a-1", b"1" * 16, (0, 1)),
    "a-2": Topic("a-2", b"2" * 16, (0,)),
    "b": Topic("b", b"3" * 16, (0,)),
}


def test_names_take_all_partitions():
    assert Subscription("a-1").select({"a-1": TOPICS["a-1"]}) == {("a-1", 0), ("a-1", 1)}


def test_a_pattern_takes_topics_whose_whole_name_fits():
    assert Subscription(pattern="a-.").select(TOPICS) == {("a-1", 0), ("a-1", 1), ("a-2", 0)}
    assert Subscription(pattern="a").select(TOPICS) == set()


def test_single_partitions_take_those_that_exist():
    chosen = Subscription(partitions=[("a-1", 1), ("a-1", 7)])
    assert chosen.names == {"a-1"}
    assert chosen.select(TOPICS) == {("a-1", 1)}


def test_bounds_are_words_times_and_offsets():
    assert read_bound("start", "latest").of(("t", 0)) == (LATEST, False)
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    assert read_bound("start", moment).of(("t", 0)) == (1767312000000, True)
    mixed = read_bound("start", {("t", 0): 5, "u": {1: "earliest"}})
    assert [mixed.of(("t", 0)), mixed.of(("u", 1)), mixed.of(("t", 9))] == [
        (5, False),
        (EARLIEST, False),
        None,
    ]
    assert read_bound("stop", None).of(("t", 0)) is None


@pytest.mark.parametrize("value", ["newest", 7, -1, datetime(2026, 1, 1), {("t", 0): -5}, {("t", "0"): 1}])
def test_other_bounds_are_refused(value):
    with pytest.raises(OptionError):
        read_bound("start", value)


def test_positions_come_back_from_json():
    positions = Positions()
    positions.offsets = {("t", 0): 5, ("u", 3): 7}
    positions.ids = {"t": b"i" * 16}
    again = Positions()
    again.advance(positions.plain())
    assert (again.offsets, again.ids) == (positions.offsets, positions.ids)
    again.advance({"offsets": {"t": {"0": 6}}, "ids": {}})
    assert again.offsets[("t", 0)] == 6


def test_what_is_no_position_is_refused():
    with pytest.raises(ConfigurationError):
        Positions().advance(["something", "else"])


PLACES = st.dictionaries(
    st.tuples(st.just("t"), st.integers(0, 20)), st.integers(0, 10**9), min_size=1, max_size=10
)


@given(PLACES, st.floats(1, 1e9))
def test_shares_follow_the_lag_and_keep_the_allowance(lags, allowance):
    """KAF-7"""
    found = shares(lags, allowance)
    if sum(lags.values()):
        assert sum(found.values()) <= allowance + len(lags)
        assert all(found[a] <= found[b] for a in lags for b in lags if lags[a] < lags[b])


def test_no_partition_starves_and_none_takes_more_than_it_may():
    lags = {("t", 0): 10**6, ("t", 1): 1}
    assert shares(lags, 1000, least=10, most=500) == {("t", 0): 500, ("t", 1): 10}
    assert shares(lags, None) == {("t", 0): None, ("t", 1): None}


def test_the_raw_lane_knows_the_client_that_is_installed():
    assert lanes._look_for_strangeness() is None


def test_another_client_is_read_through_its_public_face(monkeypatch, caplog):
    monkeypatch.setattr(lanes, "_look_for_strangeness", lambda: "it was rewritten")
    lanes.raw_lane_strangeness.cache_clear()
    directory = BlockDirectory()
    try:
        arguments = (KafkaSettings("127.0.0.1:9"), FetchLimits(), directory, LaneEvents())
        with caplog.at_level(logging.WARNING, logger="aiostream_engine.kafka"):
            made = [make_lane("auto", *arguments, read_committed=True) for _ in range(2)]
        assert [lane.kind for lane in made] == ["client", "client"]
        assert len([one for one in caplog.records if "it was rewritten" in one.message]) == 1
        with pytest.raises(OptionError, match="it was rewritten"):
            make_lane("raw", *arguments, read_committed=True)
    finally:
        lanes.raw_lane_strangeness.cache_clear()
        directory.close()
