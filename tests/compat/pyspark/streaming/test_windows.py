"""Windows and states of the layer, where they differ from the engine's own."""

from __future__ import annotations

from operator import add, sub

import pytest

from aiostream_engine.compat.pyspark.errors import PythonException
from aiostream_engine.compat.pyspark.streaming import StreamingContext
from tests.compat.pyspark.streaming.cases import Batches, wait_for

PAIRS = [[("a", 1)], [], [("a", 2)], [], [], [], [], []]


@pytest.fixture
def pairs(ssc, tmp_path):
    ssc.checkpoint(str(tmp_path))
    return ssc.queueStream(PAIRS)


def add_up(new, total):
    return sum(new) + (total or 0)


def first(ssc, stream, count):
    batches = Batches(stream)
    ssc.start()
    return batches.first(count)


def test_a_state_rests_in_a_batch_without_rdd(ssc, pairs):
    """Row UST-4: its function is not called then, and before there is a state there is no RDD."""
    calls = ssc.sparkContext.accumulator(0)

    def count(new, total):
        calls.add(1)
        return add_up(new, total)

    some = pairs.transform(lambda rdd: None if rdd.isEmpty() else rdd)
    assert first(ssc, some.updateStateByKey(count), 5) == [[("a", 1)], [("a", 1)], *[[("a", 3)]] * 3]
    assert calls.value == 2


def test_a_function_of_two_streams_gets_empty_rdds_for_missing_ones(ssc, pairs):
    """Row TR-11."""
    none = pairs.transform(lambda rdd: None)
    both = none.transformWith(lambda a, b: a.union(b), none)
    assert first(ssc, both, 2) == [[], []]


def test_a_union_of_several_needs_all_its_rdds(ssc, pairs):
    """Rows TR-6, TR-12."""
    none = pairs.transform(lambda rdd: None)
    ssc.union(pairs, none).pprint()
    ssc.start()
    with pytest.raises(Exception, match="Could not generate RDD from a parent for unifying"):
        ssc.awaitTermination(30)


def test_long_windows_keep_keys_that_left_and_short_ones_do_not(ssc, pairs):
    """Rows WIN-14, WIN-17."""
    long, short = (Batches(pairs.reduceByKeyAndWindow(add, sub, length, 0.05)) for length in (0.25, 0.1))
    ssc.start()
    assert long.first(8) == [[("a", n)] for n in (1, 1, 3, 3, 3, 2, 2, 0)]
    assert short.first(5) == [[("a", 1)], [("a", 1)], [("a", 2)], [("a", 2)], []]


def test_a_filter_takes_keys_out_of_a_long_window(ssc, pairs):
    """Row WIN-18."""
    filtered = pairs.reduceByKeyAndWindow(add, sub, 0.25, 0.05, None, lambda pair: pair[1] > 0)
    assert first(ssc, filtered, 8)[-2:] == [[("a", 2)], []]


def test_grouped_windows_show_values_oldest_first(ssc, pairs):
    grouped = pairs.groupByKeyAndWindow(0.25, 0.05).mapValues(list)
    assert first(ssc, grouped, 8)[2:] == [[("a", n)] for n in ([1, 2], [1, 2], [1, 2], [2], [2], [])]


def test_count_tells_empty_partitions_from_none(ssc):
    """Rows TR-7, DS-2."""
    stream = ssc.queueStream([ssc.sparkContext.emptyRDD(), [1, 2]])
    assert first(ssc, stream.count(), 3) == [[], [2], [0]]


@pytest.mark.parametrize("where", ["state", "under a window"])
def test_what_later_batches_build_on_stops_the_stream_when_it_raises(ssc, pairs, where):
    def fail(*_):
        raise LookupError("on purpose")

    stream = pairs.updateStateByKey(fail) if where == "state" else pairs.map(fail).window(0.1)
    stream.foreachRDD(lambda rdd: None)
    ssc.start()
    with pytest.raises(PythonException, match=r"(?s)in fail.*LookupError: on purpose"):
        ssc.awaitTermination(30)
    wait_for(lambda: StreamingContext.getActive() is None)
