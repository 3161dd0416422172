"""What each operation of a stream gives, batch by batch."""

from __future__ import annotations

import itertools
import operator
from datetime import UTC, datetime
from typing import Any

import pytest

from aiostream_engine import DStream, EngineContext, StreamingContext
from aiostream_engine.errors import BlocksReleasedError, GraphError, LifecycleError, OptionError, StepError
from aiostream_engine.operators.partitioners import HashPartitioner
from aiostream_engine.testing import PAUSE, run_batches
from aiostream_engine.types import BatchTime, StorageLevel
from tests.stage import Stage


def unordered(batches: list[list[Any] | None]) -> list[list[Any] | None]:
    """Batches whose records may come in any order, made comparable."""
    return [None if batch is None else sorted(batch, key=repr) for batch in batches]


# -- record by record ------------------------------------------------------------------------------


async def test_map_filter_and_flat_map_go_record_by_record():
    """TR-1."""
    batches = [[1, 2, 3], [4]]
    assert await run_batches(lambda s: s.map(lambda x: x * 10), batches) == [[10, 20, 30], [40]]
    assert await run_batches(lambda s: s.filter(lambda x: x % 2), batches) == [[1, 3], []]
    assert await run_batches(lambda s: s.flat_map(range), batches) == [[0, 0, 1, 0, 1, 2], [0, 1, 2, 3]]


async def test_flat_map_of_a_string_gives_its_characters():
    """TR-1."""
    assert await run_batches(lambda s: s.flat_map(lambda w: w), [["ab", "c"]]) == [["a", "b", "c"]]


async def test_map_partitions_is_called_once_a_partition_also_for_empty_ones():
    """TR-2."""

    def lengths(s: DStream[int]) -> DStream[int]:
        return s.repartition(3).map_partitions(lambda records: [len(list(records))])

    given = await run_batches(lengths, [[7], [1, 2, 3]])
    assert sorted(given[0] or []) == [0, 0, 1]
    assert (len(given[1] or []), sum(given[1] or [])) == (3, 3)


async def test_map_partitions_is_not_called_where_there_is_no_partition():
    """TR-2."""

    def build(s: DStream[int]) -> DStream[str]:
        nothing = s.transform(lambda rdd: rdd.context.empty_rdd())
        return nothing.map_partitions(lambda records: ["called"])

    assert await run_batches(build, [[1]]) == [[]]


async def test_map_partitions_with_index_says_which_partition():
    """TR-3."""
    given = await run_batches(
        lambda s: s.map_partitions_with_index(lambda i, records: [(i, list(records))]),
        [[1, 2, 3, 4]],
        parallelism=2,
    )
    assert given == [[(0, [1, 2]), (1, [3, 4])]]


async def test_map_batches_gets_a_partition_as_one_list():
    given = await run_batches(
        lambda s: s.map_batches(lambda records: [sum(records)]), [[1, 2, 3, 4]], parallelism=2
    )
    assert given == [[3, 7]]


async def test_glom_gives_a_list_a_partition_also_of_empty_ones():
    """TR-4."""
    given = await run_batches(lambda s: s.filter(lambda x: x < 3).glom(), [[1, 2, 3, 4]], parallelism=2)
    assert given == [[[1, 2], []]]


async def test_repartition_spreads_the_records_over_so_many_partitions():
    """TR-5."""
    given = await run_batches(lambda s: s.repartition(4).glom(), [list(range(20))])
    parts = given[0]
    assert parts is not None
    assert sorted(map(len, parts)) == [5, 5, 5, 5]
    assert sorted(itertools.chain(*parts)) == list(range(20))


def test_repartition_needs_a_partition():
    """TR-5."""
    with pytest.raises(OptionError, match="at least 1"):
        Stage().stream.repartition(0)


async def test_records_of_a_partition_keep_their_order_through_narrow_steps():
    """TR-17."""

    def build(s: DStream[int]) -> DStream[int]:
        return s.map(lambda x: x + 1).filter(lambda x: x % 3).flat_map(lambda x: (x, -x))

    given = await run_batches(build, [list(range(100))])
    assert given == [[y for x in range(1, 101) if x % 3 for y in (x, -x)]]


# -- whole batches ---------------------------------------------------------------------------------


async def test_union_gives_the_partitions_of_all_in_order_and_keeps_duplicates():
    """TR-6."""
    assert await run_batches(lambda a, b: a.union(b), [[1, 2]], [[2, 3]]) == [[1, 2, 2, 3]]
    given = await run_batches(lambda a, b, c: a.context.union(c, a, b), [[1]], [[2]], [[3]])
    assert given == [[3, 1, 2]]


async def test_union_goes_on_where_one_stream_has_no_rdd():
    """TR-6."""
    given = await run_batches(lambda a, b: a.union(b.transform(lambda _: None)), [[1]], [[2]])
    assert given == [[1]]


def test_union_needs_streams_of_one_slide():
    """TR-6."""
    stage = Stage((), ())
    with pytest.raises(GraphError, match="one slide"):
        stage.streams[0].union(stage.streams[1].window(2, 2))


def test_streams_of_two_contexts_do_not_mix():
    """TR-6."""
    with pytest.raises(GraphError, match="one context"):
        Stage().stream.union(Stage().stream)


def test_a_union_of_no_streams_is_refused():
    with pytest.raises(OptionError, match="at least one"):
        StreamingContext(1, "local").union()


async def test_count_gives_one_number_a_batch_and_zero_for_an_empty_one():
    """TR-7."""
    assert await run_batches(lambda s: s.count(), [[5, 6, 7], [], [8]]) == [[3], [0], [1]]


async def test_count_gives_zero_for_an_rdd_without_partitions():
    """TR-7."""
    given = await run_batches(lambda s: s.transform(lambda r: r.context.empty_rdd()).count(), [[1]])
    assert given == [[0]]


async def test_reduce_gives_one_record_and_nothing_for_an_empty_batch():
    """TR-8."""
    assert await run_batches(lambda s: s.reduce(operator.add), [[1, 2, 3, 4], [], [9]]) == [[10], [], [9]]


async def test_count_by_value_counts_equal_records_and_gives_nothing_for_an_empty_batch():
    """TR-9."""
    given = await run_batches(lambda s: s.count_by_value(), [["a", "b", "a", None], []])
    assert unordered(given) == [[("a", 2), ("b", 1), (None, 1)], []]


async def test_transform_is_called_in_the_driver_once_a_batch_also_for_an_empty_one():
    """TR-10."""
    calls: list[BatchTime] = []

    def f(rdd: Any, time: BatchTime) -> Any:
        calls.append(time)
        return rdd.map(lambda x: -x)

    assert await run_batches(lambda s: s.transform(f), [[1], [], [2]]) == [[-1], [], [-2]]
    assert calls == [1000, 2000, 3000]


async def test_transform_may_run_actions_as_a_coroutine():
    """TR-10."""

    async def above_average(rdd: Any) -> Any:
        mean = await rdd.mean()
        return rdd.filter(lambda x: x > mean)

    assert await run_batches(lambda s: s.transform(above_average), [[1, 2, 6]]) == [[6]]


async def test_transform_that_gives_none_has_no_rdd_in_that_batch():
    """TR-10, DS-2: None is not an empty RDD: the output is not called."""
    given = await run_batches(
        lambda s: s.transform(lambda rdd, time: rdd if time == 2000 else None), [[1], [2], [3]]
    )
    assert given == [None, [2], None]


async def test_an_empty_rdd_is_an_rdd():
    """DS-2."""
    given = await run_batches(lambda s: s.transform(lambda rdd: rdd.context.empty_rdd()), [[1]])
    assert given == [[]]


async def test_transform_must_give_an_rdd():
    """TR-10."""
    with pytest.raises(GraphError, match="must return an RDD or None, not list"):
        await run_batches(lambda s: s.transform(lambda rdd: [1]), [[1]])


async def test_an_rdd_of_another_context_is_refused():
    """TR-10."""
    async with EngineContext("local") as other:
        with pytest.raises(GraphError, match="another context"):
            await run_batches(lambda s: s.transform(lambda rdd: other.parallelize([1])), [[1]])


async def test_transform_with_gets_both_rdds_and_an_empty_one_for_a_missing():
    """TR-11."""

    def build(a: DStream[int], b: DStream[int]) -> DStream[int]:
        sparse = b.transform(lambda rdd, time: rdd if time == 1000 else None)
        return a.transform_with(lambda left, right: left.union(right.map(lambda x: x * 10)), sparse)

    assert await run_batches(build, [[1], [2]], [[3], [4]]) == [[1, 30], [2]]


async def test_transform_with_may_take_the_time():
    """TR-11."""

    def tagged(left: Any, right: Any, time: BatchTime) -> Any:
        return left.union(right).map(lambda x: (time.seconds, x))

    given = await run_batches(lambda a, b: a.transform_with(tagged, b), [[1]], [[2]])
    assert given == [[(1.0, 1), (1.0, 2)]]


async def test_a_transform_of_many_streams_gets_their_rdds_in_the_listed_order():
    """TR-12."""

    def rotated(rdds: list[Any], time: BatchTime) -> Any:
        return rdds[2].union(rdds[0]).union(rdds[1]).map(lambda x: (x, int(time)))

    given = await run_batches(lambda a, b, c: a.context.transform([a, b, c], rotated), [[1]], [[2]], [[3]])
    assert given == [[(3, 1000), (1, 1000), (2, 1000)]]


async def test_transform_may_give_an_rdd_of_any_kind():
    """TR-13."""
    given = await run_batches(lambda s: s.transform(lambda rdd: rdd.cartesian(rdd)), [[1, 2]])
    assert unordered(given) == [[(1, 1), (1, 2), (2, 1), (2, 2)]]


def test_a_batch_time_is_milliseconds_and_an_aware_datetime():
    """TR-14."""
    time = BatchTime(1_700_000_000_250)
    assert time.datetime == datetime(2023, 11, 14, 22, 13, 20, 250_000, tzinfo=UTC)
    assert (time.seconds, str(time)) == (1_700_000_000.25, "2023-11-14 22:13:20.250Z")


async def test_an_error_in_a_transform_function_stops_the_stream_and_is_raised():
    """TR-15, SCH-7: unlike the original no batch is skipped."""
    stage = Stage([[1], [2], [3]])

    def f(rdd: Any, time: BatchTime) -> Any:
        return rdd.map(1 // (2000 - time))

    stage.look(stage.stream.transform(lambda rdd, time: f(rdd, time) if time == 2000 else rdd))
    async with stage.started():
        await stage.batch()
        await stage.clock.advance(1)
        await stage.stopped()
    with pytest.raises(ZeroDivisionError):
        await stage.ssc.await_termination()
    assert stage.records == [[1]]


async def test_shuffles_use_the_parallelism_of_the_context():
    """TR-16."""
    given = await run_batches(
        lambda s: s.map(lambda x: (x, 1)).group_by_key().glom(), [list(range(50))], parallelism=5
    )
    assert len(given[0] or []) == 5


# -- pairs -----------------------------------------------------------------------------------------

PAIRS = [[("a", 1), ("b", 2), ("a", 3)], [("a", 4)], []]


async def test_group_by_key_groups_within_the_batch():
    """PR-1."""
    given = await run_batches(lambda s: s.group_by_key().map_values(sorted), PAIRS)
    assert unordered(given) == [[("a", [1, 3]), ("b", [2])], [("a", [4])], []]


async def test_reduce_by_key_reduces_within_the_batch_and_leaves_single_values_alone():
    """PR-2."""

    def only_ints(a: int, b: int) -> int:
        return a + b

    given = await run_batches(
        lambda s: s.reduce_by_key(only_ints), [[("a", 1), ("a", 3), ("z", "single")], []]
    )
    assert unordered(given) == [[("a", 4), ("z", "single")], []]


@pytest.mark.parametrize("map_side", [True, False])
async def test_combine_by_key_makes_merges_and_combines(map_side: bool):
    """PR-3."""

    def build(s: DStream[Any]) -> DStream[Any]:
        return s.combine_by_key(
            lambda v: [v], lambda acc, v: [*acc, v], lambda a, b: a + b, map_side=map_side
        ).map_values(sorted)

    assert unordered(await run_batches(build, PAIRS)) == [[("a", [1, 3]), ("b", [2])], [("a", [4])], []]


async def test_map_values_and_flat_map_values_keep_keys_and_their_places():
    """PR-4."""
    partitioner = HashPartitioner(3)
    kept: list[Any] = []

    def build(s: DStream[Any]) -> DStream[Any]:
        placed = s.reduce_by_key(operator.add, partitioner=partitioner)
        changed = placed.map_values(lambda v: v * 10).flat_map_values(lambda v: (v, -v))
        return changed.transform(lambda rdd: (kept.append(rdd.node.partitioner), rdd)[1])

    given = await run_batches(build, PAIRS[:1])
    assert unordered(given) == [[("a", -40), ("a", 40), ("b", -20), ("b", 20)]]
    assert kept == [partitioner]


async def test_partition_by_puts_pairs_where_the_function_says():
    """PR-5."""
    given = await run_batches(lambda s: s.partition_by(3, len).glom(), [[("a", 1), ("bb", 2), ("ccc", 3)]])
    assert given == [[[("ccc", 3)], [("a", 1)], [("bb", 2)]]]


async def test_keys_values_and_key_by_take_pairs_apart_and_make_them():
    assert await run_batches(lambda s: s.keys(), PAIRS[:1]) == [["a", "b", "a"]]
    assert await run_batches(lambda s: s.values(), PAIRS[:1]) == [[1, 2, 3]]
    assert await run_batches(lambda s: s.key_by(len), [["ab"]]) == [[(2, "ab")]]


LEFT, RIGHT = [[("a", 1), ("b", 2), ("a", 3)]], [[("a", "x"), ("c", "y")]]


async def test_cogroup_gives_each_key_of_either_side_with_both_lists():
    """PR-6."""
    given = await run_batches(lambda a, b: a.cogroup(b), LEFT, RIGHT)
    plain = [(key, [sorted(values) for values in groups]) for key, groups in given[0] or []]
    assert sorted(plain) == [("a", [[1, 3], ["x"]]), ("b", [[2], []]), ("c", [[], ["y"]])]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("join", [("a", (1, "x")), ("a", (3, "x"))]),
        ("left_outer_join", [("a", (1, "x")), ("a", (3, "x")), ("b", (2, None))]),
        ("right_outer_join", [("a", (1, "x")), ("a", (3, "x")), ("c", (None, "y"))]),
        ("full_outer_join", [("a", (1, "x")), ("a", (3, "x")), ("b", (2, None)), ("c", (None, "y"))]),
    ],
)
async def test_joins_pair_the_values_of_a_key_within_the_batch(method: str, expected: list[Any]):
    """PR-7."""
    given = await run_batches(lambda a, b: getattr(a, method)(b), [*LEFT, []], [*RIGHT, [("a", 0)]])
    assert sorted(given[0] or [], key=repr) == expected
    assert given[1] == ([("a", (None, 0))] if method in ("right_outer_join", "full_outer_join") else [])


async def test_a_stream_joins_a_static_rdd_that_may_be_swapped():
    """PR-8."""
    stage = Stage([[("a", 1)], [("a", 2)]])
    tables = [[("a", "old")], [("a", "new")]]
    stage.look(stage.stream.transform(lambda rdd: rdd.join(rdd.context.parallelize(tables.pop(0)))))
    await stage.play(2)
    assert stage.records == [[("a", (1, "old"))], [("a", (2, "new"))]]


async def test_windows_of_one_slide_join():
    """PR-9."""
    given = await run_batches(
        lambda a, b: a.window(2).join(b.window(3)),
        [[("k", 1)], [("k", 2)], []],
        [[("k", "x")], [], []],
    )
    assert unordered(given) == [
        [("k", (1, "x"))],
        [("k", (1, "x")), ("k", (2, "x"))],
        [("k", (2, "x"))],
    ]


def test_windows_of_different_slides_do_not_join():
    """PR-9."""
    stage = Stage((), ())
    with pytest.raises(GraphError, match="window both alike"):
        stage.streams[0].window(2, 2).join(stage.streams[1].window(4, 4))


# -- the contract ----------------------------------------------------------------------------------


async def test_a_stream_with_two_outputs_is_computed_once_a_batch():
    """DS-1."""
    stage = Stage([[1, 2], [3]])
    calls = stage.ssc.engine.accumulator(0)
    made: list[Any] = []
    shared = stage.stream.map(lambda x: (calls.add(1), x)[1]).transform(
        lambda rdd: (made.append(rdd), rdd)[1]
    )
    stage.look(shared)
    stage.look(shared.map(lambda x: -x))
    await stage.play(2)
    assert (calls.value, len(made)) == (3, 2)


async def test_outputs_of_empty_batches_run():
    """DS-3, DS-4: and such batches have their events, unlike in the original."""
    stage = Stage([[1], PAUSE, []])
    stage.look(stage.stream)
    await stage.play(3)
    assert stage.records == [[1], [], []]
    kinds = [type(event).__name__ for event in stage.events]
    assert kinds.count("BatchCompleted") == 3


def test_streams_have_the_slide_of_their_parent_and_windows_their_own():
    """DS-5."""
    stage = Stage(interval=0.5)
    assert stage.stream.map(str).filter(bool).node.slide_ms == 500
    window = stage.stream.window(4, 2)
    assert (window.node.slide_ms, window.map(str).node.slide_ms) == (2000, 2000)
    assert repr(window) == "DStream(window(4 s, 2 s), slide=2000 ms)"


async def test_memory_is_flat_however_many_batches_run():
    """DS-6, DS-7: what no later batch needs is let go when a batch is committed."""
    big = "x" * 100_000  # does not fit into a reference, so that each block is a file
    stage = Stage([[(i % 3, big)] for i in range(40)])
    s = stage.stream
    shared = s.map_values(len, on_error="dead-letter", name="shared")
    shared.foreach_rdd(lambda rdd: None)
    shared.dead_letters().foreach_rdd(lambda rdd: None)
    s.map(lambda pair: pair, on_error="dead-letter").dead_letters().foreach_rdd(lambda rdd: None)
    stage.look(s.window(3).count())
    s.reduce_by_key_and_window(max, None, 4, 2).foreach_rdd(lambda rdd: None)
    s.transform(lambda rdd: rdd).window(2).foreach_rdd(lambda rdd: None)
    s.update_state_by_key(lambda new, old: len(new) + (old or 0)).foreach_rdd(lambda rdd: None)
    s.map_with_state(lambda key, value, state: value).foreach_rdd(lambda rdd: None)
    sizes = []
    async with stage.started():
        runner = stage.ssc.engine.runner
        for _ in range(4):
            await stage.batch(10)
            sizes.append(
                [
                    stage.ssc.engine.statistics().blocks.files,
                    len(runner._marked),
                    len(runner._kept),
                    len(runner._sides),
                    len(runner._locks),
                    sum(map(len, stage.ssc._translator._rdds.values())),  # type: ignore[union-attr]
                    len(stage.ssc._translator._uses),  # type: ignore[union-attr]
                    len(stage.ssc._translator._held),  # type: ignore[union-attr]
                    sum(map(len, stage.ssc._translator._inputs.values())),  # type: ignore[union-attr]
                    len(stage.ssc._driver._done),  # type: ignore[union-attr]
                    len(stage.ssc._driver._timings),  # type: ignore[union-attr]
                ]
            )
    await stage.ssc.await_termination()
    assert sizes[1:] == [sizes[1]] * 3
    assert stage.records[-1] == [3]


async def test_nothing_of_a_stream_stays_on_an_engine_that_lives_on():
    """DS-7, CTX-10: on a shared engine."""
    async with EngineContext("local") as engine:
        for _ in range(2):
            stage = Stage([[("k", "x" * 100_000)] for _ in range(9)], engine=engine)
            s = stage.stream
            stage.look(s.window(3).count())
            stage.look(s.update_state_by_key(lambda new, old: len(new) + (old or 0)))
            async with stage.started():
                await stage.batch(3)
                await stage.clock.advance(1)
            assert stage.seen[BatchTime(3000)] == [("k", 3)]
        assert engine.statistics().blocks.files == 0
        assert engine.statistics().states == ()
        assert await engine.parallelize([1]).map(lambda x: x).collect() == [1]
        assert engine.runner.executor._environment.states == {}  # type: ignore[attr-defined]


async def test_slice_gives_the_remembered_rdds_of_a_closed_range_of_labels():
    """DS-8, CTX-18."""
    stage = Stage([[n] for n in range(1, 7)])
    stage.ssc.remember(3)
    doubled = stage.stream.map(lambda x: x * 2)
    doubled.foreach_rdd(lambda rdd: None)
    async with stage.started():
        await stage.batch(6)
        by_seconds = doubled.slice(4, 5.5)
        assert [(int(time), await rdd.collect()) for time, rdd in by_seconds] == [(4000, [8]), (5000, [10])]
        everything = doubled.slice(0, datetime.fromtimestamp(100, UTC))
        assert [int(time) for time, _ in everything] == [4000, 5000, 6000]


async def test_what_is_not_remembered_cannot_be_sliced():
    """DS-8."""
    stage = Stage([[1], [2]])
    stage.stream.foreach_rdd(lambda rdd: None)
    with pytest.raises(LifecycleError, match="started"):
        stage.stream.slice(0, 1)
    async with stage.started():
        await stage.batch(2)
        assert stage.stream.slice(0, 10) == []


def test_slice_refuses_a_time_without_a_zone():
    """DS-8."""
    with pytest.raises(OptionError, match="no time zone"):
        Stage().stream.slice(datetime(2024, 1, 1), 5)


async def test_an_rdd_that_is_used_after_its_batch_says_so():
    """DS-7: and how to keep it."""
    stage = Stage([["x" * 100_000], ["y" * 100_000], []])
    kept: list[Any] = []
    stage.stream.map(str.upper).foreach_rdd(kept.append)
    async with stage.started():
        await stage.batch(2)
        with pytest.raises(BlocksReleasedError):
            await kept[0].collect()


# -- persistence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [lambda s: s.cache(), lambda s: s.persist(StorageLevel.MEMORY)])
async def test_a_persisted_stream_is_computed_once_for_all_actions_of_a_batch(how: Any):
    """PER-1."""
    stage = Stage([[1, 2, 3], [4]])
    calls = stage.ssc.engine.accumulator(0)
    counted = stage.stream.map(lambda x: (calls.add(1), x)[1])
    kept = how(counted)
    assert kept is counted

    async def twice(rdd: Any) -> None:
        assert await rdd.count() == len(await rdd.collect())

    kept.foreach_rdd(twice)
    await stage.play(2)
    assert calls.value == 4


async def test_persist_after_start_is_refused():
    """PER-2."""
    stage = Stage([[1]])
    stage.stream.foreach_rdd(lambda rdd: None)
    async with stage.started():
        with pytest.raises(GraphError, match="before start"):
            stage.stream.persist()


async def test_persist_twice_is_as_once_and_an_unknown_level_is_refused():
    """PER-3."""
    stage = Stage([[1]])
    stage.look(stage.stream.persist().persist(StorageLevel.DISK))
    with pytest.raises(ValueError, match="nowhere"):
        stage.stream.persist("nowhere")  # type: ignore[arg-type]
    await stage.play(1)
    assert stage.records == [[1]]


async def test_parents_of_windows_are_kept_without_asking():
    """PER-4, WIN-6."""
    stage = Stage([[1], [2], [3], [4]])
    calls = stage.ssc.engine.accumulator(0)
    stage.look(stage.stream.map(lambda x: (calls.add(1), x)[1]).window(3))
    await stage.play(4)
    assert calls.value == 4
    assert stage.records[-1] == [2, 3, 4]


# -- errors of records -----------------------------------------------------------------------------


async def test_a_record_that_fails_stops_the_stream_and_is_named():
    stage = Stage([[1], [5, 0]])
    stage.look(stage.stream.map(lambda x: 10 // x, name="divide"))
    with pytest.raises(StepError) as caught:
        await stage.play(2)
    error = caught.value
    assert (error.step, error.batch, error.record) == ("divide", 2000, "0")
    assert "ZeroDivisionError" in error.worker_traceback


async def test_skipped_records_are_left_out_and_counted():
    stage = Stage([[1, 0, 2], [0]])
    stage.look(stage.stream.map(lambda x: 10 // x, name="divide", on_error="skip"))
    async with stage.started():
        await stage.batch(2)
        assert stage.ssc.engine.statistics().counters["skipped:divide"] == 2
    assert stage.records == [[10, 5], []]


async def test_a_record_is_tried_again_as_often_as_asked():
    stage = Stage([[3]])
    tries = stage.ssc.engine.accumulator(0)

    def third_time_lucky(x: int, seen: list[int] = []) -> int:  # noqa: B006 - counts tries
        tries.add(1)
        seen.append(x)
        if len(seen) < 3:
            raise ConnectionError("not yet")
        return x

    stage.look(stage.stream.map(third_time_lucky, retries=2))
    await stage.play(1)
    assert stage.records == [[3]]
    assert tries.value == 3


async def test_dead_letters_are_a_stream_with_record_step_batch_and_traceback():
    stage = Stage([[1, 0], [2], [0, 0]])
    parsed = stage.stream.map(lambda x: 10 // x, name="divide", on_error="dead-letter", retries=1)
    stage.look(parsed)
    letters: list[Any] = []

    async def keep(rdd: Any) -> None:
        letters.extend(await rdd.collect())

    parsed.dead_letters().foreach_rdd(keep)
    await stage.play(3)
    assert stage.records == [[10], [5], []]
    assert [(x.step, x.batch, x.record, x.error_type, x.attempts) for x in letters] == [
        ("divide", 1000, 0, "ZeroDivisionError", 2),
        ("divide", 3000, 0, "ZeroDivisionError", 2),
        ("divide", 3000, 0, "ZeroDivisionError", 2),
    ]
    assert all("lambda" in letter.traceback for letter in letters)


async def test_dead_letters_go_through_ordinary_steps_and_windows():
    given = await run_batches(
        lambda s: (
            s.filter(lambda x: 1 // x, on_error="dead-letter")
            .dead_letters()
            .map(lambda letter: letter.record)
            .window(2)
            .count()
        ),
        [[0], [1, 0], [1], [1]],
    )
    assert given == [[1], [2], [1], [0]]


async def test_dead_letters_that_nobody_reads_are_refused_before_anything_is_started():
    stage = Stage([[1]])
    stage.look(stage.stream.map(str, on_error="dead-letter"))
    with pytest.raises(GraphError, match="nothing reads them"):
        await stage.ssc.start()
    assert stage.sources[0].cuts == []


def test_a_step_without_dead_letters_has_none():
    with pytest.raises(GraphError, match="on_error='dead-letter'"):
        Stage().stream.map(str).dead_letters()


@pytest.mark.parametrize("bad", [{"on_error": "ignore"}, {"retries": -1}])
def test_bad_error_policies_are_refused_at_the_definition(bad: dict[str, Any]):
    with pytest.raises(OptionError):
        Stage().stream.map(str, **bad)


def test_steps_need_functions():
    with pytest.raises(OptionError, match="needs a function, not int"):
        Stage().stream.map(3)  # type: ignore[arg-type]


def test_a_stream_explains_itself():
    text = Stage().stream.map(str, name="as text").window(3).explain()
    assert "as text" in text
    assert "window(3 s, 1 s)" in text
