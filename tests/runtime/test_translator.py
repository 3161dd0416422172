"""RDDs of the streams of a graph: what is kept, for how long, and what windows are made of."""

from __future__ import annotations

import operator
from typing import Any

import pytest

from aiostream_engine.config import SchedulerConfig
from aiostream_engine.plan.graph import walk_streams
from aiostream_engine.runtime.translator import _retention
from aiostream_engine.types import BatchTime
from tests.stage import Stage


def retention(stage: Stage, *streams: Any, remember_ms: int = 0) -> list[int]:
    """Milliseconds that each stream's RDDs are kept after their batch."""
    nodes = list(walk_streams([stream.node for stream in streams]))
    kept = _retention(nodes, stage.ssc.interval_ms, remember_ms)
    return [kept[stream.node.id] for stream in (stage.stream, *streams)]


def test_a_plain_stream_is_kept_for_its_batch_only():
    """DS-6."""
    stage = Stage()
    assert retention(stage, stage.stream.map(str)) == [0, 0]


def test_the_parent_of_a_window_is_kept_for_slide_and_length():
    """DS-6, WIN-7."""
    stage = Stage()
    parent = stage.stream.map(str)
    window = parent.window(6, 2)
    assert retention(stage, window, parent) == [0, 0, 8000]


def test_the_longest_of_several_windows_counts():
    """DS-6."""
    stage = Stage()
    assert retention(stage, stage.stream.window(3), stage.stream.window(9, 3))[0] == 12000


def test_all_streams_are_kept_as_long_as_is_to_be_remembered():
    """CTX-18."""
    stage = Stage()
    assert retention(stage, stage.stream.map(str), remember_ms=60_000) == [60_000, 60_000]


async def test_a_window_over_the_very_blocks_of_an_input_keeps_them():
    """WIN-7: a transform that hands the input's RDD on."""
    big = "x" * 100_000
    stage = Stage([[big + "1"], [big + "2"], [big + "3"], []])
    stage.look(stage.stream.transform(lambda rdd: rdd).window(3).map(lambda x: x[-1]))
    stage.look(stage.ssc.union(stage.stream).window(2).map(lambda x: x[-1]))
    await stage.play(4)
    assert stage.records[-1] == ["3"]


async def test_an_rdd_that_is_handed_in_again_and_again_is_kept_while_it_is_used():
    """SRC-16: the default of a queue."""
    stage = Stage()
    default = stage.ssc.engine.parallelize(["d" * 100])
    stream = stage.ssc.queue_stream([["q"]], default=default)
    stage.look(stream.map(len).window(2))
    stage.stream.foreach_rdd(lambda rdd: None)
    await stage.play(4)
    assert [sorted(records) for records in stage.records] == [[1], [1, 100], [100, 100], [100, 100]]


async def test_persisting_an_rdd_of_ones_own_outlives_its_batches():
    """DS-7: the engine lets go of what it marked, not of what the user did."""
    stage = Stage()
    calls = stage.ssc.engine.accumulator(0)
    kept: list[Any] = []

    def once(rdd: Any) -> Any:
        if not kept:
            table = rdd.context.parallelize([("k", 1)]).map(lambda pair: (calls.add(1), pair)[1])
            kept.append(table.persist())
        return kept[0]

    stream = stage.stream.transform(once)
    stage.look(stream)
    stage.look(stream.map(lambda x: x))
    await stage.play(4)
    assert stage.records == [[("k", 1)]] * 4
    assert calls.value == 1


DATA = SchedulerConfig(trigger="data", gap_min_s=0)


async def early(build: Any, offsets: list[float], *, until: float) -> tuple[dict[BatchTime, Any], list[int]]:
    """Records 1, 2, 4, … at ``offsets`` seconds, each cut at once; an interval of 1 s."""
    stage = Stage(interval=1, scheduler=DATA)
    stage.look(build(stage.stream))
    now = 0.0
    async with stage.started():
        for number, offset in enumerate(offsets):
            cuts = len(stage.commits)
            await stage.clock.advance(offset - now)
            now = offset
            await stage.until(lambda: len(stage.commits) == len(stage.sources[0].cuts))
            cuts = len(stage.commits)
            stage.sources[0].append([("k", 2**number)])
            await stage.until(lambda: len(stage.commits) > cuts)  # noqa: B023
        while now < until:
            now += 0.5
            await stage.clock.advance(0.5)
            await stage.until(lambda: len(stage.commits) == len(stage.sources[0].cuts))
    return stage.seen, [int(time) for time in stage.commits]


@pytest.mark.parametrize("inverse", [None, operator.sub])
async def test_with_batches_at_any_time_a_tumbling_window_has_each_record_once(inverse: Any):
    """WIN-5: labels fall between the slides, windows end at them."""
    offsets = [0.1, 0.35, 0.9, 1.2, 1.95, 2.05, 2.4, 3.9, 4.1, 4.2]
    seen, commits = await early(
        lambda s: s.reduce_by_key_and_window(operator.add, inverse, 2, 2), offsets, until=8
    )
    assert any(label % 1000 for label in commits)
    assert sum(batch[0][1] for batch in seen.values() if batch) == 2 ** len(offsets) - 1
    by_window: dict[int, int] = {}
    for number, offset in enumerate(offsets):
        end = int(offset // 2 + 1) * 2
        by_window[end] = by_window.get(end, 0) + 2**number
    sums = [batch[0][1] for _, batch in sorted(seen.items()) if batch]
    assert [x for x in sums if x] == list(by_window.values())


async def test_with_batches_at_any_time_windows_are_due_at_their_slides_only():
    """WIN-3."""
    seen, commits = await early(lambda s: s.count_by_window(3), [0.2, 0.4, 1.5], until=4)
    assert len(commits) > len(seen)
    assert [records for _, records in sorted(seen.items())] == [[2], [3], [3], [1]]
