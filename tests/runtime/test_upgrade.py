"""A checkpoint directory meets another program, or another number of partitions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine.dstream import DStream
from aiostream_engine.errors import ConfigurationError, GraphError, StepError
from aiostream_engine.runtime import commit
from tests.faults.world import (
    Crash,
    KeyedSink,
    Outside,
    StagingSink,
    World,
    expected_outputs,
    running_sum,
    script,
)

BATCHES = 8


@pytest.fixture
def crash_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Let the driver end at the n-th passage of a crash point, once."""

    def arm(name: str, hit: int) -> None:
        left = [hit]

        def point(at: str) -> None:
            if at == name:
                left[0] -= 1
                if left[0] == 0:
                    raise Crash(name)

        monkeypatch.setattr(commit, "crash_point", point)

    return arm


def sums_and_windows(pairs: DStream[Any], outside: Outside, *, prefix: str = "") -> None:
    pairs.map_with_state(running_sum, name=f"{prefix}sums").to(KeyedSink(outside, "sums"))
    totals = pairs.reduce_by_key_and_window(operator.add, operator.sub, 3.0, 1.0, name=f"{prefix}totals")
    totals.to(KeyedSink(outside, "totals"))
    pairs.window(2.0, 1.0, name=f"{prefix}two").count().to(KeyedSink(outside, "two"))


def reordered(pairs: DStream[Any], outside: Outside) -> None:
    pairs.window(2.0, 1.0, name="two").count().to(KeyedSink(outside, "two"))
    totals = pairs.reduce_by_key_and_window(operator.add, operator.sub, 3.0, 1.0, name="totals")
    totals.to(KeyedSink(outside, "totals"))
    pairs.map_with_state(running_sum, name="sums").to(KeyedSink(outside, "sums"))


# -- another program ---------------------------------------------------------------------------------


async def test_steps_may_change_their_order(tmp_path: Path) -> None:
    """H3: state and windows follow the names, not the places."""
    items = script(BATCHES)
    expected = await expected_outputs(str(tmp_path / "expected"), items, program=sums_and_windows)
    world = World(str(tmp_path / "cp"), items, program=sums_and_windows)
    assert await world.run(upto=4) is None
    world.program = reordered
    assert await world.run() is None
    assert world.outputs() == expected


async def test_windows_over_one_stream_find_its_past_by_either_name(tmp_path: Path) -> None:
    """H3: the stream's RDDs are kept once, for both; one of the two may go."""

    def both(pairs: DStream[Any], outside: Outside) -> None:
        pairs.window(3.0, 1.0, name="a").count().to(KeyedSink(outside, "three"))
        pairs.window(2.0, 1.0, name="z").count().to(KeyedSink(outside, "two"))

    def one(pairs: DStream[Any], outside: Outside) -> None:
        pairs.window(2.0, 1.0, name="z").count().to(KeyedSink(outside, "two"))

    items = script(BATCHES)
    expected = await expected_outputs(str(tmp_path / "expected"), items, program=both)
    world = World(str(tmp_path / "cp"), items, program=both)
    assert await world.run(upto=3) is None
    world.program = one
    error = await world.run()
    assert isinstance(error, GraphError)
    world.config["drop_unknown_state"] = True
    assert await world.run() is None
    assert {key: records for key, records in world.outputs().items() if key[0] == "two"} == {
        key: records for key, records in expected.items() if key[0] == "two"
    }


async def test_a_new_step_starts_empty_and_the_others_go_on(tmp_path: Path) -> None:
    """H3."""

    def grown(pairs: DStream[Any], outside: Outside) -> None:
        pairs.map_with_state(running_sum, name="new sums").to(KeyedSink(outside, "new"))
        sums_and_windows(pairs, outside)

    items = script(BATCHES)
    expected = await expected_outputs(str(tmp_path / "expected"), items, program=sums_and_windows)
    world = World(str(tmp_path / "cp"), items, program=sums_and_windows)
    assert await world.run(upto=4) is None
    world.program = grown
    assert await world.run() is None
    outputs = world.outputs()
    assert {key: records for key, records in outputs.items() if key[0] != "new"} == expected
    assert outputs["new", 5000] == sorted(
        (
            [key, value, sum(v for k, v in items[4][: n + 1] if k == key)]
            for n, (key, value) in enumerate(items[4])
        ),
        key=repr,
    )


@pytest.mark.parametrize("change", ["renamed", "removed"])
async def test_state_that_nobody_asks_for_is_refused_or_dropped_knowingly(
    tmp_path: Path, change: str
) -> None:
    """H3: the text names the steps; nothing is lost by the refusal; what was dropped does not come back."""

    def changed(pairs: DStream[Any], outside: Outside) -> None:
        if change == "renamed":
            sums_and_windows(pairs, outside, prefix="other ")
        else:
            pairs.count().to(KeyedSink(outside, "counts"))

    items = script(BATCHES)
    expected = await expected_outputs(str(tmp_path / "expected"), items, program=sums_and_windows)
    world = World(str(tmp_path / "cp"), items, program=sums_and_windows)
    assert await world.run(upto=4) is None
    world.program = changed
    error = await world.run()
    assert isinstance(error, GraphError)
    assert "sums, totals, two" in str(error)
    world.program = sums_and_windows
    assert await world.run(upto=6) is None
    assert {key: expected[key] for key in expected if key[1] <= 6000}.items() <= world.outputs().items()
    world.program, world.config = changed, {"drop_unknown_state": True}
    assert await world.run(upto=7) is None
    world.program, world.config = changed, {}
    assert await world.run(upto=8) is None, "it is gone, and is not missed any more"
    if change == "renamed":
        sums = {(key, total) for key, _, total in world.outputs()["sums", 7000]}
        assert sums == {
            (key, value + sum(v for k, v in items[6][:n] if k == key))
            for n, (key, value) in enumerate(items[6])
        }


async def test_an_input_that_is_gone_is_refused_too(tmp_path: Path) -> None:
    """H3: its position would be lost, and a renamed one would be read again from its beginning."""
    world = World(str(tmp_path / "cp"), script(4), program=sums_and_windows)
    assert await world.run(upto=2) is None
    world.source_name = "renamed"
    error = await world.run()
    assert isinstance(error, GraphError)
    assert "script" in str(error)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (
            lambda pairs, outside: pairs.map_with_state(running_sum).to(KeyedSink(outside, "x")),
            "map_with_state",
        ),
        (lambda pairs, outside: pairs.window(2.0).count().to(KeyedSink(outside, "x")), "window"),
        (
            lambda pairs, outside: [
                pairs.map(str).to(KeyedSink(outside, "same")),
                pairs.map(repr).to(KeyedSink(outside, "same")),
            ],
            "two sinks are named 'same'",
        ),
        (
            lambda pairs, outside: [
                pairs.map_with_state(running_sum, name="same").to(KeyedSink(outside, "x")),
                pairs.window(2.0, name="same").to(KeyedSink(outside, "y")),
            ],
            "two steps are named 'same'",
        ),
    ],
)
async def test_names_that_would_not_be_found_again_are_refused(
    tmp_path: Path, build: Callable[[DStream[Any], Outside], object], text: str
) -> None:
    """H3: generated names never bind silently."""
    world = World(str(tmp_path / "cp"), script(2), program=lambda *args: (build(*args), None)[1])
    error = await world.run()
    assert isinstance(error, GraphError)
    assert text in str(error)


# -- another form of the state -----------------------------------------------------------------------


def boxed_sum(key: int, value: int, state: Any) -> list[int]:
    """As running_sum, with the sum in a dict: the second version of its state."""
    box = dict(state.get({"sum": 0}))
    box["sum"] += value
    state.update(box)
    return [key, value, box["sum"]]


def boxed(migrate: Any, version: int = 2) -> Callable[[DStream[Any], Outside], None]:
    def program(pairs: DStream[Any], outside: Outside) -> None:
        sums = pairs.map_with_state(boxed_sum, name="sums", state_version=version, migrate=migrate)
        sums.to(KeyedSink(outside, "sums"))

    return program


def plain(pairs: DStream[Any], outside: Outside) -> None:
    pairs.map_with_state(running_sum, name="sums").to(KeyedSink(outside, "sums"))


async def test_another_version_of_a_state_is_refused_with_both_versions(tmp_path: Path) -> None:
    """H4."""
    world = World(str(tmp_path / "cp"), script(4), program=plain)
    assert await world.run(upto=2) is None
    world.program = boxed(None)
    error = await world.run()
    assert isinstance(error, GraphError)
    assert "was written with version 1, the program has version 2" in str(error)


@pytest.mark.parametrize("crash", [None, "before_commit", "after_commit"])
async def test_a_state_is_migrated_once(
    tmp_path: Path, crash: str | None, crash_at: Callable[[str, int], None]
) -> None:
    """H4: also when the first batch after it dies, before or behind its commit."""
    items = script(BATCHES)
    expected = await expected_outputs(str(tmp_path / "expected"), items, program=plain)
    world = World(str(tmp_path / "cp"), items, program=plain)
    assert await world.run(upto=3) is None
    seen: list[int] = []

    def migrate(version: int, key: int, state: Any) -> Any:
        seen.append(version)
        return {"sum": state}

    world.program = boxed(migrate)
    if crash is not None:
        crash_at(crash, 1)
        assert isinstance(await world.run(), Crash)
    assert await world.run() is None
    assert world.outputs() == expected
    assert set(seen) == {1}
    assert len(seen) == 10 if crash == "before_commit" else 5


async def test_a_migration_may_drop_keys_and_its_errors_name_the_key(tmp_path: Path) -> None:
    """H4."""
    world = World(str(tmp_path / "cp"), script(4), program=plain)
    assert await world.run(upto=2) is None
    world.program = boxed(lambda version, key, state: 1 / 0)
    error = await world.run()
    assert isinstance(error, ConfigurationError)
    assert "migrate of step 'sums' raised for key" in str(error)
    world.program = boxed(lambda version, key, state: {"sum": state} if key else None)
    assert await world.run(upto=3) is None
    zero = [record for record in world.outputs()["sums", 3000] if record[0] == 0]
    assert zero[0][1] == zero[0][2], "key 0 was dropped and starts anew"


# -- another number of partitions --------------------------------------------------------------------


@pytest.mark.parametrize("steps", [(3, 5, 1), (1, 4, 2), (5, 3, 3)])
async def test_state_follows_its_keys_over_another_number_of_partitions(
    tmp_path: Path, steps: tuple[int, ...]
) -> None:
    """H7: sums and windows stay exact."""
    items = script(9)
    expected = await expected_outputs(str(tmp_path / "expected"), items, program=sums_and_windows)
    world = World(str(tmp_path / "cp"), items, program=sums_and_windows)
    for number, parallelism in enumerate(steps, 1):
        world.parallelism = parallelism
        assert await world.run(upto=3 * number) is None
    assert world.outputs() == expected


@pytest.mark.parametrize("point", ["after_intent", "before_commit", "after_commit", "mid_publish"])
@pytest.mark.parametrize(("before", "after"), [(3, 5), (5, 2)])
async def test_a_batch_that_was_begun_is_finished_as_it_was_begun(
    tmp_path: Path, crash_at: Callable[[str, int], None], point: str, before: int, after: int
) -> None:
    """B6: the keyed sink refuses another number of partitions, or other content, under a key that it has."""
    items = script(BATCHES)
    expected = await expected_outputs(str(tmp_path / "expected"), items, parallelism=before)
    world = World(str(tmp_path / "cp"), items, parallelism=before)
    crash_at(point, 4)
    assert isinstance(await world.run(), Crash)
    world.parallelism = after
    assert await world.run() is None
    assert world.outputs() == expected
    partitions = {
        int(time): count for (sink, time, _), (count, _) in world.outside.by_key.items() if sink == "keyed"
    }
    assert partitions[8000] == after, "the new number counts from the next batch on"


async def test_a_crash_in_the_finishing_of_a_batch_of_another_layout(
    tmp_path: Path, crash_at: Callable[[str, int], None]
) -> None:
    """B4, B6: the recorded layout is recorded again."""
    items = script(BATCHES)
    expected = await expected_outputs(str(tmp_path / "expected"), items, parallelism=3)
    world = World(str(tmp_path / "cp"), items, parallelism=3)
    crash_at("before_commit", 4)
    assert isinstance(await world.run(), Crash)
    for parallelism in (5, 2):
        world.parallelism = parallelism
        crash_at("before_commit", 1)
        assert isinstance(await world.run(), Crash)
    world.parallelism = 4
    crash_at("nowhere", 1)
    assert await world.run() is None
    assert world.outputs() == expected


async def test_a_partitioner_of_ones_own_may_change(tmp_path: Path) -> None:
    """H7: nothing tells whether a function is the same as before, so state is dealt anew."""
    from aiostream_engine.operators.function import Fn
    from aiostream_engine.operators.partitioners import FunctionPartitioner

    def program(place: Callable[[int], int]) -> Callable[[DStream[Any], Outside], None]:
        def build(pairs: DStream[Any], outside: Outside) -> None:
            partitioner = FunctionPartitioner(2, Fn(place, "place"))
            pairs.map_with_state(running_sum, name="sums", partitioner=partitioner).to(
                KeyedSink(outside, "sums")
            )

        return build

    items = script(BATCHES)
    expected = await expected_outputs(str(tmp_path / "expected"), items, program=plain)
    world = World(str(tmp_path / "cp"), items, program=plain)
    assert await world.run(upto=2) is None
    for upto, place in [(4, lambda key: key), (6, lambda key: key + 1)]:
        world.program = program(place)
        assert await world.run(upto=upto) is None
    world.program = plain
    assert await world.run() is None
    assert world.outputs() == expected


# -- failing functions, timers -----------------------------------------------------------------------


async def test_a_function_that_raised_in_the_middle_of_a_batch_left_no_trace(tmp_path: Path) -> None:
    """H2: the batch is run again by the repaired program, from the state before it."""

    def broken(pairs: DStream[Any], outside: Outside) -> None:
        def sum_or_raise(key: int, value: int, state: Any) -> list[int]:
            if value == 26:
                raise ValueError("not this one")
            return running_sum(key, value, state)

        pairs.map_with_state(sum_or_raise, name="sums").to(KeyedSink(outside, "sums"))

    items = script(BATCHES)
    expected = await expected_outputs(str(tmp_path / "expected"), items, program=plain)
    world = World(str(tmp_path / "cp"), items, program=broken)
    error = await world.run()
    assert isinstance(error, StepError)
    world.program = plain
    assert await world.run() is None
    assert world.outputs() == expected


@pytest.mark.parametrize("downtime_s", [0, 1, 20])
@pytest.mark.parametrize("parallelism", [2, 3])
async def test_a_key_that_is_idle_for_too_long_goes_once_also_across_a_restart(
    tmp_path: Path, downtime_s: int, parallelism: int
) -> None:
    """H11, H7: late by no more than the time that the driver was down."""

    def last_word(key: int, value: int | None, state: Any) -> list[Any] | None:
        if state.is_timing_out():
            return ["gone", key, state.get()]
        state.update(value)
        return None

    def program(pairs: DStream[Any], outside: Outside) -> None:
        gone = pairs.map_with_state(last_word, name="idle", timeout_s=3.0).filter(
            lambda item: item is not None
        )
        gone.to(KeyedSink(outside, "gone"))
        gone.to(StagingSink(outside, "staged"))

    items: list[Any] = [[(1, 10), (2, 20)], [(2, 21)], [(3, 30)], [(3, 31)], [], [], [], [], []]
    world = World(str(tmp_path / "cp"), items, program=program)
    assert await world.run(upto=3) is None
    world.time_s += downtime_s
    world.parallelism = parallelism
    world.items = [*items, *[[] for _ in range(downtime_s)]]
    assert await world.run() is None
    for sink in ("gone", "staged"):
        gone = {
            key: time
            for (name, time), records in world.outputs().items()
            if name == sink
            for _, key, _ in records
        }
        count = sum(len(records) for (name, _), records in world.outputs().items() if name == sink)
        assert count == 3
        for key, due_s in [(1, 5), (2, 6), (3, 8)]:
            assert due_s * 1000 <= gone[key] <= (due_s + downtime_s) * 1000, key


async def test_a_timeout_that_is_new_counts_from_the_start_of_the_new_program(tmp_path: Path) -> None:
    """H3, H11: keys that had no timeout before go, too, and not at once."""

    def program(timeout_s: float | None) -> Callable[[DStream[Any], Outside], None]:
        def last_word(key: int, value: int | None, state: Any) -> list[Any] | None:
            if state.is_timing_out():
                return [key, state.get()]
            state.update(value)
            return None

        def build(pairs: DStream[Any], outside: Outside) -> None:
            words = pairs.map_with_state(last_word, name="idle", timeout_s=timeout_s)
            words.filter(lambda item: item is not None).to(KeyedSink(outside, "gone"))

        return build

    items: list[Any] = [[(1, 10), (2, 20)], [], [], [], [(2, 21)], [], [], [], []]
    world = World(str(tmp_path / "cp"), items, program=program(None))
    assert await world.run(upto=4) is None
    world.program = program(2.0)
    assert await world.run() is None
    gone = {time: records for (_, time), records in world.outputs().items() if records}
    assert gone == {8000: [[1, 10], [2, 21]]}
