"""Transformations of RDDs (row RDD-3), in this process."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest

from aiostream_engine import RDD, EngineContext, OnError, StorageLevel
from aiostream_engine.errors import BlocksReleasedError, OptionError, StepError, UnpicklableError
from aiostream_engine.operators.partitioners import HashPartitioner


@pytest.fixture
async def sc() -> AsyncIterator[EngineContext]:
    async with EngineContext("local", parallelism=3) as context:
        yield context


async def parts_of(rdd: RDD[Any]) -> list[list[Any]]:
    return await rdd.glom().collect()  # type: ignore[no-any-return]


# -- record by record ------------------------------------------------------------------------------


async def test_steps_of_single_records(sc: EngineContext) -> None:
    rdd = sc.parallelize(["b a", "", "c"])
    assert await rdd.map(len).collect() == [3, 0, 1]
    assert await rdd.filter(bool).collect() == ["b a", "c"]
    assert await rdd.flat_map(str.split).collect() == ["b", "a", "c"]
    assert await rdd.key_by(len).collect() == [(3, "b a"), (0, ""), (1, "c")]
    assert await rdd.key_by(len).keys().collect() == [3, 0, 1]
    assert await rdd.key_by(len).values().collect() == ["b a", "", "c"]


async def test_steps_of_values_keep_keys_and_how_they_lie(sc: EngineContext) -> None:
    """PR-4: mapValues and flatMapValues keep the partitioner, map does not."""
    pairs = sc.parallelize([("a", 1), ("b", 2)]).partition_by(2)
    mapped = pairs.map_values(lambda v: v * 10)
    assert sorted(await mapped.collect()) == [("a", 10), ("b", 20)]
    assert sorted(await pairs.flat_map_values(range).collect()) == [("a", 0), ("b", 0), ("b", 1)]
    assert mapped.partitioner == pairs.partitioner == HashPartitioner(2)
    assert pairs.filter(bool).partitioner == HashPartitioner(2)
    assert pairs.map(lambda pair: pair).partitioner is None
    assert pairs.map(lambda pair: pair, keeps_partitioner=True).partitioner == HashPartitioner(2)


async def test_nothing_runs_before_an_action(sc: EngineContext) -> None:
    rdd = sc.parallelize([0]).map(lambda x: 1 // x)
    with pytest.raises(StepError, match="ZeroDivisionError"):
        await rdd.count()


async def test_a_step_that_is_given_no_function_is_refused_at_once(sc: EngineContext) -> None:
    with pytest.raises(OptionError, match=r"step 'double' needs a function, not int 2"):
        sc.parallelize([1]).map(2, name="double")  # type: ignore[arg-type]


# -- partition by partition --------------------------------------------------------------------------


async def test_partition_steps_see_whole_partitions_in_order_also_empty_ones(sc: EngineContext) -> None:
    """TR-2: an empty partition is visited too."""
    rdd = sc.parallelize([1, 2], 3)
    assert await rdd.map_partitions(lambda records: [list(records)]).collect() == [[], [1], [2]]
    assert await rdd.map_partitions_with_index(lambda i, records: [(i, *records)]).collect() == [
        (0,),
        (1, 1),
        (2, 2),
    ]
    assert await rdd.map_batches(lambda records: [len(records)]).collect() == [0, 1, 1]
    assert await rdd.glom().collect() == [[], [1], [2]]


@pytest.mark.parametrize(
    "moved",
    [
        lambda sc, rdd: sc.parallelize(["x"], 2).union(rdd),
        lambda sc, rdd: rdd.coalesce(1),
        lambda sc, rdd: sc.parallelize([0], 2).cartesian(rdd).values(),
        lambda sc, rdd: sc.parallelize(range(6)).zip(rdd).values(),
        lambda sc, rdd: rdd.persist(),
    ],
    ids=["union", "coalesce", "cartesian", "zip", "persist"],
)
async def test_the_index_of_a_partition_does_not_depend_on_what_comes_later(
    sc: EngineContext, moved: Any
) -> None:
    indexed = sc.parallelize("abcdef").map_partitions_with_index(lambda i, records: [(i, r) for r in records])
    found = [item for item in await moved(sc, indexed).collect() if item != "x"]
    assert sorted(found) == [(0, "a"), (0, "b"), (1, "c"), (1, "d"), (2, "e"), (2, "f")]


async def test_ids_are_unique_and_positions_consecutive(sc: EngineContext) -> None:
    rdd = sc.parallelize("abcde")
    ids = await rdd.zip_with_unique_id().collect()
    assert [record for record, _ in ids] == list("abcde")
    assert len({number for _, number in ids}) == 5
    assert ids == [("a", 0), ("b", 1), ("c", 4), ("d", 2), ("e", 5)]
    assert await rdd.zip_with_index().collect() == list(zip("abcde", range(5), strict=True))
    filtered = rdd.filter(lambda x: x != "b").zip_with_index()
    assert await filtered.collect() == [("a", 0), ("c", 1), ("d", 2), ("e", 3)]


async def test_records_go_through_an_outside_program(sc: EngineContext) -> None:
    assert await sc.parallelize([3, 1, 2], 1).pipe("sort").collect() == ["1", "2", "3"]
    assert await sc.parallelize(["a b"], 1).pipe(["tr", " ", "_"]).collect() == ["a_b"]


# -- sampling ------------------------------------------------------------------------------------------


async def test_a_sample_is_the_same_for_the_same_seed(sc: EngineContext) -> None:
    rdd = sc.range(1000)
    for replaced in (False, True):
        one = await rdd.sample(replaced, 0.3, 7).collect()
        assert one == await rdd.sample(replaced, 0.3, 7).collect()
        assert one != await rdd.sample(replaced, 0.3, 8).collect()
        assert 200 < len(one) < 400


async def test_a_sample_stays_the_same_when_it_is_read_more_than_once(sc: EngineContext) -> None:
    sample = sc.range(100).sample(False, 0.5)
    once = await sample.collect()
    assert await sample.collect() == once
    assert await sample.cartesian(sc.range(3)).keys().distinct().count() == len(once)


async def test_seeds_of_a_context_can_be_fixed() -> None:
    samples = []
    for _ in range(2):
        async with EngineContext("local", parallelism=2) as sc:
            sc.seed(42)
            samples.append(await sc.range(100).sample(False, 0.5).collect())
    assert samples[0] == samples[1]


async def test_a_random_split_is_disjoint_and_whole(sc: EngineContext) -> None:
    parts = sc.range(1000).random_split([2, 1, 1], seed=3)
    records = [await part.collect() for part in parts]
    assert sorted(record for part in records for record in part) == list(range(1000))
    assert 400 < len(records[0]) < 600


@pytest.mark.parametrize(
    "ask",
    [
        lambda rdd: rdd.sample(False, 1.5),
        lambda rdd: rdd.sample(True, -1),
        lambda rdd: rdd.random_split([]),
        lambda rdd: rdd.random_split([1, -1]),
        lambda rdd: rdd.random_split([0, 0]),
        lambda rdd: rdd.repartition(0),
        lambda rdd: rdd.coalesce(0),
    ],
)
async def test_impossible_numbers_are_refused_at_once(sc: EngineContext, ask: Any) -> None:
    with pytest.raises(OptionError):
        ask(sc.range(3))


# -- moving records ------------------------------------------------------------------------------------


async def test_repartition_deals_records_out_evenly(sc: EngineContext) -> None:
    """TR-5: the number of partitions is what was asked for, up or down."""
    sizes = [len(part) for part in await parts_of(sc.parallelize(range(60), 2).repartition(4))]
    assert sum(sizes) == 60
    assert max(sizes) - min(sizes) <= 2
    assert sorted(await sc.range(10).repartition(1).collect()) == list(range(10))


async def test_coalesce_puts_neighbours_together_and_keeps_the_order(sc: EngineContext) -> None:
    rdd = sc.parallelize(range(8), 4)
    assert await parts_of(rdd.coalesce(2)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert rdd.coalesce(9) is rdd
    assert rdd.coalesce(9, shuffle=True).get_num_partitions() == 9


async def test_distinct_records_once_each(sc: EngineContext) -> None:
    rdd = sc.parallelize(["a", "b", "a", None, ("t", 1), None], 3).distinct()
    assert sorted(map(str, await rdd.collect())) == ["('t', 1)", "None", "a", "b"]


async def test_groups_by_a_function(sc: EngineContext) -> None:
    groups = dict(await sc.range(6).group_by(lambda x: x % 2).collect())
    assert {key: sorted(values) for key, values in groups.items()} == {0: [0, 2, 4], 1: [1, 3, 5]}


# -- sorting -------------------------------------------------------------------------------------------


async def test_sorting_orders_all_records_over_partitions(sc: EngineContext) -> None:
    numbers = [7, 3, 9, 1, 1, 5, 8, 2, 2, 2]
    rdd = sc.parallelize(numbers)
    assert await rdd.sort_by(lambda x: x).collect() == sorted(numbers)
    assert await rdd.sort_by(lambda x: x, ascending=False).collect() == sorted(numbers, reverse=True)
    assert await rdd.sort_by(lambda x: -x, partitions=2).collect() == sorted(numbers, reverse=True)


async def test_sorting_pairs_by_key_or_by_what_a_function_makes_of_it(sc: EngineContext) -> None:
    pairs = sc.parallelize([("B", 1), ("a", 2), ("C", 3)])
    assert await pairs.sort_by_key().keys().collect() == ["B", "C", "a"]
    assert await pairs.sort_by_key(key=str.lower).keys().collect() == ["a", "B", "C"]
    assert await pairs.sort_by_key(False, key=str.lower).keys().collect() == ["C", "B", "a"]


async def test_equal_keys_keep_their_order(sc: EngineContext) -> None:
    pairs = [(n % 3, n) for n in range(50)]
    assert await sc.parallelize(pairs, 5).sort_by(lambda pair: pair[0]).collect() == sorted(
        pairs, key=lambda pair: pair[0]
    )


async def test_a_sort_has_the_partitions_that_it_was_asked_for(sc: EngineContext) -> None:
    same = sc.parallelize([1] * 10).sort_by(lambda x: x, partitions=4)
    assert same.get_num_partitions() == len(await parts_of(same)) == 4
    assert await sc.parallelize([], 2).sort_by(lambda x: x).collect() == []


async def test_a_sort_spreads_records_over_its_partitions(sc: EngineContext) -> None:
    sizes = [len(part) for part in await parts_of(sc.range(3000).sort_by(lambda x: -x, partitions=3))]
    assert min(sizes) > 500


async def test_records_that_cannot_be_compared_fail_in_the_sort(sc: EngineContext) -> None:
    with pytest.raises(StepError, match="not supported between"):
        await sc.parallelize([1, "a", 2, "b"], 2).sort_by(lambda x: x).collect()


# -- several RDDs --------------------------------------------------------------------------------------


async def test_union_keeps_order_and_duplicates(sc: EngineContext) -> None:
    """TR-6: the partitions of all, one after the other."""
    union = sc.parallelize([1, 2]).union(sc.parallelize([2]), sc.parallelize([3], 1))
    assert await union.collect() == [1, 2, 2, 3]
    assert union.get_num_partitions() == 7


async def test_a_union_of_parts_that_were_dealt_out_keeps_all_their_partitions(sc: EngineContext) -> None:
    dealt = sc.range(4).repartition(2)
    assert dealt.partitioner is None
    assert dealt.union(sc.range(4).repartition(2)).get_num_partitions() == 4


async def test_union_of_two_contexts_is_refused(sc: EngineContext) -> None:
    with pytest.raises(ValueError, match="one context"):
        sc.range(1).union(EngineContext("local").range(1))


async def test_set_operations(sc: EngineContext) -> None:
    a, b = sc.parallelize([1, 1, 2, 3]), sc.parallelize([2, 3, 3, 4])
    assert sorted(await a.intersection(b).collect()) == [2, 3]
    assert sorted(await a.subtract(b).collect()) == [1, 1]
    assert sorted(await a.cartesian(b.distinct()).collect()) == sorted(
        (x, y) for x in [1, 1, 2, 3] for y in [2, 3, 4]
    )


async def test_what_two_sides_share_can_be_reduced_by_key(sc: EngineContext) -> None:
    pairs = [(1, n) for n in range(20)]
    shared = sc.parallelize(pairs).intersection(sc.parallelize(pairs))
    assert await shared.reduce_by_key(lambda a, b: a + b).collect() == [(1, sum(range(20)))]


async def test_zip_pairs_by_position(sc: EngineContext) -> None:
    letters = sc.parallelize("abcd", 2)
    assert await letters.zip(sc.range(4, partitions=2)).collect() == list(zip("abcd", range(4), strict=True))
    with pytest.raises(OptionError, match="the same number of partitions"):
        letters.zip(sc.range(4, partitions=1))
    with pytest.raises(StepError, match="the same number of records"):
        await letters.zip(sc.range(3, partitions=2)).collect()


async def test_partitions_of_two_sides_go_through_one_function(sc: EngineContext) -> None:
    def merged(a: Iterator[int], b: Iterator[int]) -> Iterable[int]:
        return sorted([*a, *b])

    zipped = sc.parallelize([1, 4], 2).zip_partitions(sc.parallelize([0, 5], 2), merged)
    assert await parts_of(zipped) == [[0, 1], [4, 5]]


async def test_a_shared_parent_is_consistent_on_both_sides(sc: EngineContext) -> None:
    base = sc.range(10).map(lambda x: (x % 3, x))
    joined = await base.join(base.map_values(str)).collect()
    assert sorted(joined) == sorted(
        (a % 3, (a, str(b))) for a in range(10) for b in range(10) if a % 3 == b % 3
    )


# -- keeping -------------------------------------------------------------------------------------------


async def test_a_persisted_rdd_is_computed_once(sc: EngineContext) -> None:
    calls = sc.accumulator(0)

    def counted(x: int) -> int:
        calls.add(1)
        return x

    rdd = sc.range(6).map(counted).persist()
    assert await rdd.count() == 6
    assert await rdd.map(str).collect() == list("012345")
    assert calls.value == 6
    assert rdd.is_persisted
    rdd.unpersist()
    assert not rdd.is_persisted
    await rdd.count()
    assert calls.value == 12


async def test_two_actions_at_once_compute_a_persisted_rdd_once(sc: EngineContext) -> None:
    calls = sc.accumulator(0)

    def counted(x: int) -> int:
        calls.add(1)
        return x

    rdd = sc.range(6).map(counted).cache()
    await asyncio.gather(rdd.count(), rdd.collect(), rdd.sum())
    assert calls.value == 6


async def test_unpersisting_frees_the_blocks(sc: EngineContext) -> None:
    rdd = sc.parallelize(["x" * 50_000] * 40).map(lambda text: text + "y").persist(StorageLevel.MEMORY)
    await rdd.count()
    assert sc.statistics().blocks.bytes_held > 1_000_000
    held = sc.statistics().blocks.files
    rdd.unpersist()
    assert sc.statistics().blocks.files < held


async def test_an_action_leaves_no_blocks_behind(sc: EngineContext) -> None:
    before = sc.statistics().blocks.files
    rdd = sc.range(300_000).map(lambda x: (x % 1000, str(x) * 3))
    await rdd.group_by_key().count()
    await rdd.sort_by_key().take(3)
    assert sc.statistics().blocks.files == before


async def test_a_checkpoint_stands_for_its_lineage(sc: EngineContext) -> None:
    rdd = sc.range(3).map(lambda x: x + 1).checkpoint()
    assert await rdd.collect() == [1, 2, 3]
    assert await rdd.map(str).collect() == ["1", "2", "3"]


async def test_blocks_that_were_released_are_named_in_the_error(sc: EngineContext) -> None:
    """Not a file error: it says what to do."""
    rdd = sc.range(100_000).map(str).persist()
    await rdd.count()
    source = sc.runner.kept(rdd.node)
    rdd.unpersist()
    with pytest.raises(BlocksReleasedError, match=r"persist\(\)"):
        await sc.from_node(source).map(str).count()  # type: ignore[arg-type]


# -- what must not be sent -----------------------------------------------------------------------------


async def test_an_rdd_inside_of_another_is_refused_with_advice(sc: EngineContext) -> None:
    """A18: an RDD or a context in a closure is named before anything runs."""
    inner = sc.range(3)
    with pytest.raises(UnpicklableError, match="an RDD cannot be used inside of another's function"):
        await sc.range(3).map(lambda x: inner).collect()
    with pytest.raises(UnpicklableError, match="a context cannot be used inside"):
        await sc.range(3).map(lambda x: sc.range(x)).collect()
    with pytest.raises(UnpicklableError):
        pickle.dumps(inner)


# -- policies ------------------------------------------------------------------------------------------


def reciprocal(x: int) -> float:
    return 1 / x


async def test_skipped_records_are_counted(sc: EngineContext) -> None:
    rdd = sc.parallelize([1, 0, 2, 0]).map(reciprocal, name="reciprocal", on_error="skip")
    assert await rdd.collect() == [1.0, 0.5]
    assert sc.statistics().counters == {"skipped:reciprocal": 2}


async def test_dead_letters_are_an_rdd_of_their_own(sc: EngineContext) -> None:
    good = sc.parallelize([1, 0, 2], 3).map(
        reciprocal, name="reciprocal", on_error=OnError.DEAD_LETTER, retries=1
    )
    bad = good.dead_letters()
    (letter,) = await bad.collect()
    assert (letter.record, letter.step, letter.partition, letter.attempts) == (0, "reciprocal", 1, 2)
    assert await good.collect() == [1.0, 0.5]
    assert sc.statistics().counters == {"retried:reciprocal": 1, "dead_lettered:reciprocal": 1}
    assert await bad.map(lambda letter: letter.error_type).collect() == ["ZeroDivisionError"]


async def test_only_a_step_with_dead_letters_has_them(sc: EngineContext) -> None:
    with pytest.raises(OptionError, match="on_error='dead-letter'"):
        sc.range(3).map(str).dead_letters()


@pytest.mark.parametrize("options", [{"on_error": "explode"}, {"retries": -1}])
async def test_an_unknown_policy_is_refused_at_once(sc: EngineContext, options: Any) -> None:
    with pytest.raises(OptionError):
        sc.range(3).map(str, **options)


# -- long lineages ---------------------------------------------------------------------------------------


async def test_a_lineage_may_have_any_number_of_narrow_steps(sc: EngineContext) -> None:
    rdd: RDD[int] = sc.range(4)
    for _ in range(500):
        rdd = rdd.map(lambda x: x + 1)
    assert await rdd.collect() == [500, 501, 502, 503]


async def test_a_lineage_may_have_any_number_of_shuffles_and_kept_parts(sc: EngineContext) -> None:
    rdd: RDD[Any] = sc.parallelize([("a", 1), ("b", 2)], 1)
    for number in range(400):
        rdd = rdd.partition_by(1, lambda key, number=number: number).map_values(lambda v: v + 1)
        if number % 2:
            rdd = rdd.persist()
    assert sorted(await rdd.collect()) == [("a", 401), ("b", 402)]


# -- descriptions ----------------------------------------------------------------------------------------


async def test_an_rdd_says_what_it_is(sc: EngineContext) -> None:
    rdd = sc.parallelize(["a"]).map(str.upper, name="loud").distinct(2)
    assert repr(rdd).startswith("RDD(keys, id=")
    lines = rdd.to_debug_string().splitlines()
    assert "keys" in lines[0]
    assert "Exchange distinct by HashPartitioner(2)" in lines[1]
    assert any("Narrow loud" in line for line in lines)
    assert "Source parallelize" in lines[-1]


async def test_an_rdd_can_be_named(sc: EngineContext) -> None:
    rdd = sc.range(3).map(str)
    assert rdd.set_name("numbers") is rdd
    assert rdd.name == "numbers"
    assert "numbers" in rdd.to_debug_string()
    assert await rdd.collect() == ["0", "1", "2"]
