"""Records that kill whoever touches them: found, given up by the step's policy, and all others kept."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine import StreamingContext
from aiostream_engine.config import CheckpointConfig, PoolConfig
from aiostream_engine.errors import PoisonTaskError, StepError, TaskDeadlineError
from aiostream_engine.observe.events import WorkerLost
from aiostream_engine.testing import ManualClock, ScriptedReplayableSource
from tests.faults.world import KEY, KeyedSink, Outside, StagingSink, running_sum
from tests.stage import Letters, Stage

pytestmark = pytest.mark.faults

POISON = 13


def segfault() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(0)


def be_killed() -> None:
    """As the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    """In C, with the interpreter's lock, deaf to SIGTERM: only the deadline helps."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.PyDLL(None).sleep(1000)


def deadly(how: Callable[[], None], *records: int) -> Callable[[int], int]:
    def step(record: int) -> int:
        if record in records:
            how()
        return record * 10

    return step


def stage(*batches: list[Any], partitions: int = 2, parallelism: int | None = None, **options: Any) -> Stage:
    pool = PoolConfig(term_grace_s=0.1, **options)
    return Stage(list(batches), master="local[2]", pool=pool, partitions=partitions, parallelism=parallelism)


def deaths(stage: Stage) -> list[str]:
    return [event.reason for event in stage.events if isinstance(event, WorkerLost)]


@pytest.mark.parametrize(
    ("how", "cause"), [(segfault, "SIGSEGV"), (leave, "exited with code 0"), (be_killed, "SIGKILL")]
)
async def test_the_record_that_kills_its_worker_is_a_dead_letter_and_all_others_are_kept(
    how: Callable[[], None], cause: str
) -> None:
    """A3, A4, A6, A11: three deaths, the default, and exact results of this and the next batch."""
    played = stage(list(range(40)), [50, 51])
    step = played.stream.map(deadly(how, POISON), name="native", on_error="dead-letter")
    letters = Letters(step)
    played.look(step)
    await played.play(2)
    assert sorted(played.records[0]) == [n * 10 for n in range(40) if n != POISON]
    assert sorted(played.records[1]) == [500, 510]
    (letter,) = letters.found
    assert (letter.record, letter.step, letter.batch) == (POISON, "native", 1000)
    assert letter.error_type.endswith("PoisonTaskError")
    assert cause in letter.message
    assert len(deaths(played)) == 3
    statistics = played.ssc.engine.statistics()
    assert statistics.counters == {"dead_lettered:native": 1}
    assert statistics.executor.poison_records == 1


async def test_a_record_in_which_c_code_hangs_is_given_up_at_the_deadline() -> None:
    """A3, A8, A9."""
    played = stage(list(range(20)), partitions=1, task_timeout_s=4.0, task_attempts_max=2)
    step = played.stream.map(deadly(hang, POISON), name="native", on_error="dead-letter")
    letters = Letters(step)
    played.look(step)
    await played.play(1)
    assert sorted(played.records[0]) == [n * 10 for n in range(20) if n != POISON]
    (letter,) = letters.found
    assert letter.record == POISON
    assert letter.error_type.endswith("TaskDeadlineError")
    assert "ran longer than task_timeout_s = 4.0" in letter.message


async def test_records_that_kill_are_skipped_where_that_is_the_policy_and_counted() -> None:
    """A3: several in one partition and in several; deaths stay within their bound."""
    poison = (3, 17, 18, 39)
    played = stage(list(range(40)), partitions=2)
    step = played.stream.map(deadly(segfault, *poison), name="native", on_error="skip")
    played.look(step.filter(lambda n: n >= 0))
    await played.play(1)
    assert sorted(played.records[0]) == [n * 10 for n in range(40) if n not in poison]
    assert played.ssc.engine.statistics().counters == {"skipped:native": 4}
    assert len(deaths(played)) <= 3 * 2 + 2 * 2  # a partition's first, and two for each one more


async def test_more_records_that_kill_than_may_be_given_up_fail_the_stream() -> None:
    """A3, F15: no endless crash loop through all the input."""
    played = stage(list(range(20)), partitions=1, poison_records_max=2)
    step = played.stream.map(deadly(segfault, *range(20)), name="native", on_error="skip")
    played.look(step)
    with pytest.raises(PoisonTaskError, match=r"poison_records_max = 2[\s\S]*record: 2"):
        await played.play(1)
    assert played.records == []
    assert len(deaths(played)) == 3 + 2 + 2


@pytest.mark.parametrize("kind", ["map", "filter"])
async def test_without_a_policy_the_stream_fails_and_the_error_names_step_and_record(kind: str) -> None:
    """A3: nothing is lost; who is at fault is known."""
    played = stage(list(range(40)))
    played.look(getattr(played.stream, kind)(deadly(segfault, POISON), name="native").map(str))
    with pytest.raises(PoisonTaskError, match=r"SIGSEGV[\s\S]*step 'native'[\s\S]*batch [\s\S]*record: 13"):
        await played.play(1)
    assert len(deaths(played)) == 3


async def test_a_hang_without_a_policy_fails_and_names_step_and_record() -> None:
    """A3, A8: a step that had a policy, ``fail``, is watched also where time is short."""
    played = stage(list(range(20)), partitions=1, task_timeout_s=4.0, task_attempts_max=2)
    played.look(played.stream.map(deadly(hang, POISON), name="native", retries=1).map(str))
    with pytest.raises(TaskDeadlineError, match="in step 'native'"):
        await played.play(1)


async def test_only_the_step_that_kills_is_blamed_and_not_the_one_before_it() -> None:
    """A3: a step with a policy stands right before one without."""
    played = stage(list(range(20)), partitions=1)

    def whole(records: Iterator[int]) -> Iterator[int]:
        for record in records:
            be_killed()
            yield record

    tolerant = played.stream.map(lambda n: n + 100, name="tolerant", on_error="skip")
    played.look(tolerant.map_partitions(whole, name="whole"))
    with pytest.raises(PoisonTaskError, match="SIGKILL"):
        await played.play(1)
    assert played.ssc.engine.statistics().executor.poison_records == 0


async def test_kills_from_outside_convict_no_record(tmp_path: Path) -> None:
    """A1, A3: a worker that dies once in one record and once in another is not the records' fault."""
    folder = str(tmp_path)

    def unlucky(n: int) -> int:
        for victim in (5, 9):
            mark = f"{folder}/{victim}"
            if n == victim and not os.path.exists(mark):
                Path(mark).touch()
                be_killed()
        return n

    played = stage(list(range(20)), partitions=1, task_attempts_max=3)
    step = played.stream.map(unlucky, name="native", on_error="skip")
    played.look(step)
    await played.play(1)
    assert sorted(played.records[0]) == list(range(20))
    assert len(deaths(played)) == 2
    assert played.ssc.engine.statistics().counters == {}


async def test_a_record_of_a_flat_step_and_one_behind_a_shuffle_are_found() -> None:
    """A3: also where a record is not one of the input."""
    played = stage([f"{n} {n + 1}" for n in range(0, 20, 2)])
    words = played.stream.flat_map(str.split).map(lambda word: (int(word) % 3, int(word)), name="pairs")
    totals = words.reduce_by_key(lambda a, b: a + b)
    step = totals.map_values(deadly(segfault, sum(range(1, 20, 3))), name="native", on_error="dead-letter")
    letters = Letters(step)
    played.look(step)
    await played.play(1)
    assert dict(played.records[0]) == {0: sum(range(0, 20, 3)) * 10, 2: sum(range(2, 20, 3)) * 10}
    assert [letter.record for letter in letters.found] == [(1, sum(range(1, 20, 3)))]


async def test_a_step_that_gives_other_records_when_repeated_convicts_nobody_wrongly() -> None:
    """A3, A27: the record that is given up must be the one that killed."""

    def shifted(n: int) -> list[float]:
        return [time.monotonic_ns(), n]

    played = stage(list(range(10)), partitions=1)
    noisy = played.stream.flat_map(shifted, name="noisy")
    step = noisy.map(lambda n: be_killed() if n > 1000 else n, name="native", on_error="skip")
    played.look(step)
    with pytest.raises(StepError, match="not deterministic"):
        await played.play(1)


async def test_a_dead_letter_of_a_record_that_kills_in_a_retry_is_given_up_once(tmp_path: Path) -> None:
    """A3: the step raises at first, and kills when it is called again."""
    folder = str(tmp_path)

    def step(n: int) -> int:
        if n == POISON:
            mark = f"{folder}/{os.getpid()}"
            if os.path.exists(mark):
                be_killed()
            Path(mark).touch()
            raise ValueError("once more")
        return n

    played = stage(list(range(20)), partitions=1)
    native = played.stream.map(step, name="native", on_error="dead-letter", retries=1)
    letters = Letters(native)
    played.look(native)
    await played.play(1)
    assert sorted(played.records[0]) == [n for n in range(20) if n != POISON]
    assert [letter.record for letter in letters.found] == [POISON]


async def test_a_step_behind_a_state_is_watched_where_the_state_lies_and_the_state_is_exact() -> None:
    """A3: the task is bound to its worker, which loses the state with each death."""

    def native(total: list[int]) -> list[int]:
        if total[1] == POISON:
            segfault()
        return total

    items = [[(n % 2, batch * 10 + n) for n in range(10)] for batch in range(3)]
    played = stage(*items, parallelism=2)
    sums = played.stream.map_with_state(running_sum)
    played.look(sums.map(native, name="native", on_error="skip"))
    await played.play(3)
    totals: dict[int, int] = {}
    expected = []
    for key, value in (pair for item in items for pair in item):
        totals[key] = totals.get(key, 0) + value
        expected.append([key, value, totals[key]])
    found = sorted(record for batch in played.records for record in batch)
    assert found == sorted(row for row in expected if row[1] != POISON)


# -- with a checkpoint directory -----------------------------------------------------------------


class _Poisoned:
    """A checkpointed stream on two workers: a deadly step, keyed sums behind it, letters in front of them."""

    def __init__(self, directory: Path, how: Callable[[], None]) -> None:
        self.directory, self.how = directory, how
        self.items = [[(n % 3, batch * 10 + n) for n in range(10)] for batch in range(4)]
        self.outside = Outside()
        self.time_s = 0.0

    def program(self, pairs: Any) -> None:
        how = self.how

        def native(value: int) -> int:
            if value in (POISON, 25):
                how()
            return value

        step = pairs.map_values(native, name="native", on_error="dead-letter")
        step.map_with_state(running_sum, name="sums").to(KeyedSink(self.outside, "sums"))
        letters = step.dead_letters().map(lambda letter: letter.record)
        letters.to(StagingSink(self.outside, "letters"))

    async def run(self, batches: int) -> None:
        clock = ManualClock(self.time_s)
        ssc = StreamingContext(
            1.0,
            "local[2]",
            parallelism=2,
            clock=clock,
            checkpoint=CheckpointConfig(str(self.directory), key=KEY),
            stop_when_finished=False,
        )
        source = ScriptedReplayableSource(self.items, name="script", partitions=2)
        self.program(ssc.from_source(source))
        async with ssc:
            await ssc.start()
            for number in range(1, batches + 1):
                await clock.advance(1.0)
                await clock.until(lambda: len(source.commits) >= number, timeout_s=60)  # noqa: B023
        self.time_s = clock.time()

    def written(self, sink: str) -> list[Any]:
        parts = [records for (name, _), records in self.outside.outputs().items() if name == sink]
        return sorted(record for records in parts for record in records)


async def test_with_a_checkpoint_the_letter_is_written_once_and_state_is_exact_across_restarts(
    tmp_path: Path,
) -> None:
    """A3, B1: the state behind the step, and each letter, as if the records had never been there."""
    poisoned = _Poisoned(tmp_path / "checkpoint", segfault)
    for batches in (2, 2):
        await poisoned.run(batches)
    pairs = [pair for item in poisoned.items for pair in item]
    assert poisoned.written("letters") == sorted(pair for pair in pairs if pair[1] in (POISON, 25))
    totals: dict[int, int] = {}
    expected = []
    for key, value in pairs:
        if value not in (POISON, 25):
            totals[key] = totals.get(key, 0) + value
            expected.append([key, value, totals[key]])
    assert poisoned.written("sums") == sorted(expected)
