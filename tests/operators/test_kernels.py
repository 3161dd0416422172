"""The functions over whole partitions."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from aiostream_engine.errors import BadKeyError
from aiostream_engine.operators import kernels


def lazily(records: Iterable[Any]) -> Iterator[Any]:
    yield from records


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("inner", [("b", (2, 3)), ("b", (2, 4))]),
        ("left", [("a", (1, None)), ("b", (2, 3)), ("b", (2, 4))]),
        ("right", [("b", (2, 3)), ("b", (2, 4)), ("c", (None, 5))]),
        ("full", [("a", (1, None)), ("b", (2, 3)), ("b", (2, 4)), ("c", (None, 5))]),
    ],
)
def test_joins_differ_in_what_a_missing_side_does(kind: str, expected: list[Any]) -> None:
    """PR-7: None stands for a side that lacks the key."""
    sides = [lazily([("a", 1), ("b", 2)]), lazily([("b", 3), ("b", 4), ("c", 5)])]
    assert list(kernels.joined(kind, sides)) == expected


def test_cogroup_lists_each_sides_values_of_all_keys() -> None:
    """PR-6: a side without the key has an empty list."""
    groups = kernels.cogrouped([lazily([("a", 1), ("a", 2)]), lazily([("b", 3)]), lazily([("a", 4)])])
    assert dict(groups) == {"a": ([1, 2], [], [4]), "b": ([], [3], [])}


def test_zip_refuses_sides_of_different_length() -> None:
    assert list(kernels.zipped([lazily("ab"), lazily("cd")])) == [("a", "c"), ("b", "d")]
    with pytest.raises(ValueError, match="the same number of records"):
        list(kernels.zipped([lazily("ab"), lazily("c")]))


def test_subtracting_keeps_duplicates_and_intersecting_drops_them() -> None:
    mine = [(1, None), (2, None), (1, None), (3, None)]
    assert list(kernels.subtracted([lazily(mine), lazily([(3, None)])])) == mine[:3]
    assert list(kernels.intersected([lazily(mine), lazily([(1, None), (3, None), (4, None)])])) == [
        (1, None),
        (3, None),
    ]


def test_a_fold_starts_from_a_fresh_copy_of_its_zero_each_time() -> None:
    zero = pickle.dumps([])
    fold = kernels.folded
    assert fold(zero, kernels.appended, [1, 2]) == [[1, 2]]
    assert fold(zero, kernels.appended, [3]) == [[3]]


def test_a_reduction_of_nothing_is_nothing() -> None:
    assert kernels.reduced(max, lazily([])) == []
    assert kernels.reduced(max, lazily([None])) == [None]
    assert kernels.reduced(lambda a, b: a + b, lazily("abc")) == ["abc"]


def test_counting_is_that_of_a_counter_for_any_number_of_records() -> None:
    words = [f"w{n % 97}" for n in range(10_000)]
    assert kernels.counted_by_value(lazily(words)) == Counter(words)
    assert kernels.counted_by_key((word, None) for word in words) == Counter(words)


def test_counting_names_a_record_that_cannot_be_counted() -> None:
    """H9: the error of an unhashable record names it."""
    with pytest.raises(BadKeyError, match=r"\['bad'\] cannot be counted: unhashable"):
        kernels.counted_by_value(lazily(["good"] * 5000 + [["bad"]]))


def test_an_error_of_what_is_counted_is_left_as_it_is() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        kernels.counted_by_value(failing())


def test_a_histogram_closes_its_last_bucket_only() -> None:
    assert kernels.histogram_of((0, 10, 20), [0, 9.9, 10, 20, 20.1, -1, None]) == [2, 2]


def test_a_sample_is_decided_by_seed_and_partition() -> None:
    draw = [list(kernels.sample_bernoulli(0, 0.5, 7, index, range(100))) for index in (0, 0, 1)]
    assert draw[0] == draw[1] != draw[2]


def test_neighbouring_ranges_of_one_seed_share_no_record_and_miss_none() -> None:
    low = list(kernels.sample_bernoulli(0, 0.3, 7, 0, range(100)))
    high = list(kernels.sample_bernoulli(0.3, 1, 7, 0, range(100)))
    assert sorted(low + high) == list(range(100))


def test_a_sample_with_replacement_has_the_mean_that_was_asked_for() -> None:
    drawn = list(kernels.sample_poisson(2.0, 7, 0, range(5000)))
    assert 9_500 < len(drawn) < 10_500
    assert drawn == sorted(drawn)


def test_a_reservoir_is_uniform() -> None:
    hits = Counter(record for seed in range(2000) for record in kernels.reservoir(2, seed, 0, range(10))[0])
    assert set(hits) == set(range(10))
    assert all(300 < count < 500 for count in hits.values())


def test_a_reservoir_takes_all_when_there_is_no_more() -> None:
    assert kernels.reservoir(5, 1, 0, [1, 2]) == ([1, 2], 2)


def test_picking_stops_at_the_last_place_that_is_wanted() -> None:
    def endless() -> Iterator[int]:
        n = 0
        while True:
            yield n
            n += 1

    assert kernels.picked(((), (0, 2, 2, 5)), 1, endless()) == [0, 2, 2, 5]
    assert kernels.picked(((),), 0, []) == []


def test_an_outside_program_gets_records_as_lines() -> None:
    assert list(kernels.pipe(("tr", "a-z", "A-Z"), ["ab", 1])) == ["AB", "1"]


def test_an_outside_program_that_fails_is_an_error_with_its_last_words() -> None:
    with pytest.raises(RuntimeError, match=r"sh ended with 3: oops"):
        list(kernels.pipe(("sh", "-c", "echo oops >&2; exit 3"), []))


def test_sorting_is_stable_in_both_directions() -> None:
    pairs = [(random.Random(n).randrange(5), n) for n in range(50)]
    assert list(kernels.sort_pairs(True, pairs)) == sorted(pairs, key=lambda pair: pair[0])
    assert list(kernels.sort_pairs(False, pairs)) == sorted(pairs, key=lambda pair: -pair[0])
