"""Output operations of a stream."""

from __future__ import annotations

import asyncio
import functools
import io
import itertools
import operator
import pickle
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine.config import RetryPolicy
from aiostream_engine.errors import GraphError, LifecycleError, OptionError, SinkError, StepError
from aiostream_engine.observe.events import OutputOperationCompleted
from aiostream_engine.sinks.base import IdempotentSink, PlainSink, TransactionalSink, WriteKey
from aiostream_engine.testing import numbered_records
from aiostream_engine.testing.sink import VerifyingSink
from aiostream_engine.types import BatchTime
from tests.stage import DEADLINE_S, Stage

pytestmark = pytest.mark.both_loops  # I10

NOW = RetryPolicy(attempts_max=3, wait_s=0)


# -- running ---------------------------------------------------------------------------------------


async def test_a_stream_without_an_output_is_refused():
    """OUT-1, CTX-4."""
    stage = Stage([[1]])
    stage.stream.map(str)
    with pytest.raises(GraphError, match="no output operation"):
        await stage.ssc.start()


async def test_a_step_that_no_output_needs_is_not_run():
    """OUT-1."""
    stage = Stage([[1]])
    calls = stage.ssc.engine.accumulator(0)
    stage.stream.map(lambda x: calls.add(1))
    stage.stream.foreach_rdd(lambda rdd: None)
    await stage.play(1)
    assert calls.value == 0


async def test_outputs_run_one_at_a_time_in_order_of_definition():
    """OUT-2, SCH-6."""
    stage = Stage([[1], [2]])
    log: list[str] = []

    def output(name: str) -> Any:
        async def run(rdd: Any, time: BatchTime) -> None:
            log.append(f"{name} begins {time.seconds:g}")
            await asyncio.sleep(0.001)
            log.append(f"{name} ends")

        return run

    stage.stream.foreach_rdd(output("first"))
    stage.stream.foreach_rdd(output("second"))
    await stage.play(2)
    assert log == [
        line
        for batch in (1, 2)
        for name in ("first", "second")
        for line in (f"{name} begins {batch}", f"{name} ends")
    ]


async def test_an_output_runs_after_one_that_failed():
    """SCH-6, SCH-8: the batch fails all the same, and the first error is the one that is raised."""
    stage = Stage([[1], [2]])
    ran: list[str] = []

    def fails(rdd: Any) -> None:
        raise KeyError("first")

    def fails_too(rdd: Any) -> None:
        ran.append("second")
        raise KeyError("second")

    stage.stream.foreach_rdd(fails)
    stage.stream.foreach_rdd(fails_too)
    stage.stream.foreach_rdd(lambda rdd: ran.append("third"))
    async with stage.started():
        await stage.clock.advance(1)
        await stage.stopped()
    with pytest.raises(KeyError, match="first"):
        await stage.ssc.await_termination()
    assert ran == ["second", "third"]
    assert stage.commits == []
    failures = [e.output.failure for e in stage.events if isinstance(e, OutputOperationCompleted)]
    assert [text and text.split(";")[0] for text in failures] == ["'first'", "'second'", None]


async def test_pprint_prints_time_the_first_records_and_dots():
    """OUT-3."""
    stage = Stage([[1, 2, 3, 4], [], ["only"]])
    out = io.StringIO()
    stage.stream.pprint(3, file=out)
    await stage.play(3)
    rule = "-" * 43
    head = [f"{rule}\nTime: 1970-01-01 00:00:0{n}.000Z\n{rule}\n" for n in (1, 2, 3)]
    assert out.getvalue() == f"{head[0]}1\n2\n3\n...\n\n{head[1]}\n{head[2]}only\n\n"


async def test_pprint_computes_no_more_partitions_than_it_shows():
    """OUT-3."""
    stage = Stage([list(range(100))], partitions=10, parallelism=10)
    calls = stage.ssc.engine.accumulator(0)
    stage.stream.map(lambda x: (calls.add(1), x)[1]).pprint(2, file=io.StringIO())
    await stage.play(1)
    assert 0 < calls.value <= 50


# -- foreach_rdd -----------------------------------------------------------------------------------


class Collector:
    """Every kind of callable that may be given to foreach_rdd."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def one(self, rdd: Any) -> None:
        self.calls.append((rdd.node.partitions,))

    def two(self, rdd: Any, time: BatchTime) -> None:
        self.calls.append((rdd.node.partitions, int(time)))

    async def one_async(self, rdd: Any) -> None:
        self.calls.append((await rdd.collect(),))

    async def two_async(self, rdd: Any, time: BatchTime) -> None:
        self.calls.append((await rdd.collect(), int(time)))

    def with_default(self, rdd: Any, extra: int = 7) -> None:
        self.calls.append((extra,))

    def several(self, *arguments: Any) -> None:
        self.calls.append((len(arguments),))

    def three(self, extra: str, rdd: Any, time: BatchTime) -> None:
        self.calls.append((extra, int(time)))


class Callable_:
    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    def __call__(self, rdd: Any, time: BatchTime) -> None:
        self.calls.append(("object", int(time)))


class AsyncCallable:
    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    async def __call__(self, rdd: Any) -> None:
        self.calls.append(("async object", await rdd.count()))


@pytest.mark.parametrize(
    ("pick", "expected"),
    [
        (lambda c: c.one, (1,)),
        (lambda c: c.two, (1, 1000)),
        (lambda c: c.one_async, ([5],)),
        (lambda c: c.two_async, ([5], 1000)),
        (lambda c: c.with_default, (7,)),
        (lambda c: c.several, (2,)),
        (lambda c: functools.partial(c.three, "partial"), ("partial", 1000)),
        (lambda c: functools.partial(c.two_async), ([5], 1000)),
        (lambda c: Callable_(c.calls), ("object", 1000)),
        (lambda c: AsyncCallable(c.calls), ("async object", 1)),
        (lambda c: lambda rdd: c.one_async(rdd), ([5],)),
    ],
    ids=[
        "method",
        "method with time",
        "coroutine",
        "coroutine with time",
        "default",
        "any number",
        "partial",
        "partial of a coroutine",
        "object",
        "async object",
        "plain that gives a coroutine",
    ],
)
async def test_foreach_rdd_takes_any_callable_of_one_or_two_arguments(pick: Any, expected: tuple[Any, ...]):
    """OUT-4, DS-13."""
    stage = Stage([[5]])
    collector = Collector()
    stage.stream.foreach_rdd(pick(collector))
    await stage.play(1)
    assert collector.calls == [expected]


@pytest.mark.parametrize("bad", [lambda: None, lambda a, b, c: None, 3, None])
def test_foreach_rdd_refuses_at_the_definition_what_it_cannot_call(bad: Any):
    """OUT-4."""
    with pytest.raises(OptionError, match="foreach_rdd"):
        Stage().stream.foreach_rdd(bad)


def _generates(rdd: Any) -> Any:
    yield rdd


async def _generates_async(rdd: Any) -> Any:
    yield rdd


@pytest.mark.parametrize("bad", [_generates, _generates_async])
def test_foreach_rdd_refuses_a_function_whose_body_would_never_run(bad: Any):
    """OUT-4."""
    with pytest.raises(OptionError, match="contains yield"):
        Stage().stream.foreach_rdd(bad)


async def test_a_plain_function_may_block_and_does_not_stop_the_loop():
    """OUT-4, G6: it runs in a thread."""
    stage = Stage([[1]])
    go_on = threading.Event()
    threads: list[str] = []

    def block(rdd: Any) -> None:
        threads.append(threading.current_thread().name)
        assert go_on.wait(DEADLINE_S)

    stage.stream.foreach_rdd(block)
    async with stage.started():
        await stage.clock.advance(1)
        await stage.until(lambda: threads)
        go_on.set()  # only a loop that runs gets here
        await stage.until(lambda: stage.commits)
    assert threads[0] != threading.main_thread().name


async def test_a_function_that_raises_stop_iteration_fails_and_does_not_hang():
    """OUT-4."""
    stage = Stage([[1]])
    stage.stream.foreach_rdd(lambda rdd: next(iter([])))
    async with stage.started():
        await stage.clock.advance(1)
        await stage.stopped()
    with pytest.raises(RuntimeError, match="StopIteration"):
        await stage.ssc.await_termination()


async def test_a_function_whose_own_await_is_cancelled_fails_and_does_not_hang():
    """OUT-4: a CancelledError that nobody asked for is an error like others."""
    stage = Stage([[1]])

    async def impatient(rdd: Any) -> None:
        inner = asyncio.ensure_future(asyncio.sleep(3600))
        inner.cancel()
        await inner

    stage.stream.foreach_rdd(impatient, name="impatient")
    async with stage.started():
        await stage.clock.advance(1)
        await stage.stopped()
    with pytest.raises(StepError, match="impatient"):
        await stage.ssc.await_termination()


async def test_a_function_that_cancels_its_own_task_fails_and_does_not_hang():
    """OUT-4."""
    stage = Stage([[1]])

    async def suicidal(rdd: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    stage.stream.foreach_rdd(suicidal)
    async with stage.started():
        await stage.clock.advance(1)
        await stage.stopped()
    with pytest.raises(StepError, match="a batch"):
        await stage.ssc.await_termination()


async def test_foreach_rdd_without_an_action_computes_nothing():
    """OUT-1."""
    stage = Stage([[1]])
    calls = stage.ssc.engine.accumulator(0)
    stage.stream.map(lambda x: calls.add(1)).foreach_rdd(lambda rdd: None)
    await stage.play(1)
    assert calls.value == 0


async def test_foreach_partition_runs_in_the_workers_once_a_partition(tmp_path: Path):
    """OUT-4."""
    stage = Stage([[1, 2, 3, 4]], parallelism=2)
    path = str(tmp_path / "sums")

    def note(records: Any) -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{sum(records)}\n")

    stage.stream.foreach_partition(note)
    await stage.play(1)
    assert (tmp_path / "sums").read_text() == "3\n7\n"


async def test_an_empty_batch_is_known_to_be_empty_without_running_a_task():
    """OUT-10."""
    stage = Stage([[1], []])
    answers: list[bool] = []

    async def look(rdd: Any) -> None:
        answers.append(await rdd.is_empty())

    stage.stream.map(str).foreach_rdd(look)
    async with stage.started():
        await stage.batch()
        tasks = stage.ssc.engine.statistics().executor.tasks_done
        await stage.batch()
        assert stage.ssc.engine.statistics().executor.tasks_done == tasks
    assert answers == [False, True]


# -- files -----------------------------------------------------------------------------------------


def written(directory: Path, prefix: str) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name.startswith(prefix))


def text_of(directory: Path) -> str:
    return "".join((directory / name).read_text() for name in written(directory, "part-"))


async def test_text_files_are_a_directory_a_batch_also_for_empty_ones(tmp_path: Path):
    """OUT-5, OUT-7: named by the label in milliseconds, without a round trip through local time."""
    stage = Stage([["a", "b"], []])
    stage.stream.save_as_text_files(str(tmp_path / "words"), "txt")
    await stage.play(2)
    assert written(tmp_path, "") == ["words-1000.txt", "words-2000.txt"]
    assert text_of(tmp_path / "words-1000.txt") == "a\nb\n"
    assert "_SUCCESS" in written(tmp_path / "words-2000.txt", "")


async def test_a_repeated_batch_overwrites_its_directory(tmp_path: Path):
    """OUT-5, OUT-8."""
    for records in (["old"] * 3, ["new"]):
        stage = Stage([records], parallelism=len(records), partitions=len(records))
        stage.stream.save_as_text_files(str(tmp_path / "out"))
        await stage.play(1)
    assert text_of(tmp_path / "out-1000") == "new\n"


async def test_pickle_files_can_be_read_back(tmp_path: Path):
    """OUT-6."""
    stage = Stage([[("k", {1, 2})]])
    stage.stream.save_as_pickle_files(str(tmp_path / "out"))
    await stage.play(1)
    async with Stage().ssc.engine as engine:
        assert await engine.pickle_file(str(tmp_path / "out-1000")).collect() == [("k", {1, 2})]


# -- sinks -----------------------------------------------------------------------------------------


async def test_a_sink_gets_each_partition_under_a_key_that_names_it():
    """OUT-9."""
    verify = VerifyingSink({"s": 6})
    stage = Stage([list(numbered_records("s", 4)), list(numbered_records("s", 2, start=4))], parallelism=2)
    stage.stream.to(verify, name="verify")
    await stage.play(2)
    verify.assert_exactly_once()
    assert verify.keys == [
        WriteKey("verify", 1, BatchTime(1000), 0, 2),
        WriteKey("verify", 1, BatchTime(1000), 1, 2),
        WriteKey("verify", 2, BatchTime(2000), 0, 2),
        WriteKey("verify", 2, BatchTime(2000), 1, 2),
    ]


def test_to_needs_a_sink():
    with pytest.raises(OptionError, match="foreach_rdd"):
        Stage().stream.to(print)  # type: ignore[arg-type]


class Flaky(PlainSink):
    """Fails as often as told, then takes."""

    name = "flaky"

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.taken: list[Any] = []
        self.keys: list[WriteKey] = []
        self.log: list[str] = []

    async def open(self, context: Any) -> None:
        self.log.append("open")

    async def aclose(self) -> None:
        self.log.append("close")

    async def write(self, key: WriteKey, records: Any) -> None:
        self.keys.append(key)
        if self.failures:
            self.failures -= 1
            raise SinkError("not now")
        self.taken.extend([record async for chunk in records for record in chunk])


async def test_a_failed_write_is_repeated_under_the_same_key():
    """OUT-8, OUT-9."""
    stage = Stage([[1, 2], [3]])
    sink = Flaky(2)
    stage.stream.to(sink, retry=NOW)
    await stage.play(2)
    assert sink.taken == [1, 2, 3]
    assert [key.batch_id for key in sink.keys] == [1, 1, 1, 2]
    assert len(set(sink.keys)) == 2


async def test_a_sink_that_gives_up_stops_the_stream_and_is_closed():
    """OUT-8."""
    stage = Stage([[1]])
    sink = Flaky(99)
    stage.stream.to(sink, retry=NOW)
    async with stage.started():
        await stage.clock.advance(1)
        await stage.stopped()
    with pytest.raises(SinkError, match="not now"):
        await stage.ssc.await_termination()
    assert (len(sink.keys), sink.log) == (3, ["open", "close"])
    assert stage.commits == []


async def test_a_sink_with_concurrent_writes_raises_its_own_error():
    stage = Stage([[1, 2, 3, 4]], parallelism=4, partitions=4)
    sink = Flaky(1)
    sink.concurrency_max = 4
    stage.stream.to(sink)
    async with stage.started():
        await stage.clock.advance(1)
        await stage.stopped()
    with pytest.raises(SinkError, match="not now"):
        await stage.ssc.await_termination()


class Ledger(TransactionalSink):
    """Notes what is staged, committed and aborted; one partition can be made to fail once."""

    name = "ledger"

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.log: list[tuple[str, Any]] = []

    async def stage(self, key: WriteKey, records: Any) -> str:
        if key.partition == self.fails_at:
            self.fails_at = None
            raise SinkError("cannot stage")
        kept = [record async for chunk in records for record in chunk]
        self.log.append(("stage", (key.batch_id, key.partition, kept)))
        return f"{key.batch_id}/{key.partition}"

    async def commit(self, batch_id: int, time: BatchTime, tokens: Sequence[Any]) -> None:
        self.log.append(("commit", (batch_id, list(tokens))))

    async def abort(self, batch_id: int, tokens: Sequence[Any]) -> None:
        self.log.append(("abort", (batch_id, list(tokens))))


async def test_a_transactional_sink_stages_all_partitions_and_commits_the_batch_as_a_whole():
    """OUT-9."""
    stage = Stage([[1, 2]], parallelism=2)
    sink = Ledger()
    stage.stream.to(sink)
    await stage.play(1)
    assert sink.log == [
        ("stage", (1, 0, [1])),
        ("stage", (1, 1, [2])),
        ("commit", (1, ["1/0", "1/1"])),
    ]


async def test_what_was_staged_in_vain_is_aborted_before_the_next_try():
    """OUT-8."""
    stage = Stage([[1, 2]], parallelism=2)
    sink = Ledger(fails_at=1)
    stage.stream.to(sink, retry=NOW)
    await stage.play(1)
    assert [kind for kind, _ in sink.log] == ["stage", "abort", "stage", "stage", "commit"]
    assert sink.log[1] == ("abort", (1, ["1/0"]))


async def test_the_staged_output_of_a_batch_that_fails_elsewhere_is_aborted():
    """OUT-8."""
    stage = Stage([[1]])
    sink = Ledger()
    stage.stream.to(sink)
    stage.stream.foreach_rdd(lambda rdd: 1 // 0)
    async with stage.started():
        await stage.clock.advance(1)
        await stage.stopped()
    assert [kind for kind, _ in sink.log] == ["stage", "abort"]


# -- errors of outputs -----------------------------------------------------------------------------


async def test_an_output_that_is_tried_again_finds_the_state_as_the_batch_left_it():
    """OUT-8: retrying an output does not bring the state forward again."""
    stage = Stage([[("a", 1)], [("a", 1)]])
    updates = stage.ssc.engine.accumulator(0)
    seen: list[Any] = []

    def total(new: list[int], old: int | None) -> int:
        updates.add(1)
        return sum(new) + (old or 0)

    async def flaky(rdd: Any) -> None:
        seen.append(await rdd.collect())
        if len(seen) % 2:
            raise ConnectionError("once")

    stage.stream.update_state_by_key(total).foreach_rdd(flaky, retry=NOW)
    await stage.play(2)
    assert seen == [[("a", 1)], [("a", 1)], [("a", 2)], [("a", 2)]]
    assert updates.value == 2


async def test_a_state_function_that_fails_once_is_run_again_on_what_was_before():
    """OUT-8, H2."""
    stage = Stage([[("a", 1), ("b", 1)], [("a", 1), ("b", 1)]], parallelism=4)

    def flaky(key: str, new: list[int], old: int | None, failed: list[bool] = []) -> int:  # noqa: B006
        if key == "b" and old == 1 and not failed:
            failed.append(True)
            raise ConnectionError("once")
        return sum(new) + (old or 0)

    async def look(rdd: Any, time: BatchTime) -> None:
        stage.seen[time] = sorted(await rdd.collect())

    stage.stream.update_state_by_key(flaky, with_key=True).foreach_rdd(look, retry=NOW)
    await stage.play(2)
    assert stage.records == [[("a", 1), ("b", 1)], [("a", 2), ("b", 2)]]


async def test_retries_wait_by_the_clock_and_are_told():
    """OUT-8."""
    stage = Stage([[1]])
    tries: list[float] = []

    async def flaky(rdd: Any) -> None:
        tries.append(stage.clock.monotonic())
        if len(tries) < 3:
            raise ConnectionError("no")

    stage.stream.foreach_rdd(flaky, retry=RetryPolicy(attempts_max=3, wait_s=10, jitter=0))
    async with stage.started():
        await stage.clock.advance(1)
        await stage.until(lambda: tries)
        await stage.clock.advance(30)
        await stage.until(lambda: stage.commits)
    assert [b - a for a, b in itertools.pairwise(tries[:3])] == [10, 20]


async def test_a_skipped_output_leaves_out_the_batch_and_the_stream_goes_on():
    stage = Stage([[1], [0], [2]])
    stage.look(stage.stream)
    results: list[int] = []

    async def divide(rdd: Any) -> None:
        results.append(10 // (await rdd.collect())[0])

    stage.stream.foreach_rdd(divide, on_error="skip", name="divide")
    await stage.play(3)
    assert (results, stage.records) == ([10, 5], [[1], [0], [2]])
    failures = [
        event.output.failure
        for event in stage.events
        if isinstance(event, OutputOperationCompleted) and event.output.name == "divide"
    ]
    assert [failure is None for failure in failures] == [True, False, True]
    assert "integer division or modulo by zero" in failures[1]


async def test_skipping_an_output_does_not_skip_the_state_behind_it():
    """A state that cannot be brought forward fails the batch, whatever its outputs forgive."""
    stage = Stage([[("a", 1)], [("a", 0)]])
    state = stage.stream.update_state_by_key(lambda new, old: 10 // new[0], name="state")
    state.foreach_rdd(lambda rdd: None, on_error="skip")
    async with stage.started():
        await stage.batch()
        await stage.clock.advance(1)
        await stage.stopped()
    with pytest.raises(StepError, match="ZeroDivisionError"):
        await stage.ssc.await_termination()


def test_dead_letters_are_for_records_not_for_outputs():
    with pytest.raises(OptionError, match="for records"):
        Stage().stream.foreach_rdd(lambda rdd: None, on_error="dead-letter")


# -- asynchronous steps ----------------------------------------------------------------------------


async def slow_double(x: int) -> int:
    await asyncio.sleep(0.001 * (5 - x % 5))
    return x * 2


@pytest.mark.parametrize("placement", ["loop", "worker"])
async def test_map_async_keeps_the_order_of_records(placement: str):
    stage = Stage([list(range(20)), []])
    stage.look(stage.stream.map_async(slow_double, concurrency=7, placement=placement))
    await stage.play(2)
    assert stage.records == [[x * 2 for x in range(20)], []]


async def test_unordered_results_come_as_they_complete():
    stage = Stage([[0, 1, 2]], partitions=1)
    gates = [asyncio.Event() for _ in range(3)]
    gates[2].set()

    async def wait(x: int) -> int:
        await gates[x].wait()
        if x:
            gates[x - 1].set()
        return x

    stage.look(stage.stream.map_async(wait, ordered=False))
    await stage.play(1)
    assert stage.records == [[2, 1, 0]]


async def test_the_asynchronous_family():
    stage = Stage([[1, 2, 3, 4, 5]], partitions=1)

    async def odd(x: int) -> bool:
        return bool(x % 2)

    async def twice(x: int) -> list[int]:
        return [x, x]

    async def sums(records: list[int]) -> list[int]:
        return [sum(records)]

    seen: dict[str, list[Any]] = {}
    for name, stream in {
        "filter": stage.stream.filter_async(odd),
        "flat_map": stage.stream.flat_map_async(twice),
        "batches": stage.stream.map_batches_async(sums, batch_size=2),
    }.items():

        async def keep(rdd: Any, name: str = name) -> None:
            seen[name] = await rdd.collect()

        stream.foreach_rdd(keep)
    await stage.play(1)
    assert seen == {
        "filter": [1, 3, 5],
        "flat_map": [1, 1, 2, 2, 3, 3, 4, 4, 5, 5],
        "batches": [3, 7, 5],
    }


async def test_foreach_async_has_no_more_calls_under_way_than_allowed():
    stage = Stage([list(range(50))])
    now = most = 0
    done: list[int] = []

    async def call(x: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        done.append(x)

    stage.stream.foreach_async(call, concurrency=8)
    await stage.play(1)
    assert (sorted(done), most) == (list(range(50)), 8)


async def test_a_call_that_takes_too_long_is_cancelled_and_tried_again():
    stage = Stage([[1]])
    tries: list[str] = []

    async def hangs_once(x: int) -> int:
        if not tries:
            try:
                await asyncio.sleep(3600)
            finally:
                tries.append("cancelled")
        tries.append("done")
        return x

    stage.look(
        stage.stream.map_async(hangs_once, timeout_s=0.01, retry=RetryPolicy(attempts_max=2, wait_s=0))
    )
    await stage.play(1)
    assert (stage.records, tries) == ([[1]], ["cancelled", "done"])


async def test_a_call_without_tries_left_fails_the_batch_and_names_the_record():
    stage = Stage([[3, 0]])

    async def divide(x: int) -> float:
        return 1 / x

    stage.look(stage.stream.map_async(divide, name="divide"))
    with pytest.raises(StepError) as caught:
        await stage.play(1)
    error = caught.value
    assert (error.step, error.record, error.batch, error.error_type) == (
        "divide",
        "0",
        1000,
        "ZeroDivisionError",
    )


@pytest.mark.parametrize("placement", ["loop", "worker"])
async def test_failed_calls_are_skipped_and_counted_or_become_dead_letters(placement: str):
    async def divide(x: int) -> float:
        return 6 / x

    stage = Stage([[3, 0, 2]])
    stage.look(stage.stream.map_async(divide, name="divide", on_error="skip", placement=placement))
    async with stage.started():
        await stage.batch()
        assert stage.ssc.engine.statistics().counters["skipped:divide"] == 1
    assert stage.records == [[2.0, 3.0]]

    stage = Stage([[3, 0, 2], [1], [0]])
    divided = stage.stream.map_async(divide, name="divide", on_error="dead-letter", placement=placement)
    divided.foreach_rdd(lambda rdd: None)
    stage.look(divided.dead_letters().map(lambda x: (x.step, x.batch, x.record, x.error_type)))
    await stage.play(3)
    assert stage.records == [
        [("divide", 1000, 0, "ZeroDivisionError")],
        [],
        [("divide", 3000, 0, "ZeroDivisionError")],
    ]


async def test_a_call_whose_own_await_is_cancelled_loses_no_record():
    stage = Stage([[1, 2, 3]])

    async def impatient(x: int) -> int:
        if x == 2:
            inner = asyncio.ensure_future(asyncio.sleep(3600))
            inner.cancel()
            await inner
        return x

    stage.look(stage.stream.map_async(impatient, concurrency=1))
    with pytest.raises(StepError, match="CancelledError"):
        await stage.play(1)


async def test_stopping_in_the_middle_of_calls_leaves_no_task():
    stage = Stage([list(range(100))])
    started: list[int] = []

    async def forever(x: int) -> None:
        started.append(x)
        await asyncio.Event().wait()

    stage.stream.foreach_async(forever, concurrency=10)
    async with stage.started():
        await stage.clock.advance(1)
        await stage.until(lambda: len(started) == 10)
        before = asyncio.all_tasks()
        assert len(before) > 10
        await stage.ssc.stop(graceful=False)
    assert len(asyncio.all_tasks()) <= len(before) - 10


@pytest.mark.parametrize(
    "bad",
    [
        {"concurrency": 0},
        {"placement": "moon"},
        {"on_error": "ignore"},
        {"retry": "often"},
        {"retry": -1},
        {"timeout_s": 0},
    ],
)
def test_bad_options_of_asynchronous_steps_are_refused_at_the_definition(bad: dict[str, Any]):
    with pytest.raises(OptionError):
        Stage().stream.map_async(slow_double, **bad)


def test_an_asynchronous_output_has_no_dead_letters():
    with pytest.raises(OptionError, match="no dead letters to read"):
        Stage().stream.foreach_async(slow_double, on_error="dead-letter")


@pytest.mark.parametrize("bad", ["ignore", None])
def test_an_unknown_policy_of_an_output_is_refused(bad: Any):
    with pytest.raises(OptionError, match="use one of"):
        Stage().stream.foreach_rdd(print, on_error=bad)


def test_asynchronous_steps_need_coroutine_functions():
    with pytest.raises(OptionError, match="async def"):
        Stage().stream.map_async(lambda x: x)  # type: ignore[arg-type,return-value]


# -- batches as an async iterator ------------------------------------------------------------------


async def test_a_consumer_of_batches_hears_what_made_the_stream_fail():
    stage = Stage([[1], [0]])
    batches = stage.stream.map(lambda x: 1 // x).batches()
    async with stage.started():
        seen = []

        async def consume() -> None:
            async for batch in batches:
                seen.append(await batch.collect())

        consumer = asyncio.create_task(consume())
        await stage.clock.advance(1)
        await stage.until(lambda: seen)
        await stage.clock.advance(1)
        with pytest.raises(StepError, match="ZeroDivisionError"):
            await asyncio.wait_for(consumer, DEADLINE_S)
    assert seen == [[1]]


async def test_batches_of_a_stream_that_was_not_started_do_not_hang():
    stage = Stage([[1]])
    batches = stage.stream.batches()
    with pytest.raises(LifecycleError, match="start"):
        await anext(batches)


async def test_an_idempotent_sink_may_be_written_again_after_a_crash_of_its_batch():
    """OUT-8: the same key, so that the outside sees it once."""

    class Table(IdempotentSink):
        name = "table"

        def __init__(self) -> None:
            self.rows: dict[WriteKey, list[Any]] = {}

        async def write(self, key: WriteKey, records: Any) -> None:
            self.rows[key] = [record async for chunk in records for record in chunk]

    stage = Stage([[1, 2, 3]])
    sink = Table()
    failed: list[bool] = []

    def fails_once(rdd: Any) -> None:
        if not failed:
            failed.append(True)
            raise ConnectionError("once")

    stage.stream.to(sink)
    stage.stream.foreach_rdd(fails_once, retry=NOW)
    await stage.play(1)
    assert list(sink.rows.values()) == [[1, 2, 3]]


async def test_results_of_a_batch_pickle_and_compare_as_they_were():
    """H12: what an output sees is a copy, on any executor."""
    shared = {"n": 0}
    stage = Stage([[shared], [shared]])

    def mutate(record: dict[str, int]) -> dict[str, int]:
        record["n"] += 1
        return record

    stage.look(stage.stream.map(mutate))
    await stage.play(2)
    assert stage.records == [[{"n": 1}], [{"n": 1}]]
    assert shared == {"n": 0}
    assert pickle.loads(pickle.dumps(stage.records)) == stage.records


def test_outputs_of_the_same_name_get_a_number():
    """SCH-11."""
    stage = Stage()
    stage.stream.foreach_rdd(operator.methodcaller("count"), name="out")
    stage.stream.foreach_rdd(operator.methodcaller("count"), name="out")
    assert [output.name for output in stage.ssc._outputs] == ["out", "out#2"]
