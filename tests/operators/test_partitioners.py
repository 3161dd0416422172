"""Which partition a key goes to."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from aiostream_engine.errors import BadKeyError
from aiostream_engine.operators.function import Fn
from aiostream_engine.operators.hashing import stable_hash
from aiostream_engine.operators.partitioners import (
    FunctionPartitioner,
    HashPartitioner,
    RangePartitioner,
    RoundRobin,
)


def places(partitioner: Any, keys: Any) -> list[int]:
    return list(map(partitioner.lookup(), keys))


def test_a_hash_partitioner_places_by_the_stable_hash() -> None:
    keys = ["a", "b", 1, None, ("x", 2)]
    assert places(HashPartitioner(3), keys) == [stable_hash(key) % 3 for key in keys]


def test_a_range_partitioner_keeps_the_order() -> None:
    assert places(RangePartitioner((10, 20)), [5, 10, 11, 20, 21]) == [0, 0, 1, 1, 2]


def test_a_descending_range_partitioner_keeps_the_reverse_order() -> None:
    assert places(RangePartitioner((10, 20), ascending=False), [21, 20, 11, 10, 5]) == [0, 1, 1, 2, 2]


def test_a_range_partitioner_has_as_many_partitions_as_were_asked_for() -> None:
    partitioner = RangePartitioner((10,), width=5)
    assert partitioner.partitions == 5
    assert max(places(partitioner, [1, 10, 99])) < 5
    assert RangePartitioner(()).partitions == 1


def test_a_function_partitioner_takes_the_result_modulo_its_width() -> None:
    assert places(FunctionPartitioner(3, Fn(lambda key: key)), [0, 4, -1]) == [0, 1, 2]


def test_a_function_partitioner_refuses_what_is_no_number() -> None:
    with pytest.raises(BadKeyError, match=r"the partition function gave 'x' for key 7"):
        places(FunctionPartitioner(3, Fn(lambda key: "x")), [7])


def test_round_robin_has_no_place_for_a_key() -> None:
    with pytest.raises(TypeError):
        RoundRobin(2).lookup()


@pytest.mark.parametrize(
    "partitioner",
    [HashPartitioner(3), RangePartitioner((1, 2)), FunctionPartitioner(3, Fn(abs)), RoundRobin(2)],
    ids=lambda item: type(item).__name__,
)
def test_partitioners_are_equal_by_content_also_after_a_pickle(partitioner: Any) -> None:
    copy = pickle.loads(pickle.dumps(partitioner))
    assert copy == partitioner
    assert hash(copy) == hash(partitioner)


def test_partitioners_of_another_width_or_kind_differ() -> None:
    assert HashPartitioner(3) != HashPartitioner(4)
    assert HashPartitioner(3) != RoundRobin(3)
    assert RangePartitioner((1,)) != RangePartitioner((1,), ascending=False)
