"""Windows and keyed state of a stream, batch by batch."""

from __future__ import annotations

import operator
from typing import Any

import pytest

from aiostream_engine import DStream, EngineContext
from aiostream_engine.errors import BadKeyError, GraphError, OptionError, StepError
from aiostream_engine.operators.function import Fn
from aiostream_engine.operators.partitioners import HashPartitioner
from aiostream_engine.state.specs import FilteredInverseWindow, InverseWindow, StateFailure, UpdateState
from aiostream_engine.state.store import MemoryStore
from aiostream_engine.testing import run_batches
from aiostream_engine.types import BatchTime
from tests.stage import Stage


async def play(build: Any, *inputs: Any, **options: Any) -> list[Any]:
    """As ``run_batches``, with the records of a batch in an order that can be compared."""
    given = await run_batches(build, *inputs, **options)
    return [None if batch is None else sorted(batch, key=repr) for batch in given]


def ones(count: int, then_empty: int = 0) -> list[list[int]]:
    return [[number] for number in range(1, count + 1)] + [[]] * then_empty


# -- windows ---------------------------------------------------------------------------------------


async def test_a_window_holds_the_batches_of_its_length_oldest_first():
    """WIN-1, DS-9: its begin is excluded, its end included."""
    given = await run_batches(lambda s: s.window(3), ones(5))
    assert given[2:] == [[1, 2, 3], [2, 3, 4], [3, 4, 5]]


@pytest.mark.parametrize(("window_s", "slide_s"), [(3, 2), (2, 3), (2, 1)])
def test_lengths_and_slides_that_are_no_multiples_are_refused_at_the_definition(window_s, slide_s):
    """WIN-1."""
    with pytest.raises(GraphError, match="multiple"):
        Stage(interval=2).stream.window(window_s, slide_s)


@pytest.mark.parametrize("window_s", [0, -1, float("nan"), "3", True])
def test_a_length_that_is_no_duration_is_refused(window_s: Any):
    """WIN-1."""
    with pytest.raises(OptionError):
        Stage().stream.window(window_s)


async def test_a_window_counts_in_the_slides_of_its_parent():
    """WIN-1."""
    windowed = Stage().stream.window(4, 2)
    assert windowed.window(4).node.slide_ms == 2000
    with pytest.raises(GraphError, match="multiple"):
        windowed.window(3)


async def test_windows_are_emitted_before_they_are_full():
    """WIN-2."""
    assert await run_batches(lambda s: s.window(4), ones(3)) == [[1], [1, 2], [1, 2, 3]]


async def test_a_slide_longer_than_the_batch_has_no_rdd_in_between():
    """WIN-3, DS-2."""
    given = await run_batches(lambda s: s.window(3, 2), ones(6))
    assert given == [None, [1, 2], None, [2, 3, 4], None, [4, 5, 6]]


async def test_two_branches_of_different_slides_coexist():
    """WIN-3."""
    stage = Stage(ones(4))
    slow: dict[BatchTime, Any] = {}

    async def keep(rdd: Any, time: BatchTime) -> None:
        slow[time] = await rdd.collect()

    stage.look(stage.stream.window(2, 1))
    stage.stream.window(2, 2).foreach_rdd(keep)
    await stage.play(4)
    assert stage.records == [[1], [1, 2], [2, 3], [3, 4]]
    assert slow == {2000: [1, 2], 4000: [3, 4]}


async def test_slides_count_from_the_zero_time_of_the_stream():
    """WIN-3, CTX-22: not from the epoch."""
    stage = Stage(ones(4))
    stage.clock.step_wall(1.0)  # the first batch is labelled 2 s, so the zero time is 1 s
    stage.look(stage.stream.window(2, 2))
    await stage.play(4)
    assert stage.seen == {3000: [1, 2], 5000: [3, 4]}


async def test_a_slide_longer_than_the_window_leaves_out_what_lies_between():
    """WIN-4."""
    given = await run_batches(lambda s: s.window(1, 3), ones(6))
    assert given == [None, None, [3], None, None, [6]]


async def test_a_tumbling_window_has_each_record_once():
    """WIN-5."""
    given = await run_batches(lambda s: s.window(2, 2), ones(6))
    assert given == [None, [1, 2], None, [3, 4], None, [5, 6]]


async def test_persist_on_a_window_and_on_its_parent_change_nothing_of_the_result():
    """WIN-6."""
    assert await run_batches(lambda s: s.cache().window(2).cache(), ones(3)) == [[1], [1, 2], [2, 3]]


async def test_a_window_of_a_window_reaches_back_by_both_lengths():
    """WIN-7."""
    given = await run_batches(lambda s: s.window(2).window(3), ones(5))
    assert given[4] == [2, 3, 3, 4, 4, 5]


async def test_reduce_by_window_gives_one_record_and_nothing_for_an_empty_window():
    """WIN-8."""
    given = await run_batches(lambda s: s.reduce_by_window(operator.add, 2), ones(3, then_empty=3))
    assert given == [[1], [3], [5], [3], [], []]


async def test_reduce_by_window_with_an_inverse_gives_the_same_and_then_a_neutral_record():
    """WIN-9."""
    given = await run_batches(
        lambda s: s.reduce_by_window(operator.add, 2, inverse=operator.sub), ones(3, then_empty=3)
    )
    assert given == [[1], [3], [5], [3], [0], [0]]


async def test_count_by_window_gives_zero_once_all_have_left():
    """WIN-10: and needs no checkpoint directory."""
    given = await run_batches(lambda s: s.count_by_window(2), [[1, 2], [3], [], [], [4]])
    assert given == [[2], [3], [1], [0], [1]]


async def test_count_by_value_and_window_forgets_what_left():
    """WIN-11."""
    given = await play(lambda s: s.count_by_value_and_window(2), [["a", "b"], ["a"], ["c"], []])
    assert given == [[("a", 1), ("b", 1)], [("a", 2), ("b", 1)], [("a", 1), ("c", 1)], [("c", 1)]]


async def test_group_by_key_and_window_gives_the_values_of_the_window_oldest_batch_first():
    """WIN-12."""
    batches = [[("k", 1)], [("k", 2), ("x", 0)], [("k", 3)], [], []]
    given = await play(lambda s: s.group_by_key_and_window(2), batches)
    assert given == [
        [("k", [1])],
        [("k", [1, 2]), ("x", [0])],
        [("k", [2, 3]), ("x", [0])],
        [("k", [3])],
        [],
    ]


async def test_group_by_key_and_window_does_not_share_lists_between_windows():
    """WIN-12, H12: the original's Python form extends lists in place."""
    batches = [[("k", n)] for n in range(6)]
    given = await play(lambda s: s.group_by_key_and_window(3), batches)
    assert [batch[0][1] for batch in given] == [[0], [0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]


PAIRS = [[("a", 1), ("b", 10)], [("a", 2)], [], [("a", 4)], [], [], []]


async def test_reduce_by_key_and_window_reduces_the_window_and_drops_keys_that_left():
    """WIN-13."""
    given = await play(lambda s: s.reduce_by_key_and_window(operator.add, None, 2), PAIRS)
    assert given == [
        [("a", 1), ("b", 10)],
        [("a", 3), ("b", 10)],
        [("a", 2)],
        [("a", 4)],
        [("a", 4)],
        [],
        [],
    ]


async def test_with_an_inverse_keys_that_left_stay_with_a_neutral_value():
    """WIN-14."""
    given = await play(lambda s: s.reduce_by_key_and_window(operator.add, operator.sub, 2), PAIRS)
    assert given == [
        [("a", 1), ("b", 10)],
        [("a", 3), ("b", 10)],
        [("a", 2), ("b", 0)],
        [("a", 4), ("b", 0)],
        [("a", 4), ("b", 0)],
        [("a", 0), ("b", 0)],
        [("a", 0), ("b", 0)],
    ]


async def test_with_an_inverse_and_a_filter_keys_that_left_are_forgotten():
    """WIN-14."""
    stage = Stage(PAIRS)
    stage.look(
        stage.stream.reduce_by_key_and_window(
            operator.add, operator.sub, 2, filter_function=lambda pair: pair[1] != 0
        )
    )
    async with stage.started():
        await stage.batch(7)
        assert [state.keys for state in stage.ssc.engine.statistics().states] == [0]
    assert sorted(stage.records[2]) == [("a", 2)]
    assert stage.records[6] == []


async def test_an_inverse_window_of_many_slides_agrees_with_the_plain_one():
    """WIN-14, WIN-17: it is used from the first slide on, whatever the length."""
    batches = [[(n % 3, n), (n % 2, 1)] for n in range(20)]
    with_inverse = await play(
        lambda s: s.reduce_by_key_and_window(
            operator.add, operator.sub, 6, 2, filter_function=lambda pair: True
        ),
        batches,
    )
    plain = await play(lambda s: s.reduce_by_key_and_window(operator.add, None, 6, 2), batches)
    assert with_inverse == plain


@pytest.mark.parametrize(
    "spec",
    [
        InverseWindow(Fn(operator.add), Fn(operator.sub)),
        FilteredInverseWindow(Fn(operator.add), Fn(operator.sub), Fn(bool)),
    ],
)
def test_a_key_that_leaves_without_having_been_there_is_reported(spec: Any):
    """WIN-15: as its hash or equality must have changed."""
    with pytest.raises(StateFailure) as caught:
        spec.update(MemoryStore(), [[], [(object(), 1)]], 1)
    assert "its hash or equality changed" in str(caught.value.__cause__)


async def test_the_inverse_gets_what_is_there_first_and_what_leaves_second():
    """WIN-16."""

    def without_head(window: str, leaving: str) -> str:
        assert window.startswith(leaving), (window, leaving)
        return window[len(leaving) :]

    given = await play(
        lambda s: s.reduce_by_key_and_window(operator.add, without_head, 3),
        [[("k", letter)] for letter in "abcdef"],
    )
    assert [batch[0][1] for batch in given] == ["a", "ab", "abc", "bcd", "cde", "def"]


@pytest.mark.parametrize("inverse", [None, operator.sub])
async def test_a_filter_may_refuse_any_value_and_forgets_nothing_that_is_in_the_window(inverse: Any):
    """WIN-18."""
    given = await play(
        lambda s: s.reduce_by_key_and_window(
            operator.add, inverse, 3, filter_function=lambda pair: pair[1] >= 5
        ),
        [[("a", 3)], [("a", 4)], [("a", 1)], [("a", 1)], [], [], []],
    )
    assert given == [[], [("a", 7)], [("a", 8)], [("a", 6)], [], [], []]


@pytest.mark.parametrize("inverse", [None, operator.sub])
async def test_the_filter_holds_with_and_without_an_inverse(inverse: Any):
    """WIN-18."""
    given = await play(
        lambda s: s.reduce_by_key_and_window(
            operator.add, inverse, 2, filter_function=lambda pair: pair[1] != 0
        ),
        [[("a", 1)], [("a", -1)], [], []],
    )
    assert given == [[("a", 1)], [], [("a", -1)], []]


@pytest.mark.parametrize(("window_s", "slide_s"), [(2, 2), (1, 3), (4, 2), (3, 1)])
async def test_what_leaves_and_enters_is_right_for_any_window_and_slide(window_s: int, slide_s: int):
    """WIN-19: also where the slide is the window, or longer."""
    batches = [[("k", 2**n)] for n in range(10)]
    given = await play(
        lambda s: s.reduce_by_key_and_window(operator.add, operator.sub, window_s, slide_s), batches
    )
    for label, got in enumerate(given, start=1):
        if label % slide_s:
            assert got is None
        else:
            inside = [n for n in range(10) if label - window_s < n + 1 <= label]
            assert got == [("k", sum(2**n for n in inside))]


async def test_the_error_of_a_window_function_names_its_step():
    stage = Stage([[("k", 1)], [("k", 0)]])
    stage.look(
        stage.stream.reduce_by_key_and_window(lambda a, b: a // b, lambda a, b: a, 2, name="ratio of window")
    )
    with pytest.raises(StepError) as caught:
        await stage.play(2)
    assert caught.value.step == "ratio of window"


# -- coalesced batches -----------------------------------------------------------------------------


async def stalled(build: Any, *, before: int, missed: int, after: int) -> dict[BatchTime, Any]:
    """Batches 1, 2, 4, 8, …, with a stall that leaves out ``missed`` ticks."""
    stage = Stage([[("k", 2**n)] for n in range(before + 1 + after)])
    stage.look(build(stage.stream))
    async with stage.started():
        await stage.batch(before)
        commits = len(stage.commits)
        await stage.clock.jump(missed + 1)
        await stage.until(lambda: len(stage.commits) > commits)
        await stage.batch(after)
    return stage.seen


@pytest.mark.parametrize("inverse", [None, operator.sub])
@pytest.mark.parametrize("missed", [1, 2, 3, 6])
async def test_a_tumbling_window_has_each_record_once_over_a_stall(inverse: Any, missed: int):
    """D2, WIN-5: of the slides that were missed the last is answered, for all."""
    seen = await stalled(
        lambda s: s.reduce_by_key_and_window(operator.add, inverse, 2, 2), before=3, missed=missed, after=6
    )
    total = sum(batch[0][1] for batch in seen.values() if batch)
    labels = [1, 2, 3, *range(4 + missed, 11 + missed)]
    end = max(seen) // 2000 * 2  # of the last window that was answered
    answered = [n for n, label in enumerate(labels) if label <= end]
    assert total == sum(2**n for n in answered)


@pytest.mark.parametrize("inverse", [None, operator.sub])
async def test_a_sliding_window_keeps_its_length_over_a_stall(inverse: Any):
    """D2."""
    seen = await stalled(
        lambda s: s.reduce_by_key_and_window(operator.add, inverse, 4, 2), before=3, missed=3, after=3
    )
    # Labels 1 2 3, then 7, which owes the slides 4 and 6, then 8 9 10.
    assert {int(time) // 1000: batch[0][1] if batch else 0 for time, batch in seen.items()} == {
        2: 0b11,
        7: 0b100,  # (2, 6]
        8: 0b11000,  # (4, 8]
        10: 0b1111000,  # (6, 10]
    }


# -- update_state_by_key ---------------------------------------------------------------------------


def total(new: list[int], old: int | None) -> int:
    return sum(new) + (old or 0)


async def test_the_state_of_every_key_is_updated_and_yielded_every_batch():
    """UST-1."""
    stage = Stage([[("a", 1), ("b", 1)], [("a", 2)], []])
    calls = stage.ssc.engine.accumulator(0)

    def counted(new: list[int], old: int | None) -> int:
        calls.add(1)
        return total(new, old)

    stage.look(stage.stream.update_state_by_key(counted))
    await stage.play(3)
    assert calls.value == 6
    assert [sorted(batch) for batch in stage.records] == [
        [("a", 1), ("b", 1)],
        [("a", 3), ("b", 1)],
        [("a", 3), ("b", 1)],
    ]


async def test_untouched_keys_are_called_with_no_new_values():
    """UST-1."""

    def history(new: list[int], old: list[Any] | None) -> list[Any]:
        return [*(old or []), new]

    given = await play(lambda s: s.update_state_by_key(history), [[("a", 1)], [], [("a", 2), ("a", 3)]])
    assert given[2] == [("a", [[1], [], [2, 3]])]


async def test_values_come_in_the_order_of_the_records_of_a_partition():
    """UST-2."""
    given = await play(
        lambda s: s.update_state_by_key(lambda new, old: (old or []) + new), [[("a", n) for n in range(50)]]
    )
    assert given == [[("a", list(range(50)))]]


async def test_the_first_batch_begins_from_the_initial_pairs():
    """UST-3: f is called for them, with data or without."""
    seen: list[Any] = [[("a", 1), ("c", 5)], []]
    given = await play(lambda s: s.update_state_by_key(total, initial=[("a", 10), ("b", 20)]), seen)
    assert given == [[("a", 11), ("b", 20), ("c", 5)]] * 2


async def test_initial_pairs_may_be_an_rdd():
    """UST-3."""

    def build(s: DStream[Any]) -> DStream[Any]:
        initial = s.context.engine.parallelize([("b", 20)])
        return s.update_state_by_key(total, initial=initial)

    assert await play(build, [[("a", 1)], [("b", 1)]]) == [[("a", 1), ("b", 20)], [("a", 1), ("b", 21)]]


async def test_an_initial_key_may_be_removed_in_the_first_batch():
    """UST-3, UST-9."""
    given = await play(
        lambda s: s.update_state_by_key(
            lambda new, old: None if old == 20 else total(new, old), initial=[("b", 20)]
        ),
        [[("a", 1)], []],
    )
    assert given == [[("a", 1)], [("a", 1)]]


async def test_a_batch_without_an_rdd_updates_all_keys_with_no_values():
    """UST-4."""

    def build(s: DStream[Any]) -> DStream[Any]:
        sparse = s.transform(lambda rdd, time: rdd if time != 2000 else None)
        return sparse.update_state_by_key(lambda new, old: (old or 0) + 1)

    assert await play(build, [[("a", 0)], [("a", 0)], []]) == [[("a", 1)], [("a", 2)], [("a", 3)]]


async def test_the_function_may_take_time_and_key():
    """UST-5."""
    given = await play(
        lambda s: s.update_state_by_key(
            lambda time, key, new, old: (time, key, len(new)), with_time=True, with_key=True
        ),
        [[("a", 1)], []],
    )
    assert given == [[("a", (1000, "a", 1))], [("a", (2000, "a", 0))]]
    given = await play(
        lambda s: s.update_state_by_key(lambda time, new, old: time, with_time=True), [[("a", 1)]]
    )
    assert given == [[("a", 1000)]]


async def test_the_state_lies_where_its_partitioner_says_and_the_batch_comes_to_it():
    """UST-6."""
    partitioner = HashPartitioner(3)
    seen: list[Any] = []

    def build(s: DStream[Any]) -> DStream[Any]:
        states = s.update_state_by_key(total, partitioner=partitioner)
        return states.transform(
            lambda rdd: (seen.append((rdd.node.partitions, rdd.node.partitioner)), rdd)[1]
        )

    await play(build, [[("a", 1)]])
    assert seen == [(3, partitioner)]


async def test_state_needs_no_checkpoint_directory():
    """UST-7: our difference."""
    assert await play(lambda s: s.update_state_by_key(total), [[("a", 1)]]) == [[("a", 1)]]


async def test_state_that_two_outputs_read_is_updated_once_a_batch():
    """UST-8, DS-1."""
    stage = Stage([[("a", 1)], [("a", 1)]])
    calls = stage.ssc.engine.accumulator(0)

    def counted(new: list[int], old: int | None) -> int:
        calls.add(1)
        return total(new, old)

    state = stage.stream.update_state_by_key(counted)
    stage.look(state)
    stage.look(state.map(lambda pair: pair))
    state.foreach_rdd(lambda rdd: None)
    await stage.play(2)
    assert stage.records == [[("a", 1)], [("a", 2)]]
    assert calls.value == 2


async def test_none_removes_a_key_and_other_false_values_do_not():
    """UST-9."""

    def update(new: list[Any], old: Any) -> Any:
        return new[-1] if new else old

    batches = [[("a", 1), ("b", 1)], [("a", None), ("b", 0)], [("b", "")], [("b", [])], [("a", 7)]]
    assert await play(lambda s: s.update_state_by_key(update), batches) == [
        [("a", 1), ("b", 1)],
        [("b", 0)],
        [("b", "")],
        [("b", [])],
        [("a", 7), ("b", [])],
    ]


async def test_the_key_none_has_a_state():
    """UST-9, H9."""
    given = await play(lambda s: s.update_state_by_key(total), [[(None, 1)], [(None, 2)]])
    assert given[1] == [(None, 3)]


async def test_an_update_that_fails_for_one_key_leaves_the_partition_as_it_was():
    """H2: and the error names step, batch and key."""
    store = MemoryStore()
    spec = UpdateState(Fn(lambda new, old: 10 // new[0] if new else old))
    store.apply(spec.update(store, [[("a", 1), ("b", 2)]], 1000), 1)
    before = dict(store.entries)
    with pytest.raises(StateFailure):
        spec.update(store, [[("a", 5), ("b", 0), ("c", 1)]], 2000)
    assert (store.entries, store.version) == (before, 1)

    stage = Stage([[("a", 1)], [("bad", 0)]])
    stage.look(stage.stream.update_state_by_key(lambda new, old: 10 // new[0] if new else old, name="divide"))
    with pytest.raises(StepError) as caught:
        await stage.play(2)
    assert (caught.value.step, caught.value.batch) == ("divide", 2000)
    assert "'bad'" in (caught.value.record or "")


async def test_state_goes_through_windows_and_joins():
    given = await play(lambda s: s.update_state_by_key(total).window(2), [[("a", 1)], [("a", 1)], [("a", 1)]])
    assert given == [[("a", 1)], [("a", 1), ("a", 2)], [("a", 2), ("a", 3)]]
    given = await play(lambda s: s.join(s.update_state_by_key(total)), [[("a", 1)], [("a", 5)]])
    assert given == [[("a", (1, 1))], [("a", (5, 6))]]


# -- map_with_state --------------------------------------------------------------------------------


def running_total(key: str, value: int, state: Any) -> tuple[str, int]:
    new = state.get(0) + value
    state.update(new)
    return key, new


async def test_map_with_state_is_called_once_a_record_in_order():
    """MWS-1."""
    given = await run_batches(
        lambda s: s.map_with_state(running_total), [[("a", 1), ("a", 2), ("b", 5)], [("a", 3)]]
    )
    assert given == [[("a", 1), ("a", 3), ("b", 5)], [("a", 6)]]


async def test_with_the_time_results_that_are_none_are_dropped():
    """MWS-1."""

    def odd(time: int, key: str, value: int, state: Any) -> Any:
        return (time, value) if value % 2 else None

    given = await run_batches(lambda s: s.map_with_state(odd, with_time=True), [[("a", 1), ("a", 2)]])
    assert given == [[(1000, 1)]]


async def test_without_the_time_none_is_a_result():
    """MWS-1."""
    assert await run_batches(lambda s: s.map_with_state(lambda k, v, s: None), [[("a", 1)]]) == [[None]]


def _update_none(state: Any) -> None:
    state.update(None)


def _update_after_remove(state: Any) -> None:
    state.remove()
    state.update(1)


def _remove_twice(state: Any) -> None:
    state.remove()
    state.remove()


@pytest.mark.parametrize(
    ("misuse", "says"),
    [
        (_update_none, "cannot be None"),
        (_update_after_remove, "cannot update a state that was removed"),
        (_remove_twice, "cannot remove a state that was removed"),
        (lambda state: state.get(), "the key has no state"),
    ],
)
async def test_misuse_of_a_state_is_an_error_with_a_remedy(misuse: Any, says: str):
    """MWS-2."""
    with pytest.raises(StepError, match=says):
        await run_batches(lambda s: s.map_with_state(lambda k, v, state: misuse(state)), [[("a", 1)]])


async def test_a_state_that_is_timing_out_cannot_be_changed():
    """MWS-2."""

    def keep_alive(key: str, value: int | None, state: Any) -> None:
        state.update(1)

    with pytest.raises(StepError, match="cannot update a state that is timing out"):
        await run_batches(lambda s: s.map_with_state(keep_alive, timeout_s=1), [[("a", 1)], [], [], []])


async def test_a_state_knows_whether_it_exists_and_can_be_removed():
    """MWS-2."""

    def visit(key: str, value: str, state: Any) -> tuple[str, bool, Any]:
        before = (value, state.exists(), state.get(None))
        if value == "drop":
            state.remove()
        else:
            state.update(value)
        return before

    batches = [[("k", "x"), ("k", "drop"), ("k", "y")], [("k", "drop")], [("k", "z")]]
    assert await run_batches(lambda s: s.map_with_state(visit), batches) == [
        [("x", False, None), ("drop", True, "x"), ("y", False, None)],
        [("drop", True, "y")],
        [("z", False, None)],
    ]


async def test_untouched_keys_yield_nothing():
    """MWS-3."""
    given = await run_batches(
        lambda s: s.map_with_state(running_total), [[("a", 1), ("b", 1)], [("a", 1)], []]
    )
    assert given[1:] == [[("a", 2)], []]


async def test_results_need_not_be_pairs():
    """MWS-3."""
    assert await run_batches(lambda s: s.map_with_state(lambda k, v, s: v), [[("a", 7)]]) == [[7]]


async def test_state_snapshots_give_all_pairs_each_batch():
    """MWS-4."""
    given = await play(
        lambda s: s.map_with_state(running_total).state_snapshots(), [[("a", 1), ("b", 2)], [("a", 1)], []]
    )
    assert given == [[("a", 1), ("b", 2)], [("a", 2), ("b", 2)], [("a", 2), ("b", 2)]]


async def test_snapshots_and_results_may_both_be_used():
    """MWS-4."""
    stage = Stage([[("a", 1)], [("a", 1)]])
    calls = stage.ssc.engine.accumulator(0)

    def counted(key: str, value: int, state: Any) -> tuple[str, int]:
        calls.add(1)
        return running_total(key, value, state)

    mapped = stage.stream.map_with_state(counted)
    mapped.foreach_rdd(lambda rdd: None)
    stage.look(mapped.state_snapshots())
    stage.look(mapped)
    await stage.play(2)
    assert stage.records == [[("a", 1)], [("a", 2)]]
    assert calls.value == 2


def test_a_stream_without_state_has_no_snapshots():
    """MWS-4."""
    with pytest.raises(GraphError, match="map_with_state"):
        Stage().stream.map(str).state_snapshots()


async def test_initial_states_are_there_in_the_first_batch_and_idle_from_then_on():
    """MWS-5."""

    def visit(key: str, value: int | None, state: Any) -> tuple[str, Any]:
        return ("timeout", key) if state.is_timing_out() else (key, state.get(None))

    given = await run_batches(
        lambda s: s.map_with_state(visit, initial=[("a", 10), ("b", 20)], timeout_s=2),
        [[("a", 1)], [], [], [], []],
    )
    # Loaded at 1 s; idle for longer than 2 s at 4 s.
    assert given[:3] == [[("a", 10)], [], []]
    assert sorted(given[3] or []) == [("timeout", "a"), ("timeout", "b")]
    assert given[4] == []


async def test_data_of_the_first_batch_finds_the_initial_state():
    """MWS-5."""
    given = await run_batches(
        lambda s: s.map_with_state(running_total, initial=[("a", 10)]), [[("a", 1)], [("a", 1)]]
    )
    assert given == [[("a", 11)], [("a", 12)]]


async def test_the_states_lie_where_the_partitioner_says():
    """MWS-6."""
    given = await run_batches(
        lambda s: s.map_with_state(lambda k, v, s: k, partitioner=HashPartitioner(4)).glom(),
        [[(n, n) for n in range(40)]],
    )
    parts = given[0]
    assert parts is not None
    lookup = HashPartitioner(4).lookup()
    assert [[lookup(key) for key in part] for part in parts] == [
        [i] * len(part) for i, part in enumerate(parts)
    ]


def told(key: str, value: int | None, state: Any) -> tuple[Any, ...]:
    if state.is_timing_out():
        return ("idle", key, value, state.get())
    state.update(value)
    return ("data", key, value)


async def test_idle_keys_are_told_once_with_none_and_removed_in_the_first_batch_after_their_time():
    """MWS-7: looked for in every batch, not in every tenth."""
    stage = Stage([[("a", 1)], [("b", 2)], [], [], [], []])
    mapped = stage.stream.map_with_state(told, timeout_s=2)
    stage.look(mapped)
    snapshots: list[Any] = []

    async def keep(rdd: Any) -> None:
        snapshots.append(sorted(await rdd.collect()))

    mapped.state_snapshots().foreach_rdd(keep)
    await stage.play(6)
    assert stage.records == [
        [("data", "a", 1)],
        [("data", "b", 2)],
        [],  # idle for exactly the timeout is not longer than it
        [("idle", "a", None, 1)],
        [("idle", "b", None, 2)],
        [],
    ]
    assert snapshots == [[("a", 1)], [("a", 1), ("b", 2)], [("a", 1), ("b", 2)], [("b", 2)], [], []]


async def test_a_key_with_data_in_the_batch_does_not_time_out_in_it():
    """MWS-7: the calls for data come first."""
    given = await run_batches(
        lambda s: s.map_with_state(told, timeout_s=1), [[("a", 1), ("b", 1)], [], [("a", 2)], [], []]
    )
    assert given == [
        [("data", "a", 1), ("data", "b", 1)],
        [],
        [("data", "a", 2), ("idle", "b", None, 1)],
        [],
        [("idle", "a", None, 2)],
    ]


async def test_a_key_that_is_removed_by_its_data_is_not_told_of_its_timeout_as_well():
    """MWS-7."""

    def remove_on_zero(key: str, value: int | None, state: Any) -> tuple[Any, ...]:
        if value == 0:
            state.remove()
            return ("removed", key)
        return told(key, value, state)

    given = await run_batches(
        lambda s: s.map_with_state(remove_on_zero, timeout_s=1), [[("a", 1)], [], [("a", 0)], [], []]
    )
    assert given == [[("data", "a", 1)], [], [("removed", "a")], [], []]


async def test_a_key_that_is_removed_and_comes_again_in_one_batch_lives_on():
    """MWS-7."""

    def flip(key: str, value: int | None, state: Any) -> Any:
        if state.is_timing_out():
            return "idle"
        if value == 0:
            state.remove()
        else:
            state.update(value)
        return value

    given = await run_batches(
        lambda s: s.map_with_state(flip, timeout_s=2), [[("a", 1)], [], [("a", 0), ("a", 5)], [], [], [], []]
    )
    assert given == [[1], [], [0, 5], [], [], ["idle"], []]


async def test_a_record_that_only_reads_its_state_renews_its_time():
    """MWS-8."""

    def read(key: str, value: str | None, state: Any) -> str | None:
        if state.is_timing_out():
            return "idle"
        if value == "write":
            state.update(1)
        return value

    given = await run_batches(
        lambda s: s.map_with_state(read, timeout_s=1),
        [[("a", "write")], [("a", "read")], [("a", "read")], [], [], []],
    )
    assert given == [["write"], ["read"], ["read"], [], ["idle"], []]


async def test_a_record_that_makes_no_state_starts_no_time():
    """MWS-8."""
    given = await run_batches(
        lambda s: s.map_with_state(lambda k, v, state: state.is_timing_out(), timeout_s=1),
        [[("a", 1)], [], [], []],
    )
    assert given == [[False], [], [], []]


@pytest.mark.parametrize("method", ["update_state_by_key", "map_with_state"])
async def test_the_initial_state_may_be_a_mapping_and_must_be_of_the_same_context(method: str):
    """UST-3, MWS-5."""

    def keep(*arguments: Any) -> Any:
        return arguments[-1] if method == "update_state_by_key" else arguments[-1].get()

    given = await play(lambda s: getattr(s, method)(keep, initial={"a": 5}), [[("a", 1)]])
    assert given == ([[("a", 5)]] if method == "update_state_by_key" else [[5]])
    with pytest.raises(GraphError, match="another context"):
        getattr(Stage().stream, method)(keep, initial=EngineContext("local").parallelize([("a", 1)]))


async def test_a_state_that_is_changed_in_place_does_not_change_what_was_seen_before():
    """H12, MWS-12: a window over the state has each batch's own view."""

    def append(new: list[int], old: list[int] | None) -> list[int]:
        state = [] if old is None else old
        state.extend(new)
        return state

    given = await play(
        lambda s: s.update_state_by_key(append).window(3), [[("a", 1)], [("a", 2)], [("a", 3)]]
    )
    assert sorted(given[2]) == [("a", [1]), ("a", [1, 2]), ("a", [1, 2, 3])]


@pytest.mark.parametrize("key", [float("nan"), [1], {"a": 1}, object()])
async def test_a_key_that_cannot_be_placed_is_an_error_that_names_step_and_record(key: Any):
    """H9."""
    with pytest.raises(BadKeyError) as caught:
        await run_batches(
            lambda s: s.map(lambda x: (x, 1), name="make keys").update_state_by_key(total, 2),
            [[key]],
            partitions=1,
        )
    assert "make keys" in str(caught.value)
    assert "record:" in str(caught.value)


async def test_equal_keys_of_different_types_are_one_key():
    """H9: as in a dict."""
    given = await run_batches(
        lambda s: s.update_state_by_key(total, 3), [[(1, 1)], [(1.0, 1)], [(True, 1)], [("1", 5)]]
    )
    assert dict(given[2] or []) == {1: 3}
    assert dict(given[3] or []) == {1: 3, "1": 5}


async def test_one_key_with_nearly_all_records_is_counted_right():
    """G3."""
    records = [("hot" if n % 100 else f"cold{n}", 1) for n in range(20_000)]
    given = await run_batches(
        lambda s: s.update_state_by_key(total), [records, records], parallelism=4, partitions=4
    )
    state = dict(given[1] or [])
    assert (state["hot"], len(state), set(state.values())) == (39_600, 201, {39_600, 2})


async def test_a_large_state_costs_only_its_touched_keys():
    """G4, MWS-1: scaled down."""
    stage = Stage([[(n, n) for n in range(50_000)], [(7, 1)], [(7, 1)]], partitions=1)
    calls = stage.ssc.engine.accumulator(0)

    def count(key: int, value: int, state: Any) -> None:
        calls.add(1)
        state.update(state.get(0) + value)

    stage.look(stage.stream.map_with_state(count).count())
    async with stage.started():
        await stage.batch(3)
        assert [state.keys for state in stage.ssc.engine.statistics().states] == [50_000]
    assert calls.value == 50_002
