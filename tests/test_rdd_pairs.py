"""Operations of RDDs of pairs: combining, joining, lying by key."""

from __future__ import annotations

import operator
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiostream_engine import RDD, EngineContext
from aiostream_engine.errors import BadKeyError, OptionError, StepError
from aiostream_engine.operators.partitioners import HashPartitioner, RangePartitioner

PAIRS = [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("a", 5)]


@pytest.fixture
async def sc() -> AsyncIterator[EngineContext]:
    async with EngineContext("local", parallelism=3) as context:
        yield context


@pytest.fixture
def pairs(sc: EngineContext) -> RDD[Any]:
    return sc.parallelize(PAIRS)


async def sorted_lists(rdd: RDD[Any]) -> dict[Any, list[Any]]:
    return {key: sorted(values) for key, values in await rdd.collect()}


# -- combining -------------------------------------------------------------------------------------


async def test_values_are_reduced_by_key(pairs: RDD[Any]) -> None:
    """PR-2: values are combined before the shuffle and after it."""
    for add in (operator.add, lambda a, b: a + b, lambda x, y: y + x):
        assert dict(await pairs.reduce_by_key(add).collect()) == {"a": 9, "b": 2, "c": 4}


async def test_a_combiner_may_be_of_another_type(pairs: RDD[Any]) -> None:
    """PR-3: createCombiner, mergeValue and mergeCombiners, with or without combining before the shuffle."""
    for map_side in (True, False):
        combined = pairs.combine_by_key(
            lambda v: {v}, lambda s, v: s | {v}, lambda s, t: s | t, map_side=map_side
        )
        assert dict(await combined.collect()) == {"a": {1, 3, 5}, "b": {2}, "c": {4}}


async def test_values_are_grouped_by_key(pairs: RDD[Any]) -> None:
    """PR-1: all values of a key as one list."""
    assert await sorted_lists(pairs.group_by_key()) == {"a": [1, 3, 5], "b": [2], "c": [4]}


async def test_a_fold_starts_once_for_each_key_and_partition(sc: EngineContext) -> None:
    pairs = sc.parallelize([("a", 1)] * 4, 2)
    assert await pairs.fold_by_key(100, operator.add).collect() == [("a", 204)]


async def test_a_mutable_zero_is_not_shared_between_keys_or_runs(pairs: RDD[Any]) -> None:
    def append(values: list[Any], value: Any) -> list[Any]:
        values.append(value)
        return values

    lists = pairs.aggregate_by_key([], append, operator.add)
    for _ in range(2):
        assert await sorted_lists(lists) == {"a": [1, 3, 5], "b": [2], "c": [4]}


async def test_pairs_that_lie_by_key_are_combined_without_another_shuffle(pairs: RDD[Any]) -> None:
    placed = pairs.partition_by(4)
    for combined in (
        placed.reduce_by_key(operator.add),
        placed.aggregate_by_key(0, operator.add, operator.add),
    ):
        assert dict(await combined.collect()) == {"a": 9, "b": 2, "c": 4}
        assert combined.explain().count("move to 4") == 1
        assert "combine" not in combined.explain().split("stage 1")[0]
        assert combined.partitioner == HashPartitioner(4)


async def test_the_number_of_partitions_can_be_chosen(pairs: RDD[Any]) -> None:
    assert pairs.reduce_by_key(operator.add).get_num_partitions() == 3
    assert pairs.reduce_by_key(operator.add, 5).get_num_partitions() == 5
    assert pairs.reduce_by_key(operator.add, 5).join(pairs).get_num_partitions() == 5
    assert pairs.group_by_key(partitioner=HashPartitioner(2)).get_num_partitions() == 2


async def test_a_merge_function_that_fails_is_named(pairs: RDD[Any]) -> None:
    def refuse(a: int, b: int) -> int:
        raise ValueError("no")

    with pytest.raises(StepError, match="no") as caught:
        await pairs.reduce_by_key(refuse, name="sum up").collect()
    assert caught.value.step == "sum up"
    assert caught.value.record is not None


async def test_records_that_are_no_pairs_are_named(sc: EngineContext) -> None:
    with pytest.raises(StepError) as caught:
        await sc.parallelize([("a", 1), 7]).reduce_by_key(operator.add).collect()
    assert caught.value.record == "7"


@pytest.mark.parametrize("key", [[1], float("nan"), object], ids=repr)
async def test_a_key_that_has_no_place_is_an_error_that_names_it(sc: EngineContext, key: Any) -> None:
    """H9: whatever the operation, a bad key is BadKeyError with key or record."""
    bad = sc.parallelize([("a", 1), (key, 2)])
    for rdd in (
        bad.reduce_by_key(max),
        bad.group_by_key(),
        bad.join(bad),
        bad.partition_by(2),
        bad.distinct(),
    ):
        with pytest.raises(BadKeyError) as caught:
            await rdd.collect()
        assert repr(key).lower() in str(caught.value).lower()


async def test_equal_keys_of_different_types_are_one_key(sc: EngineContext) -> None:
    """H9: 1, 1.0 and True are one key, wherever they come from."""
    pairs = sc.parallelize([(1, "a"), (1.0, "b"), (True, "c"), (2, "d")], 4)
    assert await sorted_lists(pairs.group_by_key(5)) == {1: ["a", "b", "c"], 2: ["d"]}
    assert await pairs.map_values(len).reduce_by_key(operator.add).count() == 2


# -- joins -----------------------------------------------------------------------------------------

LEFT = [("a", 1), ("a", 2), ("b", 3)]
RIGHT = [("a", "x"), ("c", "y"), ("c", "z")]


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        ("join", [("a", (1, "x")), ("a", (2, "x"))]),
        ("left_outer_join", [("a", (1, "x")), ("a", (2, "x")), ("b", (3, None))]),
        (
            "right_outer_join",
            [("a", (1, "x")), ("a", (2, "x")), ("c", (None, "y")), ("c", (None, "z"))],
        ),
        (
            "full_outer_join",
            [("a", (1, "x")), ("a", (2, "x")), ("b", (3, None)), ("c", (None, "y")), ("c", (None, "z"))],
        ),
    ],
)
async def test_joins(sc: EngineContext, join: str, expected: list[Any]) -> None:
    """PR-7: a pair for each pair of values; None where a side lacks the key."""
    joined = getattr(sc.parallelize(LEFT), join)(sc.parallelize(RIGHT, 2))
    assert sorted(await joined.collect(), key=repr) == sorted(expected, key=repr)
    assert joined.partitioner == HashPartitioner(3)


async def test_cogroup_of_any_number_of_sides(sc: EngineContext) -> None:
    """PR-6: all keys, one list a side."""
    sides = sc.parallelize(LEFT), sc.parallelize(RIGHT), sc.parallelize([("a", 0)])
    two = {key: tuple(map(sorted, values)) for key, values in await sides[0].cogroup(sides[1]).collect()}
    assert two == {"a": ([1, 2], ["x"]), "b": ([3], []), "c": ([], ["y", "z"])}
    three = dict(await sides[0].group_with(*sides[1:]).collect())
    assert set(three) == {"a", "b", "c"}
    assert three["a"][2] == [0]


async def test_sides_that_lie_alike_are_joined_without_a_shuffle(sc: EngineContext) -> None:
    left, right = sc.parallelize(LEFT).partition_by(4), sc.parallelize(RIGHT).partition_by(4)
    await left.persist().count()
    await right.persist().count()
    assert (
        len(re.findall(r"^stage", left.join(right).explain(), re.MULTILINE)) == 3
    )  # two that place, one that joins
    assert left.join(right).get_num_partitions() == 4


async def test_pairs_are_subtracted_by_key(sc: EngineContext) -> None:
    left = sc.parallelize(LEFT)
    assert await left.subtract_by_key(sc.parallelize(RIGHT)).collect() == [("b", 3)]
    assert sorted(await left.subtract_by_key(sc.parallelize([("z", 0)])).collect()) == LEFT


# -- lying by key ------------------------------------------------------------------------------------


async def test_pairs_are_placed_by_a_function_of_the_user(pairs: RDD[Any]) -> None:
    placed = pairs.partition_by(2, lambda key: ord(key))
    parts = await placed.glom().collect()
    assert [{key for key, _ in part} for part in parts] == [{"b"}, {"a", "c"}]


async def test_a_partition_function_must_give_a_number(pairs: RDD[Any]) -> None:
    with pytest.raises(BadKeyError, match="an int is needed"):
        await pairs.partition_by(2, lambda key: key).collect()


async def test_pairs_are_placed_by_a_given_partitioner(sc: EngineContext) -> None:
    placed = sc.parallelize([(n, None) for n in range(9)]).partition_by(partitioner=RangePartitioner((2, 5)))
    assert await placed.keys().glom().collect() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


async def test_placing_what_lies_that_way_already_changes_nothing(pairs: RDD[Any]) -> None:
    placed = pairs.partition_by(4)
    assert placed.partition_by(4).node is placed.node
    assert placed.partition_by(5).node is not placed.node


async def test_a_union_of_sides_that_lie_alike_lies_alike(sc: EngineContext) -> None:
    """Partition-aware union: no shuffle, no more partitions."""
    left, right = sc.parallelize(LEFT).partition_by(4), sc.parallelize(RIGHT).partition_by(4)
    both = left.union(right)
    assert both.get_num_partitions() == 4
    assert both.partitioner == HashPartitioner(4)
    assert sorted(await both.collect(), key=repr) == sorted(LEFT + RIGHT, key=repr)
    assert dict(await both.map_values(lambda v: 1).reduce_by_key(operator.add).collect()) == {
        "a": 3,
        "b": 1,
        "c": 2,
    }
    assert left.union(sc.parallelize(RIGHT).partition_by(5)).partitioner is None


async def test_a_bad_width_is_refused_at_once(pairs: RDD[Any]) -> None:
    for ask in (
        lambda: pairs.reduce_by_key(max, -1),
        lambda: pairs.partition_by(-2),
        lambda: pairs.join(pairs, -1),
    ):
        with pytest.raises(OptionError, match="at least 1"):
            ask()
