"""Programs over RDDs give the same under real PySpark and under the layer, partition by partition."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.compat.pyspark import rdd_programs as programs
from tests.compat.pyspark.real_spark import Comparison

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)]

# A job of Spark's takes 0.1 s and more: set SPARK_EXAMPLES for a longer search.
EXAMPLES = int(os.environ.get("SPARK_EXAMPLES", "2"))
# The comparison is of the module: examples share it on purpose.
compared = settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each step of a shrink costs seconds
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

texts = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Z"]), max_size=6)
numbers = st.integers(-50, 50)
values = st.one_of(numbers, texts, st.none(), st.tuples(numbers, texts), st.booleans())
keys = st.one_of(
    st.sampled_from(["a", "b", "c", "é", ""]),
    st.integers(-4, 4),
    st.none(),
    st.tuples(st.integers(0, 2), st.sampled_from(["x", "y", None])),
    st.sampled_from([0.5, -1.0, True, b"x", 2**70]),
)
lists = st.lists(values, max_size=30)
pairs = st.lists(st.tuples(keys, numbers), max_size=25)
slices = st.integers(1, 5)
counts = st.one_of(st.none(), st.integers(1, 4))

# Of all kinds, with repetitions; generated ones are added to these.
DATA = [1, "a", None, (1, "b"), True, "né", -7] * 3
PAIRS = [("a", 1), ("b", 2), (None, 3), ((1, "x"), 4), (7, 5), (-1.5, 6), (b"x", 7), (True, 8)] * 2
OTHERS = [("b", 9), ("z", 10), ((1, "x"), 11), ("b", 12), (1, 13)]


@compared
@example(data=DATA, slices=4)
@given(data=lists, slices=slices)
def test_records_lie_in_the_slices_that_spark_cuts(comparison: Comparison, data: Any, slices: int) -> None:
    comparison.same(programs.slicing, data, slices)


@compared
@example(data=DATA, slices=3)
@given(data=lists, slices=slices)
def test_steps_by_record_and_by_partition(comparison: Comparison, data: Any, slices: int) -> None:
    comparison.same(programs.by_record, data, slices)


@compared
@example(data=list(range(95)), slices=3, wanted=4)
@given(data=st.lists(numbers, max_size=120), slices=slices, wanted=st.integers(1, 5))
def test_records_are_dealt_out_as_spark_deals_them(
    comparison: Comparison, data: Any, slices: int, wanted: int
) -> None:
    comparison.same(programs.partitioning, data, slices, wanted)


@compared
@example(data=DATA, slices=3, seed=7, fraction=0.4)
@given(data=lists, slices=slices, seed=st.integers(0, 2**40), fraction=st.floats(0.05, 0.95))
def test_random_steps_with_a_seed_draw_what_spark_draws(
    comparison: Comparison, data: Any, slices: int, seed: int, fraction: float
) -> None:
    comparison.same(programs.sampling, data, slices, seed, fraction)


@compared
@example(data=DATA, slices=3, n=4)
@given(data=lists, slices=slices, n=st.integers(0, 6))
def test_actions(comparison: Comparison, data: Any, slices: int, n: int) -> None:
    comparison.same(programs.actions, data, slices, n)


@compared
@example(data=list(range(9)), slices=4)
@given(data=st.lists(numbers, max_size=20), slices=slices)
def test_reductions_keep_sparks_order_of_partitions(comparison: Comparison, data: Any, slices: int) -> None:
    comparison.same(programs.reductions, data, slices)


@compared
@example(data=[1, 2.5, 3, -4, 40.25, 3], slices=3, buckets=[0, 10, 20])
@given(
    data=st.lists(st.one_of(numbers, st.floats(-1e6, 1e6).map(lambda x: round(x, 3))), max_size=20),
    slices=slices,
    buckets=st.lists(st.integers(-60, 60), min_size=1, max_size=5),
)
def test_statistics_to_the_last_digit(
    comparison: Comparison, data: Any, slices: int, buckets: list[int]
) -> None:
    comparison.same(programs.numbers, data, slices, sorted(buckets))


@compared
@example(pairs=PAIRS, slices=3, wanted=2)
@given(pairs=pairs, slices=slices, wanted=counts)
def test_pairs_lie_where_spark_puts_them(
    comparison: Comparison, pairs: Any, slices: int, wanted: int | None
) -> None:
    comparison.same(programs.by_key, pairs, slices, wanted)


@compared
@example(pairs=PAIRS, slices=3, wanted=2)
@given(pairs=pairs, slices=slices, wanted=counts)
def test_placed_pairs_stay_or_move_as_in_spark(
    comparison: Comparison, pairs: Any, slices: int, wanted: int | None
) -> None:
    comparison.same(programs.by_key_again, pairs, slices, wanted)


@compared
@example(pairs=PAIRS, slices=3, wanted=3)
@given(pairs=pairs, slices=slices, wanted=counts)
def test_sorted_ranges_have_sparks_bounds(
    comparison: Comparison, pairs: Any, slices: int, wanted: int | None
) -> None:
    comparison.same(programs.sorting, pairs, slices, wanted)


@compared
@example(left=PAIRS, right=OTHERS, slices=3, wanted=None)
@given(left=pairs, right=pairs, slices=slices, wanted=counts)
def test_joins_and_groups_of_two_sides(
    comparison: Comparison, left: Any, right: Any, slices: int, wanted: int | None
) -> None:
    comparison.same(programs.sides, left, right, slices, wanted)


@compared
@example(left=PAIRS, right=OTHERS, slices=3, wanted=2)
@given(left=pairs, right=pairs, slices=slices, wanted=st.integers(1, 3))
def test_joins_of_sides_that_lie_by_key_already(
    comparison: Comparison, left: Any, right: Any, slices: int, wanted: int
) -> None:
    comparison.same(programs.placed_sides, left, right, slices, wanted)


@compared
@example(pairs=PAIRS, slices=3)
@given(pairs=pairs, slices=slices)
def test_lookups(comparison: Comparison, pairs: Any, slices: int) -> None:
    comparison.same(programs.lookups, pairs, slices)


def test_datasets_without_records(comparison: Comparison) -> None:
    comparison.same(programs.nothing)


@pytest.mark.parametrize("wanted", [2, 5])
@pytest.mark.parametrize("name", ["short", "long", "odd"])
def test_files_are_cut_into_the_splits_of_hadoop(
    comparison: Comparison, tmp_path: Path, name: str, wanted: int
) -> None:
    texts = {
        "short": ["one\ntwo\n", "three"],
        "long": ["".join(f"line {number}\n" for number in range(40)), "x" * 50 + "\n\n\nend\n"],
        "odd": ["né\r\ntwo\n\nfour", "", "\n"],
    }[name]
    (tmp_path / "in").mkdir()
    for letter, text in zip("abc", texts, strict=False):
        (tmp_path / "in" / f"{letter}.txt").write_bytes(text.encode())
    (tmp_path / "in" / "_hidden").write_text("not seen")
    (tmp_path / "records").write_bytes(bytes(range(40)))
    comparison.same(programs.files, str(tmp_path), "out", wanted)


def test_failures_are_told_alike(comparison: Comparison) -> None:
    comparison.same(programs.failures)


def test_accumulators_broadcasts_and_caches(comparison: Comparison) -> None:
    comparison.same(programs.shared)
