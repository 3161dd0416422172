"""The life of a streaming context: building, start, stop, and what can be asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine import EngineContext, StreamingContext
from aiostream_engine.config import RetryPolicy, SchedulerConfig
from aiostream_engine.errors import (
    GraphError,
    LifecycleError,
    OptionError,
    SourceError,
    StepError,
    UnpicklableError,
)
from aiostream_engine.observe.events import ReceiverInfo, StreamingStopped
from aiostream_engine.sinks.base import PlainSink
from aiostream_engine.sources.base import BatchInput, EphemeralSource, SourceContext
from aiostream_engine.testing import ABORT, EOF, ManualClock, ScriptedReplayableSource, ScriptedSource
from aiostream_engine.types import BatchTime, ContextState
from tests.stage import DEADLINE_S, Stage

pytestmark = pytest.mark.both_loops  # I10


class Idle(EphemeralSource):
    """A source that gives nothing, and notes what is done with it."""

    name = "idle"

    def __init__(self) -> None:
        self.log: list[str] = []

    async def start(self, context: SourceContext) -> None:
        self.log.append("start")

    async def cut(self, time: BatchTime) -> BatchInput:
        return BatchInput()

    async def stop(self) -> None:
        self.log.append("stop")

    async def aclose(self) -> None:
        self.log.append("close")

    @property
    def finished(self) -> bool:
        return False

    @property
    def pending(self) -> bool:
        return False

    def info(self) -> ReceiverInfo:
        return ReceiverInfo(0, self.name, True)


class Noting(PlainSink):
    """Notes its life in a shared log."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def open(self, context: Any) -> None:
        self.log.append("sink open")

    async def aclose(self) -> None:
        self.log.append("sink close")

    async def write(self, key: Any, records: Any) -> None:
        self.log.append("sink write")


def with_output(stage: Stage) -> Stage:
    stage.stream.foreach_rdd(lambda rdd: None)
    return stage


# -- making ----------------------------------------------------------------------------------------


def test_any_number_of_contexts_may_be_made():
    """CTX-1."""
    assert {StreamingContext(0.25, "local").interval_ms for _ in range(3)} == {250}


@pytest.mark.parametrize("interval", [0, -1, 0.00001, "1", None, float("inf"), True])
def test_an_interval_that_is_no_duration_in_milliseconds_is_refused(interval: Any):
    """CTX-1."""
    with pytest.raises(OptionError, match="interval"):
        StreamingContext(interval, "local")


def test_an_unknown_master_is_refused_with_those_that_are_known():
    """CTX-1."""
    with pytest.raises(OptionError, match=r"local\[4\]"):
        StreamingContext(1, "yarn")


async def test_a_context_may_run_on_an_engine_that_lives_on():
    """CTX-1, CTX-10."""
    async with EngineContext("local") as engine:
        for _ in range(2):
            stage = Stage([[1, 2]], engine=engine)
            stage.look(stage.stream.count())
            await stage.play(1)
            assert stage.records == [[2]]
        assert await engine.parallelize([1, 2]).sum() == 3


async def test_an_engine_that_was_not_started_is_named_as_the_reason():
    stage = with_output(Stage([[1]], engine=EngineContext("local")))
    with pytest.raises(LifecycleError, match="not active"):
        await stage.ssc.start()
    assert stage.ssc.state is ContextState.STOPPED


def test_the_context_of_a_worker_function_cannot_be_the_streaming_context():
    """DS-11."""
    stage = Stage([[1]])
    stage.look(stage.stream.map(lambda x: (stage.ssc, x)))

    async def start() -> None:
        with pytest.raises(UnpicklableError, match="captured variable 'stage'"):
            await stage.ssc.start()

    asyncio.run(start())


async def test_a_function_that_cannot_be_sent_is_refused_before_a_source_is_opened():
    """DS-11, CTX-4."""
    lock = threading.Lock()
    stage = Stage([[1]])
    source = Idle()
    stage.ssc.from_source(source)
    stage.look(stage.stream.map(lambda x: (lock, x), name="locked"))
    with pytest.raises(UnpicklableError, match=r"(?s)'locked'.*'lock'"):
        await stage.ssc.start()
    assert source.log == []


# -- states ----------------------------------------------------------------------------------------


async def test_a_context_is_initialized_then_active_then_stopped():
    """CTX-3, CTX-20."""
    stage = with_output(Stage([[1]]))
    assert stage.ssc.state is ContextState.INITIALIZED
    async with stage.ssc:
        assert stage.ssc.state is ContextState.INITIALIZED
        await stage.ssc.start()
        assert stage.ssc.state is ContextState.ACTIVE
    assert stage.ssc.state is ContextState.STOPPED


async def test_start_without_an_input_is_refused():
    """CTX-4."""
    ssc = StreamingContext(1, "local")
    with pytest.raises(GraphError, match="no output"):
        await ssc.start()
    assert ssc.state is ContextState.INITIALIZED


async def test_start_of_an_active_context_warns_and_does_nothing(caplog: pytest.LogCaptureFixture):
    """CTX-5, I4."""
    stage = with_output(Stage([[1]]))
    async with stage.started():
        await stage.ssc.start()
        assert "nothing to do" in caplog.text
        await stage.batch()


async def test_start_after_stop_is_refused():
    """CTX-6, I4."""
    stage = with_output(Stage([[1]]))
    await stage.play(1)
    with pytest.raises(LifecycleError, match="build a new"):
        await stage.ssc.start()


async def test_two_contexts_run_side_by_side():
    """CTX-7, I9: unlike in the original."""
    first, second = Stage([["a"]] * 3, interval=1), Stage([["b"]] * 3, interval=1)
    for stage in (first, second):
        stage.look(
            stage.stream.map(lambda x: (x, 1)).update_state_by_key(lambda new, old: sum(new) + (old or 0))
        )
    async with first.started(), second.started():
        await first.batch(3)
        await second.batch(1)
    assert first.records == [[("a", 1)], [("a", 2)], [("a", 3)]]
    assert second.records == [[("b", 1)]]


async def test_two_contexts_on_one_engine_keep_their_states_apart():
    """I9."""
    async with EngineContext("local", parallelism=2) as engine:
        stages = [Stage([[("k", n)]] * 2, engine=engine) for n in (1, 10)]
        for stage in stages:
            stage.look(stage.stream.update_state_by_key(lambda new, old: sum(new) + (old or 0)))
        async with stages[0].started(), stages[1].started():
            for stage in stages * 2:
                await stage.batch()
    assert [stage.records for stage in stages] == [[[("k", 1)], [("k", 2)]], [[("k", 10)], [("k", 20)]]]


class Unstartable(Idle):
    async def start(self, context: SourceContext) -> None:
        self.log.append("start")
        raise SourceError("no such host")


async def test_a_start_that_fails_closes_everything_and_raises_why():
    """CTX-8."""
    stage = Stage([[1]])
    log: list[str] = []
    bad, never = Unstartable(), Idle()
    stage.ssc.from_source(bad)
    stage.ssc.from_source(never)
    stage.stream.to(Noting(log))
    with pytest.raises(SourceError, match="no such host"):
        await stage.ssc.start()
    assert stage.ssc.state is ContextState.STOPPED
    assert log == ["sink open", "sink close"]
    assert stage.sources[0].closed
    assert bad.log == ["start", "stop", "close"]
    assert never.log == []
    with pytest.raises(LifecycleError):
        await stage.ssc.start()


async def test_a_sink_that_cannot_be_opened_fails_the_start():
    """CTX-8."""

    class Shut(Noting):
        async def open(self, context: Any) -> None:
            raise PermissionError("not yours")

    stage = Stage([[1]])
    log: list[str] = []
    stage.stream.to(Shut(log))
    with pytest.raises(PermissionError):
        await stage.ssc.start()
    assert (stage.ssc.state, log) == (ContextState.STOPPED, ["sink close"])
    assert stage.sources[0].cuts == []


request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


async def test_user_code_sees_the_context_variables_as_they_were_at_start():
    """CTX-9: not as they were at the definition or are now."""
    stage = Stage([[1], [2]])
    seen: list[str] = []
    request.set("definition")
    stage.stream.transform(lambda rdd: (seen.append(request.get()), rdd)[1]).foreach_rdd(
        lambda rdd: seen.append(request.get())
    )

    async def call(x: int) -> None:
        seen.append(request.get())

    stage.stream.foreach_async(call)
    async with stage.ssc:
        request.set("start")
        await stage.ssc.start()
        request.set("later")
        await stage.batch(2)
    assert seen == ["start"] * 6


async def test_a_batch_does_not_see_what_another_set():
    """CTX-9."""
    stage = Stage([[1], [2]])
    seen: list[str] = []

    async def leave_a_mark(rdd: Any) -> None:
        seen.append(request.get())
        request.set("changed")

    stage.stream.foreach_rdd(leave_a_mark)
    await stage.play(2)
    assert seen == ["none", "none"]


# -- stop ------------------------------------------------------------------------------------------


async def test_stop_before_start_stops_and_a_second_one_does_nothing():
    """CTX-10, I4."""
    stage = with_output(Stage([[1]]))
    assert not await stage.ssc.stop()
    assert stage.ssc.state is ContextState.STOPPED
    assert not await stage.ssc.stop()
    assert await stage.ssc.await_termination()
    with pytest.raises(LifecycleError):
        await stage.ssc.start()


async def test_stop_ends_the_engine_of_the_context_and_no_other():
    """CTX-10."""
    stage = with_output(Stage([[1]]))
    async with stage.started():
        await stage.ssc.stop()
        with pytest.raises(LifecycleError, match="closed"):
            await stage.ssc.engine.parallelize([1]).count()
    async with EngineContext("local") as engine:
        stage = with_output(Stage([[1]], engine=engine))
        await stage.play(1)
        assert await engine.parallelize([1]).count() == 1


async def test_the_order_of_a_graceful_stop():
    """CTX-11, STP-1 … STP-8: sources take nothing new, what they have is processed, then all is closed."""
    stage = Stage([])
    log: list[str] = []

    class Ordered(ScriptedSource):
        async def stop(self) -> None:
            log.append("source stop")
            await super().stop()

        async def on_commit(self, time: BatchTime) -> None:
            log.append(f"commit {time.seconds:g}")

        async def aclose(self) -> None:
            log.append("source close")

    stream = stage.ssc.from_source(Ordered([[1], [2], [3]]))
    stream.to(Noting(log))
    stage.ssc.add_listener(
        lambda event: log.append("stopped") if isinstance(event, StreamingStopped) else None
    )
    async with stage.ssc:
        await stage.ssc.start()
        waiter = asyncio.create_task(stage.ssc.await_termination())
        await asyncio.sleep(0)
        assert await stage.ssc.stop()
        assert log == [
            "sink open",
            "source stop",
            *["sink write", "commit 1", "sink write", "commit 2", "sink write", "commit 3"],
            "source stop",
            "source close",
            "sink close",
            "stopped",
        ]
        assert await waiter


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_listener_may_stop_the_stream(kind: str):
    """CTX-12."""
    stage = with_output(Stage([[n] for n in range(100)]))
    answers: list[bool] = []

    async def ask(event: Any) -> None:
        if type(event).__name__ == "BatchCompleted":
            answers.append(await stage.ssc.stop())

    tasks = []

    def plain(event: Any) -> None:
        tasks.append(asyncio.ensure_future(ask(event)))

    stage.ssc.add_listener(ask if kind == "async" else plain)
    async with stage.started():
        await stage.clock.advance(1)
        await stage.stopped()
    assert answers[0] is False
    assert type(stage.events[-1]).__name__ == "StreamingStopped"


async def test_a_batch_may_stop_the_stream_and_is_committed():
    """CTX-13."""
    stage = Stage([[1], [2]])
    answers: list[bool] = []

    async def ask(rdd: Any) -> None:
        answers.append(await stage.ssc.stop())

    stage.stream.foreach_rdd(ask)
    async with stage.started():
        await stage.clock.advance(1)
        await stage.stopped()
        assert await stage.ssc.stop()
    assert answers[0] is False
    assert stage.commits[:2] == [1000, 2000]


async def test_a_batch_may_stop_the_stream_at_once():
    """CTX-13."""
    stage = Stage([[1], [2]])

    async def ask(rdd: Any) -> None:
        await stage.ssc.stop(graceful=False)
        await asyncio.Event().wait()

    stage.stream.foreach_rdd(ask)
    async with stage.started():
        await stage.clock.advance(1)
        await stage.stopped()
    assert stage.commits == []


async def test_a_plain_function_of_a_batch_may_stop_the_stream_from_its_thread():
    """CTX-13."""
    stage = Stage([[1]])
    loop = asyncio.get_running_loop()

    def ask(rdd: Any) -> None:
        asyncio.run_coroutine_threadsafe(stage.ssc.stop(), loop).result(DEADLINE_S)

    stage.stream.foreach_rdd(ask)
    async with stage.started():
        await stage.clock.advance(1)
        await stage.stopped()
    assert stage.commits[0] == 1000


async def test_a_transform_function_may_stop_the_stream():
    """CTX-13."""
    stage = Stage([[1]])

    async def ask(rdd: Any) -> Any:
        await stage.ssc.stop()
        return rdd

    stage.look(stage.stream.transform(ask))
    async with stage.started():
        await stage.clock.advance(1)
        await stage.stopped()
    assert stage.records[0] == [1]


async def test_many_may_stop_at_the_same_time_and_all_get_the_same_answer():
    """I4."""
    stage = with_output(Stage([[1], [2]]))
    async with stage.started():
        await stage.batch()
        answers = await asyncio.gather(*[stage.ssc.stop() for _ in range(5)])
    assert answers == [True] * 5


async def test_stop_after_a_failure_says_that_not_all_was_processed():
    """I4."""
    stage = Stage([[0]])
    stage.look(stage.stream.map(lambda x: 1 // x))
    async with stage.started():
        await stage.clock.advance(1)
        await stage.stopped()
        assert not await stage.ssc.stop()


async def test_stop_while_start_is_under_way_stops_what_start_made():
    """I4."""
    stage = with_output(Stage([[1]]))
    going_on = asyncio.Event()

    class Slow(Idle):
        async def start(self, context: SourceContext) -> None:
            await going_on.wait()
            await super().start(context)

    source = Slow()
    stage.ssc.from_source(source)
    starting = asyncio.create_task(stage.ssc.start())
    await asyncio.sleep(0)
    stopping = asyncio.create_task(stage.ssc.stop())
    await stage.clock.settle()
    assert not stopping.done()
    going_on.set()
    await starting
    await asyncio.wait_for(stopping, DEADLINE_S)
    assert stage.ssc.state is ContextState.STOPPED
    assert source.log[0] == "start"
    assert source.log[-1] == "close"


async def test_cancelling_a_stop_does_not_cancel_the_stopping():
    """I3."""
    stage = with_output(Stage([[1]]))
    async with stage.started():
        waiting = asyncio.create_task(stage.ssc.stop())
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await stage.stopped()
    assert stage.commits == [1000, 2000] or stage.commits == [1000]


async def test_a_graceful_stop_makes_one_last_batch_of_what_came_since_the_last_tick():
    """CTX-25, STP-5."""
    stage = Stage([[1]])
    stage.look(stage.stream)
    async with stage.started():
        await stage.batch()
        stage.sources[0].append([2])
        assert await stage.ssc.stop()
    assert stage.records == [[1], [2]]


async def test_a_graceful_stop_drains_sources_that_give_only_so_much_a_batch():
    """STP-4."""
    stage = Stage([[n] for n in range(7)])
    stage.look(stage.stream)
    async with stage.started():
        assert await stage.ssc.stop()
    assert stage.records == [[n] for n in range(7)]
    assert stage.commits == [1000 * n for n in range(1, 8)]


async def test_a_graceful_stop_waits_for_the_batch_that_runs():
    """STP-6."""
    stage = Stage([[1]])
    go_on = asyncio.Event()

    async def wait(rdd: Any) -> None:
        await go_on.wait()

    stage.stream.foreach_rdd(wait)
    async with stage.started():
        await stage.clock.advance(1)
        stopping = asyncio.create_task(stage.ssc.stop())
        await stage.clock.settle()
        assert not stopping.done()
        go_on.set()
        assert await asyncio.wait_for(stopping, DEADLINE_S)
    assert stage.commits[0] == 1000


async def test_a_graceful_stop_ends_at_its_deadline_and_says_so(caplog: pytest.LogCaptureFixture):
    """STP-7."""
    stage = Stage([[1]])
    cancelled: list[bool] = []

    async def forever(rdd: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    stage.stream.foreach_rdd(forever)
    async with stage.started():
        await stage.clock.advance(1)
        await stage.clock.settle()
        assert not await stage.ssc.stop(timeout_s=0.05)
        assert stage.ssc.state is ContextState.STOPPED
    assert cancelled == [True]
    assert "given up" in caplog.text
    assert await stage.ssc.await_termination()


async def test_a_second_stop_can_hurry_a_graceful_one():
    """STP-7, I1."""
    stage = Stage([[1]])
    stage.stream.foreach_rdd(lambda rdd: asyncio.Event().wait())
    async with stage.started():
        await stage.clock.advance(1)
        await stage.clock.settle()
        patient = asyncio.create_task(stage.ssc.stop(timeout_s=3600))
        await stage.clock.settle()
        assert not await stage.ssc.stop(graceful=False)
        assert not await patient


async def test_a_source_that_always_has_more_does_not_outlast_the_deadline():
    """STP-4, STP-7."""

    class Endless(Idle):
        @property
        def pending(self) -> bool:
            return True

    ssc = StreamingContext(1, "local", clock=ManualClock())
    ssc.from_source(Endless()).foreach_rdd(lambda rdd: None)
    async with ssc:
        await ssc.start()
        assert not await ssc.stop(timeout_s=0.1)
    assert ssc.state is ContextState.STOPPED


async def test_a_last_batch_that_fails_does_not_wait_for_the_deadline():
    """STP-12."""
    stage = Stage([[0]])
    stage.look(stage.stream.map(lambda x: 1 // x))
    async with stage.started():
        assert not await asyncio.wait_for(stage.ssc.stop(timeout_s=3600), DEADLINE_S)
    with pytest.raises(StepError):
        await stage.ssc.await_termination()


async def test_a_source_that_fails_in_the_last_batch_does_not_leave_anything_open():
    """STP-12."""
    stage = Stage([ABORT])
    log: list[str] = []
    stage.stream.to(Noting(log))
    async with stage.started():
        assert not await asyncio.wait_for(stage.ssc.stop(timeout_s=3600), DEADLINE_S)
    assert (log[-1], stage.sources[0].closed) == ("sink close", True)
    with pytest.raises(SourceError, match="aborted"):
        await stage.ssc.await_termination()


async def test_user_code_that_is_deaf_to_its_cancellation_does_not_hang_the_stop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """G8, STP-7."""
    monkeypatch.setattr("aiostream_engine.runtime.driver.CANCEL_TIMEOUT_S", 0.05)
    stage = Stage([[1]])
    release = asyncio.Event()

    async def deaf(rdd: Any) -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    stage.stream.foreach_rdd(deaf)
    async with stage.started():
        await stage.clock.advance(1)
        await stage.clock.settle()
        await asyncio.wait_for(stage.ssc.stop(graceful=False), DEADLINE_S)
    assert "does not end" in caplog.text
    release.set()


async def test_a_source_that_is_deaf_to_its_stop_does_not_hang_the_stop(monkeypatch: pytest.MonkeyPatch):
    """G8."""
    monkeypatch.setattr("aiostream_engine.runtime.inputs.SOURCE_STOP_TIMEOUT_S", 0.05)
    monkeypatch.setattr("aiostream_engine.runtime.inputs.CANCEL_TIMEOUT_S", 0.05)
    release = asyncio.Event()

    class Deaf(Idle):
        async def stop(self) -> None:
            while not release.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await release.wait()

    stage = with_output(Stage([[1]]))
    stage.ssc.from_source(Deaf())
    async with stage.started():
        await asyncio.wait_for(stage.ssc.stop(graceful=False), DEADLINE_S)
    release.set()


async def test_stop_in_full_back_pressure_does_not_dead_lock():
    """G8: a consumer that takes nothing, batches at their bound, data that waits."""
    stage = Stage([[n] for n in range(50)])
    batches = stage.stream.batches()
    async with stage.started():
        await stage.clock.advance(20)
        await stage.clock.settle()
        assert len(stage.sources[0].cuts) == 2
        assert not await asyncio.wait_for(stage.ssc.stop(timeout_s=0.05), DEADLINE_S)
        seen = [batch async for batch in batches]
    assert seen == []


# -- the end ---------------------------------------------------------------------------------------


async def test_await_termination_raises_what_made_the_stream_fail_at_every_call():
    """CTX-15."""
    stage = Stage([[0]])
    stage.look(stage.stream.map(lambda x: 1 // x))
    async with stage.started():
        await stage.clock.advance(1)
        errors = []
        for _ in range(3):
            with pytest.raises(StepError, match="ZeroDivisionError") as caught:
                await stage.ssc.await_termination(DEADLINE_S)
            errors.append(caught.value)
    assert errors[0] is errors[1] is errors[2]
    assert stage.ssc.state is ContextState.STOPPED


async def test_a_source_that_gave_up_stops_the_stream_with_its_error():
    """CTX-15, RCV-9."""

    async def receive() -> Any:
        raise ConnectionError("refused")
        yield

    clock = ManualClock()
    ssc = StreamingContext(1, "local", clock=clock)
    stream = ssc.receiver_stream(receive, name="broken", retry=RetryPolicy(attempts_max=2, wait_s=0))
    stream.foreach_rdd(lambda rdd: None)
    async with ssc:
        await ssc.start()
        await clock.advance(1)
        with pytest.raises(SourceError, match="gave up after 2 failed attempts: ConnectionError: refused"):
            await ssc.await_termination(DEADLINE_S)


async def test_await_termination_with_a_timeout_says_whether_it_has_stopped():
    """CTX-16."""
    stage = with_output(Stage([[1]]))
    async with stage.started():
        assert not await stage.ssc.await_termination(0.01)
        await stage.ssc.stop()
        assert await stage.ssc.await_termination(0.01)


async def test_await_termination_before_start_does_not_hang():
    """CTX-15: it would never end."""
    stage = with_output(Stage([[1]]))
    with pytest.raises(LifecycleError, match="start"):
        await stage.ssc.await_termination()


async def test_the_context_stops_by_itself_when_all_sources_have_ended():
    stage = Stage([[1], [2], EOF], [[3], EOF], stop_when_finished=True)
    stage.look(stage.ssc.union(*stage.streams))
    async with stage.started():
        await stage.clock.advance(10)
        assert await stage.ssc.await_termination(DEADLINE_S)
    assert stage.records == [[1, 3], [2]]


async def test_one_ended_source_does_not_end_the_others():
    stage = Stage([[1], EOF], [[2], [3]], stop_when_finished=True)
    stage.look(stage.ssc.union(*stage.streams))
    async with stage.started():
        await stage.batch(2)
        assert stage.ssc.state is ContextState.ACTIVE
    assert stage.records == [[1, 2], [3]]


async def test_a_stream_that_shall_not_end_goes_on_after_its_sources():
    stage = Stage([[1], EOF], stop_when_finished=False)
    stage.look(stage.stream.count())
    async with stage.started():
        await stage.batch(3)
    assert stage.records == [[1], [0], [0]]


async def test_run_starts_waits_and_stops():
    async with asyncio.timeout(DEADLINE_S):
        ssc = StreamingContext(0.01, "local")
        seen: list[int] = []

        async def keep(rdd: Any) -> None:
            seen.extend(await rdd.collect())

        ssc.queue_stream([[1], [2]], finish_when_empty=True).foreach_rdd(keep)
        await ssc.run()
        assert seen == [1, 2]
        forever = StreamingContext(0.01, "local")
        forever.queue_stream([]).foreach_rdd(lambda rdd: None)
        await forever.run(duration_s=0.05)
        assert forever.state is ContextState.STOPPED


# -- the frozen graph ------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["active", "stopped"])
@pytest.mark.parametrize(
    "add",
    [
        lambda stage: stage.ssc.queue_stream([]),
        lambda stage: stage.stream.map(str),
        lambda stage: stage.stream.window(2),
        lambda stage: stage.stream.update_state_by_key(max),
        lambda stage: stage.stream.foreach_rdd(lambda rdd: None),
        lambda stage: stage.stream.batches(),
        lambda stage: stage.ssc.remember(5),
    ],
    ids=["input", "step", "window", "state", "output", "batches", "remember"],
)
async def test_nothing_can_be_added_once_the_stream_is_started(add: Any, when: str):
    """CTX-17."""
    stage = with_output(Stage([[1]]))
    async with stage.started():
        if when == "active":
            with pytest.raises(GraphError, match="active: inputs, steps and outputs must be added before"):
                add(stage)
    if when == "stopped":
        with pytest.raises(GraphError, match="stopped: inputs"):
            add(stage)


async def test_nothing_can_be_added_from_inside_of_a_batch():
    """CTX-17."""
    stage = Stage([[1]])
    stage.stream.foreach_rdd(lambda rdd: stage.stream.map(str))
    async with stage.started():
        await stage.clock.advance(1)
        with pytest.raises(GraphError, match="before start"):
            await stage.ssc.await_termination(DEADLINE_S)


def test_remember_is_set_once():
    """CTX-18."""
    ssc = StreamingContext(1, "local")
    ssc.remember(60)
    with pytest.raises(LifecycleError, match="60 s"):
        ssc.remember(5)


def test_a_source_is_one_input():
    stage = Stage([[1]])
    with pytest.raises(GraphError, match="used already"):
        stage.ssc.from_source(stage.sources[0])
    with pytest.raises(OptionError, match="needs a Source"):
        stage.ssc.from_source([1, 2])  # type: ignore[arg-type]


# -- time ------------------------------------------------------------------------------------------


async def test_labels_are_the_ends_of_intervals_at_epoch_multiples():
    """CTX-22."""
    stage = Stage([[1], [2]], interval=0.5)
    stage.clock.step_wall(1_700_000_000.123)
    stage.look(stage.stream)
    async with stage.started():
        await stage.batch(2)
    assert list(stage.seen) == [1_700_000_000_500, 1_700_000_001_000]


@pytest.mark.parametrize(("missed_ticks", "batches"), [("coalesce", 1), ("every", 5)])
async def test_ticks_that_were_missed_give_one_batch_or_one_each(missed_ticks: Any, batches: int):
    """CTX-24."""
    stage = Stage([[n] for n in range(9)], scheduler=SchedulerConfig(missed_ticks=missed_ticks))
    stage.look(stage.stream)
    async with stage.started():
        await stage.clock.settle()
        await stage.clock.jump(5)
        await stage.until(lambda: len(stage.commits) == batches)
    assert stage.commits[-1] == 5000


async def test_a_batch_is_cut_as_soon_as_there_is_data():
    """CTX-24: the trigger ``data``."""
    stage = Stage([[1]], interval=60, scheduler=SchedulerConfig(trigger="data", gap_min_s=0))
    stage.look(stage.stream)
    async with stage.started():
        await stage.until(lambda: stage.commits)
        await stage.clock.advance(0.25)
        stage.sources[0].append([2])
        await stage.until(lambda: len(stage.commits) == 2)
    assert stage.seen == {1: [1], 250: [2]}


async def test_the_clock_that_is_given_is_used_for_everything():
    """CTX-26."""
    stage = with_output(Stage([[1]], interval=3600))
    async with stage.started():
        await stage.batch()
    completed = next(event for event in stage.events if type(event).__name__ == "BatchCompleted")
    assert completed.at_ms == 3_600_000


async def test_listeners_come_and_go():
    """CTX-27."""
    stage = with_output(Stage([[1], [2]]))
    heard: list[Any] = []
    async with stage.started():
        await stage.batch()
        stage.ssc.add_listener(heard.append)
        await stage.batch()
        await stage.until(lambda: any(type(e).__name__ == "BatchCompleted" for e in heard))
        assert stage.ssc.remove_listener(heard.append)
        assert not stage.ssc.remove_listener(print)
        count = len(heard)
        await stage.batch()
    assert len(heard) == count


async def test_an_input_without_an_output_is_started_and_drained_and_harms_nobody():
    """CTX-28."""
    stage = Stage([[1]] * 5, [["x" * 100_000]] * 5)
    stage.look(stage.stream)
    async with stage.started():
        await stage.batch(2)
        files = stage.ssc.engine.statistics().blocks.files
        await stage.batch(3)
        assert stage.ssc.engine.statistics().blocks.files == files == 0
    assert len(stage.sources[1].cuts) == 5


async def test_the_promises_of_each_pair_are_logged_and_explained(caplog: pytest.LogCaptureFixture):
    stage = with_output(Stage([[1]]))
    with caplog.at_level(logging.INFO, "aiostream_engine"):
        await stage.play(1)
    assert "at most once (no checkpoint directory)" in caplog.text
    assert "at most once" in stage.ssc.explain()


def test_a_checkpoint_directory_changes_what_is_promised(tmp_path: Path):
    """CTX-19."""
    promises = []
    for checkpoint in (None, str(tmp_path / "checkpoint")):
        stage = Stage(checkpoint=checkpoint)
        stage.ssc.from_source(ScriptedReplayableSource([], name="log")).foreach_rdd(print)
        promises.append(stage.ssc.explain())
    assert "at most once (no checkpoint directory)" in promises[0]
    assert "at least once" in promises[1]
    assert not (tmp_path / "checkpoint").exists()  # made at start


# -- a good guest ----------------------------------------------------------------------------------


async def test_no_signal_handler_is_touched():
    """CTX-14, I2."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    stage = with_output(Stage([[1]]))
    async with stage.started():
        await stage.batch()
        assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


async def test_a_listener_that_fails_harms_nobody():
    """I5, LIS-13."""
    stage = Stage([[1], [2]])
    stage.look(stage.stream)

    def broken(event: Any) -> None:
        raise RuntimeError("broken listener")

    stage.ssc.add_listener(broken)
    await stage.play(2)
    assert stage.records == [[1], [2]]


async def test_secrets_in_errors_are_masked_wherever_they_are_shown(caplog: pytest.LogCaptureFixture):
    """J9."""
    stage = Stage([[1]])

    def connect(rdd: Any) -> None:
        raise ConnectionError("cannot reach postgres://app:CANARY@db/x with password=CANARY")

    stage.stream.foreach_rdd(connect, on_error="skip")
    stage.stream.foreach_rdd(connect)
    async with stage.started():
        await stage.clock.advance(1)
        await stage.stopped()
    shown = [caplog.text, *map(str, stage.events), str(stage.ssc.statistics()), stage.ssc.explain()]
    assert "CANARY" not in "".join(shown)
    with pytest.raises(ConnectionError, match="CANARY"):  # the caller's own error stays as it is
        await stage.ssc.await_termination()


async def test_statistics_count_batches_and_records():
    stage = with_output(Stage([[1, 2], [3]]))
    async with stage.started():
        await stage.batch(2)
        statistics = stage.ssc.statistics()
    assert (statistics.batches_completed, statistics.records_total, statistics.batches_failed) == (2, 3, 0)
    assert [info.name for info in statistics.receivers] == ["input 0"]
