"""A stream's plan can be read at each named stage, before anything runs."""

from __future__ import annotations

import operator

import pytest

from aiostream_engine import StreamingContext
from aiostream_engine.errors import OptionError


def word_count() -> StreamingContext:
    ssc = StreamingContext(0.5, "local[2]")
    lines = ssc.socket_text_stream("127.0.0.1", 9)
    pairs = lines.flat_map(str.split).map(lambda word: (word, 1))
    pairs.reduce_by_key(operator.add).pprint()
    pairs.reduce_by_key_and_window(operator.add, operator.sub, 2, 1).pprint()
    return ssc


def test_without_a_stage_the_graph_and_the_promises_are_shown() -> None:
    text = word_count().explain()
    assert "reduce_by_key_and_window (window 2000 ms, slide 1000 ms)" in text
    assert "at most once" in text


def test_the_logical_plan_is_the_lineage_of_each_output() -> None:
    text = word_count().explain("logical")
    assert text.count("output pprint") == 2
    assert "Exchange reduce_by_key by HashPartitioner(2)" in text
    assert "StateNode reduce_by_key_and_window" in text


def test_the_physical_plan_is_cut_at_the_shuffle() -> None:
    first = word_count().explain("physical").split("\n\n")[0]
    assert first.count("stage ") == 3  # two titles, and the one that says what comes before
    assert "stage 1: reduce_by_key (2 tasks, after stage 0)" in first


def test_the_optimised_plan_shows_what_the_rules_made() -> None:
    first = word_count().explain("optimised").split("\n\n")[0]
    assert "read words of text" in first
    assert "count to 2 by HashPartitioner" in first


def test_the_code_is_what_the_workers_run() -> None:
    assert "def stage(rt):" in word_count().explain("code")


def test_a_transform_of_the_user_is_not_called_to_explain() -> None:
    ssc = StreamingContext(0.5, "local")
    calls = []

    def look(rdd: object) -> object:
        calls.append(rdd)
        return rdd

    ssc.queue_stream([[1]]).transform(look).pprint()
    assert "transform" in ssc.explain("physical")
    assert calls == []


def test_an_unknown_stage_is_refused_with_the_known_ones() -> None:
    with pytest.raises(OptionError, match="logical, physical, optimised, code"):
        word_count().explain("fancy")
