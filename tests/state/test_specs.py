"""What stateful steps do with their partition in a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from aiostream_engine.operators.function import Fn
from aiostream_engine.state.handle import State
from aiostream_engine.state.specs import (
    ExpiringInverseWindow,
    InverseWindow,
    MapWithState,
    StateFailure,
    UpdateState,
)
from aiostream_engine.state.store import Changes, MemoryStore


class Partition:
    """A store that a specification brings forward batch by batch."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec
        self.store = MemoryStore()

    def batch(self, *inputs: Iterable[Any], time: int = 0) -> list[Any]:
        """Apply a batch; what the step yields."""
        changes: Changes = self.spec.update(self.store, inputs, time)
        self.store.apply(changes, self.store.version + 1)
        return list(self.spec.output(self.store, changes))

    def again(self, *inputs: Iterable[Any], time: int = 0) -> list[Any]:
        """The last batch once more, as after the loss of another worker."""
        self.store.rollback()
        return self.batch(*inputs, time=time)


# -- updateStateByKey ------------------------------------------------------------------------------


def total(values: list[int], old: int | None) -> int | None:
    new = sum(values) + (old or 0)
    return new if new < 100 else None


def test_every_key_is_visited_in_every_batch() -> None:
    """UST-3: also those without new values."""
    visits: list[Any] = []

    def visit(values: list[int], old: int | None) -> int:
        visits.append((values, old))
        return len(visits)

    partition = Partition(UpdateState(Fn(visit)))
    partition.batch([("a", 1), ("b", 2), ("a", 3)])
    assert visits == [([1, 3], None), ([2], None)]
    assert partition.batch([("b", 4)]) == [("a", 3), ("b", 4)]
    assert visits[2:] == [([], 1), ([4], 2)]


def test_none_removes_a_key_and_never_makes_one() -> None:
    """UST-4."""
    partition = Partition(UpdateState(Fn(total)))
    assert partition.batch([("a", 60), ("b", 200)]) == [("a", 60)]
    assert partition.batch([("a", 60)]) == []
    assert partition.store.entries == {}


def test_initial_pairs_are_the_old_values_of_the_first_batch() -> None:
    """UST-6."""
    partition = Partition(UpdateState(Fn(total)))
    assert sorted(partition.batch([("a", 1), ("c", 1)], [("a", 10), ("b", 20)])) == [
        ("a", 11),
        ("b", 20),
        ("c", 1),
    ]


@pytest.mark.parametrize(
    ("with_time", "with_key", "expected"),
    [
        (False, False, ([1], None)),
        (True, False, (7, [1], None)),
        (False, True, ("a", [1], None)),
        (True, True, (7, "a", [1], None)),
    ],
)
def test_time_and_key_are_given_when_asked_for(with_time: bool, with_key: bool, expected: Any) -> None:
    partition = Partition(UpdateState(Fn(lambda *args: args), with_time, with_key))
    assert partition.batch([("a", 1)], time=7) == [("a", expected)]


def test_only_what_changed_is_logged() -> None:
    spec = UpdateState(Fn(lambda values, old: sum(values, old or 0)))
    partition = Partition(spec)
    partition.batch([("a", 1), ("b", 2)])
    changes = spec.update(partition.store, [[("a", 1)]], 0)
    assert changes.changed == {"a": 2}


def test_a_pair_that_a_function_gives_back_is_not_logged_and_what_can_change_in_place_is() -> None:
    store = MemoryStore()
    store.entries.update(pair=(1, "one"), deep=(1, [2]), flat=[1])
    changes = UpdateState(Fn(lambda values, old: old)).update(store, [[]], 1)
    assert changes.changed == {"deep": (1, [2]), "flat": [1]}


def test_a_value_of_another_type_is_a_change() -> None:
    spec = UpdateState(Fn(lambda values, old: True if old == 1 else 1))
    partition = Partition(spec)
    partition.batch([("a", 0)])
    assert partition.batch([])[0][1] is True


# -- mapWithState ------------------------------------------------------------------------------------


def running(key: str, value: int | None, state: State[int]) -> tuple[str, int]:
    if state.is_timing_out():
        return f"{key} idle", state.get()
    state.update(state.get(0) + (value or 0))
    return key, state.get()


def test_each_record_is_mapped_with_the_state_before_it() -> None:
    """MWS-1: one call a record."""
    partition = Partition(MapWithState(Fn(running)))
    assert partition.batch([("a", 1), ("b", 5), ("a", 2)]) == [("a", 1), ("b", 5), ("a", 3)]
    assert partition.batch([("a", 4)]) == [("a", 7)]
    assert partition.store.entries == {"a": 7, "b": 5}


def test_idle_keys_time_out_in_the_first_batch_that_can_tell() -> None:
    """MWS-5: evaluated in every batch; the last call may only read."""
    partition = Partition(MapWithState(Fn(running), timeout_ms=10))
    partition.batch([("a", 1), ("b", 2)], time=0)
    assert partition.batch([("b", 1)], time=10) == [("b", 3)]
    assert partition.batch([], time=11) == [("a idle", 1)]
    assert partition.store.entries == {"b": 3}
    assert partition.batch([("a", 9)], time=12) == [("a", 9)]


def test_a_timeout_happens_again_when_its_batch_is_run_again() -> None:
    partition = Partition(MapWithState(Fn(running), timeout_ms=10))
    partition.batch([("a", 1)], time=0)
    first = partition.batch([], time=20)
    assert first == [("a idle", 1)]
    assert partition.again([], time=20) == first
    assert partition.store.entries == {}


def test_a_removed_key_starts_anew_within_the_batch() -> None:
    def remove(key: str, value: int, state: State[int]) -> tuple[int, bool]:
        had = state.exists()
        if value < 0:
            state.remove()
        else:
            state.update(value)
        return value, had

    partition = Partition(MapWithState(Fn(remove)))
    partition.batch([("a", 1)])
    assert partition.batch([("a", -1), ("a", 5), ("a", 6)]) == [(-1, True), (5, False), (6, True)]
    assert partition.store.entries == {"a": 6}
    partition.batch([("a", -1)])
    assert partition.store.entries == {}


def test_initial_pairs_do_not_replace_what_is_there() -> None:
    """MWS-6."""
    partition = Partition(MapWithState(Fn(running)))
    assert partition.batch([("a", 1)], [("a", 10), ("b", 20)]) == [("a", 11)]
    assert partition.store.entries == {"a": 11, "b": 20}


def test_with_a_time_only_results_are_yielded() -> None:
    """MWS-3: None of the function with a time yields nothing; of the one without it is a record."""
    timed = Partition(
        MapWithState(Fn(lambda time, key, value, state: value if value else None), with_time=True)
    )
    assert timed.batch([("a", 0), ("a", 1)]) == [1]
    plain = Partition(MapWithState(Fn(lambda key, value, state: value if value else None)))
    assert plain.batch([("a", 0), ("a", 1)]) == [None, 1]


def collected(key: str, value: int, state: State[list[int]]) -> list[int]:
    items = state.get([])
    items.append(value)  # in place, although the documentation advises against it
    state.update(items)
    return list(items)


def test_a_batch_that_is_run_again_does_not_see_what_its_first_run_did() -> None:
    """H12: states that were changed in place are as they were."""
    partition = Partition(MapWithState(Fn(collected)))
    partition.batch([("a", 1)])
    assert partition.batch([("a", 2), ("a", 3)]) == [[1, 2], [1, 2, 3]]
    assert partition.again([("a", 2), ("a", 3)]) == [[1, 2], [1, 2, 3]]


def test_a_function_that_fails_leaves_the_partition_as_it_was() -> None:
    """H2: one key in the middle raises; no key has changed, in place or not."""

    def fragile(key: str, value: int, state: State[list[int]]) -> Any:
        if value == 3:
            raise ValueError("three")
        return collected(key, value, state)

    partition = Partition(MapWithState(Fn(fragile)))
    partition.batch([("a", 1), ("b", 1)])
    with pytest.raises(StateFailure) as caught:
        partition.batch([("a", 2), ("b", 3)])
    assert caught.value.record == ("b", 3)
    assert isinstance(caught.value.__cause__, ValueError)
    assert partition.store.entries == {"a": [1], "b": [1]}
    assert partition.store.version == 1


# -- windows with an inverse -----------------------------------------------------------------------------


def test_a_window_moves_by_what_enters_and_leaves() -> None:
    """WIN-14: the cost of a slide does not depend on the length of the window."""
    spec = InverseWindow(Fn(lambda a, b: a + b), Fn(lambda a, b: a - b))
    partition = Partition(spec)
    assert partition.batch([("a", 1), ("b", 2)], []) == [("a", 1), ("b", 2)]
    assert partition.batch([("a", 5)], [("b", 2)]) == [("a", 6), ("b", 0)]
    assert spec.update(partition.store, [[], [("a", 1)]], 0).changed == {"a": 5}


def test_a_key_that_leaves_but_is_not_there_is_an_error() -> None:
    partition = Partition(InverseWindow(Fn(lambda a, b: a + b), Fn(lambda a, b: a - b)))
    with pytest.raises(StateFailure) as caught:
        partition.batch([], [("a", 1)])
    assert "leaves the window but is not in it" in str(caught.value.__cause__)


def test_a_refused_key_is_forgotten_at_once_and_begins_anew() -> None:
    """WIN-18: as PySpark's filterFunc, which takes keys out of the window that is brought forward."""
    spec = ExpiringInverseWindow(Fn(lambda a, b: a + b), Fn(lambda a, b: a - b), Fn(lambda pair: pair[1] > 5))
    partition = Partition(spec)
    assert partition.batch([("a", 4), ("b", 9)], []) == [("b", 9)]
    assert partition.batch([("a", 3), ("b", 1)], []) == [("b", 10)]
    assert partition.batch([("a", 7)], [("a", 4), ("b", 9)]) == [("a", 7)]
    assert partition.again([("a", 7)], [("a", 4), ("b", 9)]) == [("a", 7)]
