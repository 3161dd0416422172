"""The one-liner that runs a graph."""

import operator
import time

import pytest

from aiostream_engine.errors import OptionError, SourceError, StepError
from aiostream_engine.testing import ABORT, PAUSE, LeakCheck, run_batches


async def test_words_are_counted_batch_by_batch():
    counts = await run_batches(
        lambda lines: lines.flat_map(str.split).map(lambda w: (w, 1)).reduce_by_key(operator.add),
        [["a b a"], [], ["b"]],
    )
    assert [sorted(batch) for batch in counts] == [[("a", 2), ("b", 1)], [], [("b", 1)]]


async def test_records_keep_their_order_and_a_pause_is_an_empty_batch():
    assert await run_batches(lambda s: s.map(lambda x: -x), [[1, 2, 3, 4, 5], PAUSE, [6]]) == [
        [-1, -2, -3, -4, -5],
        [],
        [-6],
    ]


async def test_a_batch_in_which_the_stream_is_not_due_is_none():
    given = await run_batches(lambda s: s.window(2, 2), [[1], [2], [3], [4]], interval=1)
    assert given == [None, [1, 2], None, [3, 4]]


async def test_more_batches_than_the_input_has_are_empty():
    assert await run_batches(lambda s: s.map(str), [[1]], batches=3) == [["1"], [], []]


async def test_each_input_is_a_stream_and_a_shorter_one_goes_on_empty():
    given = await run_batches(lambda left, right: left.union(right), [[1], [2]], [["x"]])
    assert given == [[1, "x"], [2]]


async def test_no_time_is_waited_for():
    began = time.monotonic()
    await run_batches(lambda s: s.map(str), [[1]] * 20, interval=3600)
    assert time.monotonic() - began < 30


async def test_a_failing_step_raises_its_error():
    with pytest.raises(StepError, match="ZeroDivisionError"):
        await run_batches(lambda s: s.map(lambda x: 1 // x), [[1], [0]])


async def test_a_dying_source_raises_its_error():
    with pytest.raises(SourceError, match="aborted by its script"):
        await run_batches(lambda s: s.map(str), [[1], ABORT])


async def test_build_must_return_a_stream():
    with pytest.raises(OptionError, match="not NoneType"):
        await run_batches(lambda s: s.pprint(), [[1]])


async def test_a_graph_without_input_is_refused():
    with pytest.raises(OptionError, match="at least one input"):
        await run_batches(lambda: None)


async def test_nothing_is_left_behind():
    async with LeakCheck():
        await run_batches(lambda s: s.map(str), [[1]])
