"""Error policies of steps whose unit is the key: what is given up, what stays, and that both are exact."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine import StreamingContext
from aiostream_engine.config import CheckpointConfig, CircuitBreakerConfig, PoolConfig, StateConfig
from aiostream_engine.errors import (
    CircuitBreakerError,
    GraphError,
    OptionError,
    PoisonTaskError,
    SinkError,
    StepError,
)
from aiostream_engine.executors.probe import Probe, Watch, read_in_hand
from aiostream_engine.executors.task import TaskEnvironment
from aiostream_engine.sinks.base import PlainSink, Records, WriteKey
from aiostream_engine.testing import ManualClock, ScriptedReplayableSource
from aiostream_engine.types import ContextState
from tests.faults.world import KEY, KeyedSink, Outside
from tests.stage import Letters, Stage

pytestmark = pytest.mark.faults

MASTERS = pytest.mark.parametrize("master", ["local", "local[2]"])


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


# -- states ----------------------------------------------------------------------------------------


def collected(values: list[Any], old: list[Any] | None) -> list[Any]:
    """Keeps all values; changes the state in place before it raises."""
    state = old if old is not None else []
    for value in values:
        state.append(value)
        if value == "x":
            raise ValueError("not a number")
    return state


def collecting(key: Any, value: Any, state: Any) -> tuple[Any, list[Any]]:
    """The same, record by record."""
    kept = state.get([])
    kept.append(value)
    if value == "x":
        raise ValueError("not a number")
    state.update(kept)
    return key, list(kept)


BATCHES: list[list[Any]] = [
    [("a", 1), ("b", 2)],
    [("a", 3), ("a", "x"), ("a", 4), ("b", 5), ("c", "x")],
    [("a", 6)],
]


@MASTERS
async def test_a_key_on_which_an_update_fails_keeps_its_state_and_its_new_values_are_a_dead_letter(
    master: str,
) -> None:
    """A3: also where the function had changed the state in place; other keys go on, and so does this one."""
    stage = Stage(BATCHES, master=master, partitions=2)
    states = stage.stream.update_state_by_key(collected, name="keep", on_error="dead-letter")
    letters = Letters(states)
    stage.look(states)
    await stage.play(3)
    assert [dict(batch) for batch in stage.records] == [
        {"a": [1], "b": [2]},
        {"a": [1], "b": [2, 5]},
        {"a": [1, 6], "b": [2, 5]},
    ]
    assert letters.values == {"a": Counter([3, "x", 4]), "c": Counter(["x"])}
    assert {(letter.step, letter.batch, letter.error_type) for letter in letters.found} == {
        ("keep", 2000, "ValueError")
    }
    assert stage.ssc.engine.statistics().counters == {"dead_lettered:keep": 2}


@MASTERS
async def test_a_record_on_which_a_mapping_with_state_fails_is_a_dead_letter_and_its_key_goes_on(
    master: str,
) -> None:
    """A3: the state is as if the record had never been there; the records before and after it count."""
    stage = Stage(BATCHES, master=master, partitions=1)
    steps = stage.stream.map_with_state(collecting, name="keep", on_error="dead-letter")
    letters = Letters(steps)
    stage.look(steps)
    await stage.play(3)
    assert [sorted(batch) for batch in stage.records] == [
        [("a", [1]), ("b", [2])],
        [("a", [1, 3]), ("a", [1, 3, 4]), ("b", [2, 5])],
        [("a", [1, 3, 4, 6])],
    ]
    assert sorted(letter.record for letter in letters.found) == [("a", "x"), ("c", "x")]


@pytest.mark.parametrize("kind", ["update", "map"])
async def test_a_state_on_disk_is_as_safe_from_what_a_failing_function_did(kind: str) -> None:
    """A3."""
    stage = Stage(BATCHES, partitions=1, state=StateConfig(backend="disk"))
    if kind == "update":
        step = stage.stream.update_state_by_key(collected, on_error="skip")
        expected = [("a", [1, 6]), ("b", [2, 5])]
    else:
        step = stage.stream.map_with_state(collecting, on_error="skip")
        expected = [("a", [1, 3, 4, 6])]
    stage.look(step)
    await stage.play(3)
    assert sorted(stage.records[-1]) == expected


async def test_a_key_without_new_values_that_fails_is_told_each_time_and_keeps_its_state() -> None:
    """A3: an update is called for every key in every batch."""

    def update(values: list[int], old: int | None) -> int:
        if not values and old == 13:
            raise ValueError("nothing new")
        return sum(values) + (old or 0)

    stage = Stage([[("a", 13), ("b", 1)], [("b", 1)], [("a", 1)]])
    states = stage.stream.update_state_by_key(update, on_error="dead-letter")
    letters = Letters(states)
    stage.look(states)
    await stage.play(3)
    assert [dict(batch) for batch in stage.records] == [
        {"a": 13, "b": 1},
        {"a": 13, "b": 2},
        {"a": 14, "b": 2},
    ]
    assert [letter.record for letter in letters.found] == [("a", [])]


async def test_a_key_that_fails_while_it_times_out_goes_and_its_state_is_in_the_dead_letter() -> None:
    """A3: once, and nothing of it is lost."""

    def session(key: str, value: int | None, state: Any) -> Any:
        if state.is_timing_out():
            raise ValueError("cannot be summed up")
        state.update([*state.get([]), value])
        return key

    stage = Stage([[("a", 1)], [], [], [], [("a", 2)]])
    sessions = stage.stream.map_with_state(session, timeout_s=1.0, on_error="dead-letter", name="sessions")
    letters = Letters(sessions)
    stage.look(sessions.state_snapshots())
    await stage.play(5)
    assert stage.records == [[("a", [1])], [("a", [1])], [], [], [("a", [2])]]
    assert [letter.record for letter in letters.found] == [("a", None, [1])]


@pytest.mark.parametrize("kind", ["update", "map"])
async def test_each_try_of_a_state_function_begins_with_the_state_as_it_was(kind: str) -> None:
    """A3."""
    failures = iter([True, True, False])

    def unlucky(state: list[int], value: int) -> list[int]:
        state.append(value)
        if value == 2 and next(failures):
            raise ConnectionError("once more")
        return state

    def update(values: list[int], old: list[int] | None) -> list[int]:
        for value in values:
            old = unlucky(old or [], value)
        return old or []

    def mapping(key: str, value: int, state: Any) -> tuple[str, list[int]]:
        state.update(unlucky(state.get([]), value))
        return key, state.get()

    stage = Stage([[("a", 1)], [("a", 2)]])
    if kind == "update":
        stage.look(stage.stream.update_state_by_key(update, name="keep", retries=2))
    else:
        stage.look(stage.stream.map_with_state(mapping, name="keep", retries=2))
    await stage.play(2)
    assert stage.records == [[("a", [1])], [("a", [1, 2])]]
    assert stage.ssc.engine.statistics().counters == {"retried:keep": 2}


async def test_an_initial_state_stays_where_the_first_update_of_its_key_fails() -> None:
    """A3, UST-7."""
    stage = Stage([[("a", "x"), ("b", 2)]])
    states = stage.stream.update_state_by_key(collected, initial={"a": [7], "b": [1]}, on_error="skip")
    stage.look(states)
    await stage.play(1)
    assert dict(stage.records[0]) == {"a": [7], "b": [1, 2]}


async def test_the_circuit_breaker_takes_the_share_of_the_keys_that_had_new_values() -> None:
    """F15: a million idle keys do not hide that all that is new is given up."""

    def update(values: list[Any], old: int | None) -> int:
        if "x" in values:
            raise ValueError("not a number")
        return sum(values) + (old or 0)

    batches = [[(n, 1) for n in range(100)], [(n, "x") for n in range(10)], [(n, "x") for n in range(10)]]
    breaker = CircuitBreakerConfig(share_max=0.5, window_batches=2, records_min=10)
    stage = Stage(batches, circuit_breaker=breaker)
    stage.look(stage.stream.update_state_by_key(update, name="sums", on_error="skip"))
    with pytest.raises(CircuitBreakerError, match="step 'sums' gave up 20 of 20 records"):
        await stage.play(3)


async def test_dead_letters_of_a_state_that_nobody_reads_are_refused_at_start() -> None:
    """A3: nothing is lost in silence."""
    stage = Stage(BATCHES)
    stage.look(stage.stream.update_state_by_key(collected, name="keep", on_error="dead-letter"))
    with pytest.raises(GraphError, match="'keep' has on_error='dead-letter' but nothing reads them"):
        await stage.play(1)


async def test_without_a_policy_a_state_function_that_fails_stops_the_stream() -> None:
    """A3: the default."""
    stage = Stage([[("a", 1), ("a", "x")]])
    stage.look(stage.stream.map_with_state(collecting, name="keep"))
    with pytest.raises(StepError, match=r"step 'keep'[\s\S]*\('a', 'x'\)"):
        await stage.play(1)


# -- workers that die ------------------------------------------------------------------------------

NUMBERS = [(n % 4, n) for n in range(20)]  # 13 is of key 1


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_of(value: int) -> None:
    if value == 13:
        kill()


def summed(values: list[int], old: int | None) -> int:
    for value in values:
        die_of(value)
    return sum(values) + (old or 0)


def summing(key: int, value: int, state: Any) -> tuple[int, int]:
    die_of(value)
    state.update(state.get(0) + value)
    return key, state.get()


def deadly_sum(a: int, b: int) -> int:
    die_of(b)
    return a + b


def on_workers(*batches: list[Any], master: str = "local[2]") -> Stage:
    pool = PoolConfig(task_attempts_max=2, term_grace_s=0.1)
    return Stage(list(batches), master=master, parallelism=2, partitions=1, pool=pool)


async def test_a_key_whose_update_kills_the_worker_is_a_dead_letter_and_all_states_are_exact() -> None:
    """A3: the state dies with the worker each time, and is built anew."""
    stage = on_workers([(n % 4, 100) for n in range(4)], NUMBERS)
    states = stage.stream.update_state_by_key(summed, name="sums", on_error="dead-letter")
    letters = Letters(states)
    stage.look(states)
    await stage.play(2)
    sums = {key: 100 + sum(n for k, n in NUMBERS if k == key) for key in range(4)}
    assert dict(stage.records[1]) == {**sums, 1: 100}
    (letter,) = letters.found
    assert letter.record == (1, [1, 5, 9, 13, 17])
    assert (letter.step, letter.error_type.rpartition(".")[2]) == ("sums", "PoisonTaskError")


async def test_a_record_whose_mapping_with_state_kills_the_worker_is_a_dead_letter() -> None:
    """A3: the other records of its key count."""
    stage = on_workers(NUMBERS)
    steps = stage.stream.map_with_state(summing, name="sums", on_error="dead-letter")
    letters = Letters(steps)
    stage.look(steps)
    await stage.play(1)
    assert [letter.record for letter in letters.found] == [(1, 13)]
    finals = dict(sorted(stage.records[0]))
    assert finals == {key: sum(n for k, n in NUMBERS if k == key and n != 13) for key in range(4)}


async def test_a_key_whose_values_kill_the_worker_when_they_are_reduced_is_a_dead_letter() -> None:
    """A3."""
    stage = on_workers(NUMBERS)
    sums = stage.stream.reduce_by_key(deadly_sum, name="sums", on_error="dead-letter")
    letters = Letters(sums)
    stage.look(sums)
    await stage.play(1)
    assert [letter.record for letter in letters.found] == [(1, [1, 5, 9, 13, 17])]
    assert dict(stage.records[0]) == {
        key: sum(n for k, n in NUMBERS if k == key) for key in range(4) if key != 1
    }


def whole(records: Iterator[Any]) -> Iterator[Any]:
    for key, value in records:
        die_of(value)
        yield key, value


def listed(records: list[Any]) -> list[Any]:
    for _, value in records:
        die_of(value)
    return records


NAMED: dict[str, tuple[Any, str]] = {
    "update_state_by_key": (
        lambda s: s.update_state_by_key(summed, name="native"),
        r"record: \(1, \[1, 5, 9, 13, 17\]\)",
    ),
    "map_with_state": (lambda s: s.map_with_state(summing, name="native"), r"record: \(1, 13\)"),
    "reduce_by_key": (lambda s: s.reduce_by_key(deadly_sum, name="native"), r"record: \(1, 13\)"),
    "group and reduce": (
        lambda s: s.combine_by_key(lambda v: v, deadly_sum, deadly_sum, map_side=False, name="native"),
        r"record: \(1, 13\)",
    ),
    "window": (
        lambda s: s.reduce_by_key_and_window(added, deadly_inverse, 2.0, name="native"),
        r"record: \(1, \d+\)",
    ),
    "map_partitions": (lambda s: s.map_partitions(whole, name="native"), r"record: \(1, 13\)"),
    "map_async": (
        lambda s: s.map_async(looked_up, name="native", placement="worker"),
        r"record: one of 20, from \(0, 0\) to \(3, 19\)",
    ),
    "map_batches": (
        lambda s: s.map_batches(listed, name="native"),
        "record: all 20 records of the partition",
    ),
}


async def looked_up(pair: tuple[int, int]) -> tuple[int, int]:
    die_of(pair[1])
    return pair


def deadly_inverse(a: int, b: int) -> int:
    if b == sum(n for k, n in NUMBERS if k == 1):
        kill()
    return a - b


@pytest.mark.parametrize("kind", ["update_state_by_key", "map_partitions"])
async def test_without_a_policy_the_error_names_step_and_partition_and_what_was_in_hand(kind: str) -> None:
    """A3."""
    build, record = NAMED[kind]
    stage = on_workers(NUMBERS, master="local[1]")
    stage.look(build(stage.stream).map(str))
    with pytest.raises(PoisonTaskError, match=rf"SIGKILL[\s\S]*step 'native', partition \d[\s\S]*{record}"):
        await stage.play(1)


@pytest.mark.parametrize("kind", NAMED)
async def test_a_watched_task_notes_what_each_kind_of_step_has_in_hand(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A3: what is read when the worker has died is looked at by the function that would kill it."""
    build, record = NAMED[kind]
    path, seen = str(tmp_path / "hand"), tmp_path / "seen"

    def look() -> None:
        hand = read_in_hand(path)
        assert hand is not None
        seen.write_text(f"step {hand.step!r} record: {hand.record} {'' if hand.tolerant else 'strict'}")

    monkeypatch.setattr(TaskEnvironment, "watch", lambda self, task: Watch(path, Probe(full=True)))
    monkeypatch.setitem(globals(), "kill", look)
    stage = Stage([NUMBERS, [(0, 0)], [(0, 0)]], parallelism=2, partitions=1)
    stage.look(build(stage.stream).map(str))
    await stage.play(3)
    assert re.match(rf"step 'native' {record} .*strict$", seen.read_text())


# -- across a restart ------------------------------------------------------------------------------


async def checked(pair: tuple[str, Any]) -> tuple[str, Any]:
    if pair[1] == "x":
        raise ValueError("not a number")
    return pair


class FailsOnce(PlainSink):
    """Is down in the batch that gives dead letters, until the driver is started again."""

    def __init__(self, is_down: bool) -> None:
        self.name, self.is_down = "flaky", is_down

    async def write(self, key: WriteKey, records: Records) -> None:
        async for _ in records:
            if self.is_down and key.time == 2000:
                raise SinkError("down")


@MASTERS
async def test_a_batch_that_is_run_again_by_recovery_gives_the_same_dead_letters_once(
    master: str, tmp_path: Path
) -> None:
    """A3, B1: letters commit with their batch."""
    outside = Outside()
    time_s = 0.0
    for is_down in (True, False):
        clock = ManualClock(time_s)
        ssc = StreamingContext(
            1.0,
            master,
            parallelism=2,
            clock=clock,
            checkpoint=CheckpointConfig(str(tmp_path), key=KEY),
            stop_when_finished=False,
        )
        source = ScriptedReplayableSource(BATCHES, name="script", partitions=1)
        pairs = ssc.from_source(source)
        states = pairs.update_state_by_key(collected, name="states", on_error="dead-letter")
        steps = pairs.map_with_state(collecting, name="steps", on_error="dead-letter")
        sums = pairs.reduce_by_key(added, name="sums", on_error="dead-letter")
        calls = pairs.map_async(checked, name="calls", on_error="dead-letter")
        for step in (states, steps, sums, calls):
            letters = step.dead_letters().map(lambda letter: letter.record)
            letters.to(KeyedSink(outside, f"letters of {step.node.name}"))
            step.to(KeyedSink(outside, step.node.name))
        sums.to(FailsOnce(is_down))

        def is_over() -> bool:
            return ssc.state is ContextState.STOPPED or bool(source.commits and source.commits[-1] >= 3000)  # noqa: B023

        async with ssc:
            await ssc.start()
            while not is_over():
                before = len(source.commits)
                await clock.advance(1.0)
                await clock.until(lambda: is_over() or len(source.commits) > before, timeout_s=60)  # noqa: B023
        time_s = clock.time()
    found = outside.outputs()
    assert outside.rewritten > 0  # and KeyedSink has checked that it was the same
    assert found["letters of states", 2000] == [("a", [3, "x", 4]), ("c", ["x"])]
    assert found["letters of steps", 2000] == [("a", "x"), ("c", "x")]
    assert found["letters of sums", 2000] == [("a", [3, "x", 4])]
    assert found["letters of calls", 2000] == [("a", "x"), ("c", "x")]
    assert found["states", 3000] == [("a", [1, 6]), ("b", [2, 5])]
    assert found["steps", 3000] == [("a", [1, 3, 4, 6])]
    assert not [
        time for (sink, time), records in found.items() if "letters" in sink and time != 2000 and records
    ]
