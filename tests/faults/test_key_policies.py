"""Error policies of steps whose unit is the key: what is given up, what stays, and that both are exact."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from aiostream_engine.errors import OptionError, StepError
from tests.stage import Stage

pytestmark = pytest.mark.faults

MASTERS = pytest.mark.parametrize("master", ["local", "local[2]"])


class Letters:
    """What a step gave up."""

    def __init__(self, stream: Any) -> None:
        self.found: list[Any] = []
        stream.dead_letters().foreach_rdd(self._keep)

    async def _keep(self, rdd: Any, time: Any) -> None:
        self.found += await rdd.collect()

    @property
    def values(self) -> dict[Any, Counter[Any]]:
        """The values of each key."""
        return {letter.record[0]: Counter(letter.record[1]) for letter in self.found}


# -- reducing ------------------------------------------------------------------------------------


def added(a: int, b: int) -> int:
    return a + b


@MASTERS
async def test_a_key_that_cannot_be_reduced_is_a_dead_letter_with_its_values_and_the_others_are_exact(
    master: str,
) -> None:
    """A3: in this batch and in the next one, in which the key is good again."""
    batches = [[("a", 1), ("b", 2), ("a", "x"), ("a", 3), ("b", 4)], [("a", 5), ("a", 6)]]
    stage = Stage(batches, master=master, partitions=2)
    sums = stage.stream.reduce_by_key(added, name="sums", on_error="dead-letter")
    letters = Letters(sums)
    stage.look(sums)
    await stage.play(2)
    assert stage.records == [[("b", 6)], [("a", 11)]]
    (letter,) = letters.found
    assert (letter.step, letter.batch, letter.error_type) == ("sums", 1000, "TypeError")
    assert letters.values == {"a": Counter([1, "x", 3])}
    assert stage.ssc.engine.statistics().counters == {"dead_lettered:sums": 1}


async def test_a_key_that_is_skipped_is_counted() -> None:
    """A3."""
    stage = Stage([[("a", 1), ("a", "x"), ("b", 2)]])
    stage.look(stage.stream.reduce_by_key(added, name="sums", on_error="skip"))
    await stage.play(1)
    assert stage.records == [[("b", 2)]]
    assert stage.ssc.engine.statistics().counters == {"skipped:sums": 1}


async def test_values_that_were_merged_in_place_before_the_error_are_whole_in_the_dead_letter() -> None:
    """A3: also the first, which is what the function is given to add to."""
    stage = Stage([[("a", [1]), ("a", [2]), ("a", None), ("b", [4])]], partitions=1)

    def extended(a: list[int], b: list[int]) -> list[int]:
        a.extend(b)
        return a

    lists = stage.stream.reduce_by_key(extended, name="lists", on_error="dead-letter")
    letters = Letters(lists)
    stage.look(lists)
    await stage.play(1)
    assert stage.records == [[("b", [4])]]
    assert [letter.record for letter in letters.found] == [("a", [[1], [2], None])]


async def test_a_key_is_reduced_again_from_its_values_as_often_as_retries_says() -> None:
    """A3: a failure that passes gives nothing up."""
    failures = iter([True, True, False])

    def unlucky(a: int, b: int) -> int:
        if b == 3 and next(failures):
            raise ConnectionError("once more")
        return a + b

    stage = Stage([[("a", 1), ("a", 2), ("a", 3)]], partitions=1)
    stage.look(stage.stream.reduce_by_key(unlucky, name="sums", retries=2))
    await stage.play(1)
    assert stage.records == [[("a", 6)]]
    assert stage.ssc.engine.statistics().counters == {"retried:sums": 2}


@pytest.mark.parametrize("kind", ["combine_by_key", "aggregate_by_key", "fold_by_key"])
async def test_combining_into_another_type_gives_up_keys_as_well(kind: str) -> None:
    """A3: the functions of an RDD; combiners that are changed in place are made anew."""
    stage = Stage([[("a", 1), ("a", "x"), ("b", 2), ("b", 3)]])

    def appended(total: list[int], value: int) -> list[int]:
        total[0] += value
        return total

    def build(rdd: Any) -> Any:
        match kind:
            case "combine_by_key":
                result = rdd.combine_by_key(lambda v: [v], appended, None, on_error="skip")
            case "aggregate_by_key":
                result = rdd.aggregate_by_key([0], appended, None, on_error="skip")
            case _:
                result = rdd.fold_by_key(0, added, on_error="skip").map_values(lambda total: [total])
        return result

    stage.look(stage.stream.transform(build))
    await stage.play(1)
    assert stage.records == [[("b", [5])]]


REFUSED = {
    "reduce": lambda stream: stream.reduce(added, on_error="skip"),
    "reduce_by_window": lambda stream: stream.reduce_by_window(added, 2, on_error="skip"),
    "reduce_by_key_and_window": lambda stream: stream.reduce_by_key_and_window(
        added, window_s=2, on_error="dead-letter"
    ),
    "map_partitions": lambda stream: stream.map_partitions(list, on_error="dead-letter"),
    "map_partitions_with_index": lambda stream: stream.map_partitions_with_index(
        lambda index, records: records, on_error="skip"
    ),
    "map_batches": lambda stream: stream.map_batches(list, on_error="skip"),
}


@pytest.mark.parametrize("method", REFUSED)
def test_a_step_without_a_unit_that_can_be_given_up_alone_refuses_a_policy_and_says_what_to_do(
    method: str,
) -> None:
    """A3: nothing is lost in silence."""
    stage = Stage([])
    with pytest.raises(OptionError, match=rf"{method} cannot have on_error=[\s\S]*on_error="):
        REFUSED[method](stage.stream)


async def test_without_a_policy_the_stream_fails_and_the_error_has_the_pair_in_hand() -> None:
    """A3: the default; nothing is given up."""
    stage = Stage([[("a", 1), ("a", "x")]], partitions=1)
    stage.look(stage.stream.reduce_by_key(added, name="sums"))
    with pytest.raises(StepError, match=r"step 'sums'[\s\S]*\('a', 'x'\)"):
        await stage.play(1)
