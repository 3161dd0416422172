"""Actions of RDDs: what they give, what they give for nothing, and whom they blame."""

from __future__ import annotations

import asyncio
import gzip
import math
import operator
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine import EngineContext
from aiostream_engine.errors import BadKeyError, ConfigurationError, OptionError, StepError, UnpicklableError


@pytest.fixture
async def sc() -> AsyncIterator[EngineContext]:
    async with EngineContext("local", parallelism=3) as context:
        yield context


# -- all records -----------------------------------------------------------------------------------


async def test_records_are_collected_in_order(sc: EngineContext) -> None:
    assert await sc.parallelize("hello", 2).collect() == list("hello")
    assert await sc.empty_rdd().collect() == []
    assert await sc.parallelize([("a", 1), ("b", 2), ("a", 3)]).collect_as_map() == {"a": 3, "b": 2}


async def test_iterating_computes_one_partition_at_a_time(sc: EngineContext) -> None:
    visited = sc.accumulator(0)

    def counted(x: int) -> int:
        visited.add(1)
        return x

    seen = [(record, visited.value) async for record in sc.range(30, partitions=10).map(counted)]
    assert [record for record, _ in seen] == list(range(30))
    assert [count for _, count in seen] == [3 * (number // 3 + 1) for number in range(30)]


async def test_an_iteration_that_is_left_early_frees_its_blocks(sc: EngineContext) -> None:
    before = sc.statistics().blocks.files
    records = sc.range(200_000, partitions=2).map(str).iterate()
    async for _ in records:
        break
    await records.aclose()  # type: ignore[attr-defined]
    assert sc.statistics().blocks.files == before


async def test_iterating_holds_the_blocks_of_one_partition(sc: EngineContext) -> None:
    held = []
    async for record in sc.range(400_000, partitions=8).map(str).iterate():
        if record.endswith("0000"):
            held.append(sc.statistics().blocks.bytes_held)
    assert 0 < max(held) < 2_000_000


async def test_records_are_counted(sc: EngineContext) -> None:
    assert await sc.range(10).count() == 10
    assert await sc.range(10).filter(lambda x: x > 6).count() == 3
    assert await sc.empty_rdd().count() == 0


async def test_keys_and_values_are_counted(sc: EngineContext) -> None:
    words = ["a", "b", "a", "c", "a"]
    assert await sc.parallelize(words).count_by_value() == Counter(words)
    assert await sc.parallelize([(word, None) for word in words]).count_by_key() == Counter(words)
    assert await sc.empty_rdd().count_by_value() == {}


async def test_a_record_that_cannot_be_counted_is_named(sc: EngineContext) -> None:
    """H9: the error names the record."""
    with pytest.raises(BadKeyError, match=r"\['x'\] cannot be counted"):
        await sc.parallelize(["a", ["x"]]).count_by_value()


# -- a few records -----------------------------------------------------------------------------------


async def test_the_first_records(sc: EngineContext) -> None:
    rdd = sc.parallelize([5, 3, 9, 1], 4)
    assert await rdd.take(0) == []
    assert await rdd.take(3) == [5, 3, 9]
    assert await rdd.take(99) == [5, 3, 9, 1]
    assert await rdd.first() == 5
    assert await rdd.filter(lambda x: x > 8).first() == 9


async def test_taking_scans_no_more_partitions_than_it_needs(sc: EngineContext) -> None:
    """RDD-5: one partition first, then more and more."""
    visited = sc.accumulator(0)

    def visit(index: int, records: Any) -> Any:
        visited.add(1)
        return records

    rdd = sc.range(100, partitions=50).map_partitions_with_index(visit)
    assert await rdd.take(2) == [0, 1]
    assert visited.value == 1
    assert await rdd.take(9) == list(range(9))
    assert visited.value == 1 + 5
    assert not await rdd.is_empty()
    assert visited.value == 1 + 5 + 1


async def test_nothing_is_empty(sc: EngineContext) -> None:
    assert await sc.empty_rdd().is_empty()
    assert await sc.parallelize([], 3).is_empty()
    assert not await sc.parallelize([None]).is_empty()


async def test_the_smallest_and_the_largest(sc: EngineContext) -> None:
    rdd = sc.parallelize([5, 3, 9, 1, 7])
    assert await rdd.take_ordered(2) == [1, 3]
    assert await rdd.take_ordered(2, key=lambda x: -x) == [9, 7]
    assert await rdd.top(2) == [9, 7]
    assert await rdd.top(9, key=lambda x: -x) == [1, 3, 5, 7, 9]
    assert (await rdd.min(), await rdd.max()) == (1, 9)
    assert (await rdd.min(key=lambda x: x % 5), await rdd.max(key=str)) == (5, 9)


async def test_a_drawn_sample_has_the_size_that_was_asked_for(sc: EngineContext) -> None:
    rdd = sc.parallelize(range(100), 5)
    drawn = await rdd.take_sample(False, 10, seed=3)
    assert len(drawn) == len(set(drawn)) == 10
    assert drawn == await rdd.take_sample(False, 10, seed=3)
    assert sorted(await rdd.take_sample(False, 1000)) == list(range(100))
    replaced = await rdd.take_sample(True, 300, seed=3)
    assert len(replaced) == 300
    assert replaced == await rdd.take_sample(True, 300, seed=3)
    assert set(replaced) < set(range(100))
    assert await sc.empty_rdd().take_sample(True, 5) == []
    assert await sc.empty_rdd().take_sample(False, 5) == []
    with pytest.raises(OptionError):
        await rdd.take_sample(True, -1)


async def test_values_of_a_key_are_looked_up(sc: EngineContext) -> None:
    rdd = sc.parallelize([("a", 1), ("b", 2), ("a", 3)])
    assert await rdd.lookup("a") == [1, 3]
    assert await rdd.lookup("z") == []
    visited = sc.accumulator(0)
    placed = rdd.partition_by(4).map_values(lambda v: (visited.add(1), v)[1])
    assert await placed.lookup("b") == [2]
    assert visited.value < 3  # only the partition of the key was computed


# -- reductions --------------------------------------------------------------------------------------


async def test_records_are_reduced_in_order(sc: EngineContext) -> None:
    letters = sc.parallelize("abcdefgh", 5)
    assert await letters.reduce(operator.add) == "abcdefgh"
    assert await letters.tree_reduce(lambda a, b: a + b) == "abcdefgh"
    assert await sc.parallelize(["x"], 4).reduce(operator.add) == "x"


@pytest.mark.parametrize("depth", [1, 2, 3, 6])
async def test_a_tree_of_any_depth_gives_the_same(sc: EngineContext, depth: int) -> None:
    rdd = sc.range(100, partitions=20)
    assert await rdd.tree_reduce(operator.add, depth) == 4950
    assert await rdd.tree_aggregate([], with_item, operator.add, depth) == list(range(100))


def with_item(items: list[int], item: int) -> list[int]:
    return [*items, item]


async def test_folds_start_from_zero_in_each_partition_and_once_more(sc: EngineContext) -> None:
    assert await sc.parallelize([1, 2], 2).fold(10, operator.add) == 33
    assert await sc.empty_rdd().fold(10, operator.add) == 10
    mean = await sc.range(4).aggregate(
        (0, 0), lambda acc, x: (acc[0] + x, acc[1] + 1), lambda a, b: (a[0] + b[0], a[1] + b[1])
    )
    assert mean == (6, 4)


def append(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return values


def extend(values: list[Any], more: list[Any]) -> list[Any]:
    values.extend(more)
    return values


async def test_a_mutable_zero_may_be_changed_by_the_functions(sc: EngineContext) -> None:
    zero: list[Any] = []
    for _ in range(2):
        assert await sc.range(8, partitions=4).aggregate(zero, append, extend) == list(range(8))
    assert zero == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda rdd: rdd.reduce(operator.add),
        lambda rdd: rdd.first(),
        lambda rdd: rdd.max(),
        lambda rdd: rdd.min(),
        lambda rdd: rdd.histogram(3),
    ],
)
async def test_what_has_no_answer_for_nothing_is_a_value_error(sc: EngineContext, ask: Any) -> None:
    """RDD-4: as in Python's own max() and reduce()."""
    for rdd in (sc.empty_rdd(), sc.parallelize([], 3)):
        with pytest.raises(ValueError, match=r"without records|of an empty RDD"):
            await ask(rdd)


async def test_numbers_are_summed_up(sc: EngineContext) -> None:
    rdd = sc.parallelize([1.0, 2.0, 6.0])
    assert await rdd.sum() == 9
    assert await rdd.mean() == 3
    stats = await rdd.stats()
    assert (stats.count, stats.min, stats.max) == (3, 1.0, 6.0)
    assert await sc.empty_rdd().sum() == 0
    assert math.isnan(await sc.empty_rdd().mean())


async def test_histograms_of_even_or_given_buckets(sc: EngineContext) -> None:
    rdd = sc.range(51)
    assert await rdd.histogram(2) == ([0, 25, 50], [25, 26])
    assert await rdd.histogram([0, 5, 25, 50]) == ([0, 5, 25, 50], [5, 20, 26])
    assert await sc.parallelize([7, 7]).histogram(4) == ([7, 7], [2])
    assert await sc.empty_rdd().histogram([0, 1]) == ([0, 1], [0])
    for buckets in (0, [1], [2, 1], [1, 1]):
        with pytest.raises(OptionError):
            await rdd.histogram(buckets)


# -- blame -------------------------------------------------------------------------------------------


async def test_an_error_carries_step_record_partition_and_traceback(sc: EngineContext) -> None:
    rdd = sc.parallelize([1, 0], 2).map(lambda x: 1 / x, name="reciprocal")
    with pytest.raises(StepError) as caught:
        await rdd.collect()
    error = caught.value
    assert (error.step, error.error_type, error.record, error.partition) == (
        "reciprocal",
        "ZeroDivisionError",
        "0",
        1,
    )
    assert error.batch is None
    assert "test_rdd_actions.py" in error.worker_traceback
    assert "step 'reciprocal', partition 1" in str(error)


def refuse(*args: Any) -> Any:
    raise ValueError("no")


@pytest.mark.parametrize(
    ("step", "ask"),
    [
        ("reduce", lambda rdd: rdd.reduce(refuse)),
        ("reduce", lambda rdd: rdd.tree_reduce(refuse)),
        ("aggregate", lambda rdd: rdd.aggregate(0, refuse, max)),
        ("aggregate", lambda rdd: rdd.aggregate(0, max, refuse)),
        ("take_ordered", lambda rdd: rdd.take_ordered(1, refuse)),
        ("top", lambda rdd: rdd.max(key=refuse)),
        ("foreach", lambda rdd: rdd.foreach(refuse)),
        ("foreach_partition", lambda rdd: rdd.foreach_partition(refuse)),
    ],
)
async def test_a_function_of_an_action_that_fails_is_a_step_error(
    sc: EngineContext, step: str, ask: Any
) -> None:
    """Also where partitions' results are merged: user code runs in workers only."""
    for partitions in (1, 4):
        with pytest.raises(StepError, match="no") as caught:
            await ask(sc.range(8, partitions=partitions))
        assert caught.value.step == step


async def test_records_of_different_partitions_that_cannot_be_compared(sc: EngineContext) -> None:
    with pytest.raises(StepError, match="not supported between"):
        await sc.parallelize([1, "a"], 2).max()


async def test_the_record_of_a_visit_that_fails_is_named(sc: EngineContext) -> None:
    with pytest.raises(StepError) as caught:
        await sc.parallelize([1, 0], 1).foreach(lambda x: 1 // x)
    assert caught.value.record == "0"


async def test_a_result_that_cannot_be_pickled_is_named(sc: EngineContext) -> None:
    """A17: at the task, not in the driver."""
    with pytest.raises(UnpicklableError, match="generator"):
        await sc.range(2).map(lambda x: (n for n in range(x))).collect()


class Bomb:
    def __reduce__(self) -> Any:
        return explode, ()


def explode() -> Any:
    raise RuntimeError("boom")


async def test_a_result_that_explodes_when_it_is_read_is_an_error_of_the_action(sc: EngineContext) -> None:
    """A17: the context goes on."""
    with pytest.raises(UnpicklableError, match="boom"):
        await sc.range(1).map(lambda x: Bomb()).collect()
    assert await sc.range(3).count() == 3


async def test_a_cancelled_action_leaves_the_context_usable(sc: EngineContext) -> None:
    """I3: cancellation ends the call; the next action works."""
    action = asyncio.ensure_future(sc.range(10**7).map(lambda x: x * x).count())
    await asyncio.sleep(0)
    action.cancel()
    with pytest.raises(asyncio.CancelledError):
        await action
    assert await sc.range(3).count() == 3


# -- effects -----------------------------------------------------------------------------------------


async def test_records_and_partitions_are_visited(sc: EngineContext, tmp_path: Path) -> None:
    seen = sc.accumulator(0)
    await sc.range(10).foreach(lambda x: seen.add(x))
    assert seen.value == 45
    await sc.range(10).foreach_partition(lambda records: seen.add(sum(records)))
    assert seen.value == 90


async def test_text_files_appear_whole_and_end_with_a_marker(sc: EngineContext, tmp_path: Path) -> None:
    path = tmp_path / "out"
    await sc.parallelize(["a", 1, "ü"]).save_as_text_file(str(path))
    assert sorted(os.listdir(path)) == ["_SUCCESS", "part-00000", "part-00001", "part-00002"]
    assert (path / "part-00002").read_text(encoding="utf-8") == "ü\n"
    assert await sc.text_file(str(path)).collect() == ["a", "1", "ü"]
    with pytest.raises(ConfigurationError, match="exists already"):
        await sc.range(1).save_as_text_file(str(path))
    await sc.range(3).save_as_text_file(str(path), overwrite=True)
    assert await sc.text_file(str(path)).collect() == ["0", "1", "2"]


async def test_what_an_overwrite_leaves_out_is_gone(sc: EngineContext, tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    await sc.range(9, partitions=3).save_as_text_file(path)
    await sc.range(2, partitions=1).save_as_text_file(path, overwrite=True)
    assert await sc.text_file(path).collect() == ["0", "1"]


async def test_a_save_that_fails_leaves_no_marker_and_no_half_file(sc: EngineContext, tmp_path: Path) -> None:
    path = tmp_path / "out"
    with pytest.raises(StepError):
        await sc.parallelize([1, 0], 2).map(lambda x: 1 // x).save_as_text_file(str(path))
    assert os.listdir(path) == ["part-00000"]


async def test_pickled_files_are_read_back(sc: EngineContext, tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    records = [("a", {1}), None, [1.5]]
    await sc.parallelize(records).save_as_pickle_file(path)
    assert await sc.pickle_file(path).collect() == records


async def test_saved_text_can_be_compressed_afterwards(sc: EngineContext, tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"one\ntwo\n"))
    assert await sc.text_file(str(tmp_path / "*.gz")).collect() == ["one", "two"]
