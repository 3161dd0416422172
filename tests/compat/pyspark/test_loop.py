"""The engine's loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from aiostream_engine.compat.pyspark.loop import EngineLoop

where: ContextVar[str] = ContextVar("where", default="nowhere")


@pytest.fixture
def loop():
    made = EngineLoop()
    yield made
    made.stop()


def test_nothing_starts_before_the_first_call() -> None:
    before = threading.active_count()
    made = EngineLoop()
    assert threading.active_count() == before
    assert not made.running
    made.stop()


def test_a_coroutine_runs_in_the_thread_and_gives_its_result(loop: EngineLoop) -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    assert loop.call(work()) == "aiostream-pyspark"
    assert loop.running


def test_what_a_coroutine_raises_is_raised_to_the_caller(loop: EngineLoop) -> None:
    async def work() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        loop.call(work())


def test_context_variables_of_the_caller_travel(loop: EngineLoop) -> None:
    async def work() -> str:
        return where.get()

    token = where.set("here")
    assert loop.call(work()) == "here"
    where.reset(token)


def test_a_call_from_the_loops_own_thread_is_refused_instead_of_waiting_for_ever(loop: EngineLoop) -> None:
    async def inner() -> None: ...

    async def outer() -> None:
        loop.call(inner())

    with pytest.raises(RuntimeError, match="would wait for the event loop"):
        loop.call(outer())


def test_a_plain_function_runs_on_the_loop_from_any_thread(loop: EngineLoop) -> None:
    async def on_loop() -> threading.Thread:
        return loop.run(threading.current_thread)

    assert loop.run(threading.current_thread).name == "aiostream-pyspark"
    assert loop.call(on_loop()).name == "aiostream-pyspark"


def test_an_interrupted_wait_cancels_the_coroutine(loop: EngineLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = threading.Event()
    started = threading.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    submit = loop.submit

    def interrupted(coroutine):
        future = submit(coroutine)
        assert started.wait(10)
        monkeypatch.setattr(future, "result", _interrupt)
        return future

    monkeypatch.setattr(loop, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.call(work())
    assert cancelled.wait(10)


def _interrupt(timeout: float | None = None) -> None:
    raise KeyboardInterrupt


def test_stopping_cancels_what_runs_and_ends_the_thread() -> None:
    loop = EngineLoop()
    cancelled = threading.Event()
    started = threading.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    future = loop.submit(work())
    assert started.wait(10)
    loop.stop()
    loop.stop()
    assert cancelled.is_set()
    assert future.cancelled()
    assert "aiostream-pyspark" not in [thread.name for thread in threading.enumerate()]


def test_a_stopped_loop_takes_no_more_calls() -> None:
    loop = EngineLoop()
    loop.run(int)
    loop.stop()

    async def work() -> None: ...

    with pytest.raises(RuntimeError, match="stopped"):
        loop.call(work())
