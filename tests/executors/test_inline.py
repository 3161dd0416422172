from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator

import pytest

from aiostream_engine.blocks.directory import BlockDirectory
from aiostream_engine.errors import LifecycleError
from aiostream_engine.executors import inline
from aiostream_engine.executors.base import Program, Task
from aiostream_engine.executors.inline import InlineExecutor
from aiostream_engine.executors.nested import WORKER_VARIABLE
from aiostream_engine.testing.leaks import LeakCheck
from aiostream_engine.types import BlockRef
from tests.executors.programs import answering, eventually, task, tasks, values

SLOW = 0.02


@pytest.fixture
async def executor(directory: BlockDirectory) -> AsyncIterator[InlineExecutor]:
    executor = InlineExecutor(directory)
    await executor.start()
    yield executor
    await executor.aclose()


def with_input(stage: Program, size: int) -> Task:
    return Task(0, stage.id, ((BlockRef("pickle", bytes(size)),),), 0)


def where() -> Program:
    return answering(
        lambda task: (time.sleep(task.params.get("wait", 0)), threading.current_thread().name)[1]
    )


LOOP, THREAD = threading.main_thread().name, "aiostream-inline"


async def test_a_first_run_with_little_input_stays_on_the_loop(executor: InlineExecutor) -> None:
    stage = where()
    assert await values(executor, stage, [with_input(stage, 100)]) == [LOOP]


async def test_a_first_run_with_much_input_goes_to_the_thread(executor: InlineExecutor) -> None:
    stage = where()
    assert await values(executor, stage, [with_input(stage, 20_000)]) == [THREAD]


async def test_a_program_that_was_slow_goes_to_the_thread_and_comes_back_when_it_is_quick(
    executor: InlineExecutor,
) -> None:
    stage = where()
    places = []
    for wait in [SLOW, SLOW, *[0] * 20]:
        places += await values(executor, stage, [task(stage, wait=wait)])
    assert places[:3] == [LOOP, THREAD, THREAD]
    assert places[-1] == LOOP


async def test_much_more_input_than_before_goes_to_the_thread(executor: InlineExecutor) -> None:
    stage = answering(lambda task: (time.sleep(0.0002), threading.current_thread().name)[1])
    await values(executor, stage, [with_input(stage, 1000)])
    assert await values(executor, stage, [with_input(stage, 1_000_000)]) == [THREAD]


async def test_the_loop_stays_responsive_while_a_slow_task_runs(executor: InlineExecutor) -> None:
    gate = threading.Event()
    # By reference: a gate cannot be pickled, and the task runs in this process.
    globals()["_gate"] = gate
    stage = answering(_wait_for_gate)
    call = asyncio.create_task(values(executor, stage, [with_input(stage, 20_000)]))
    await eventually(lambda: executor.statistics().tasks_running)
    await asyncio.sleep(0)
    assert not call.done()
    gate.set()
    assert await call == [True]


def _wait_for_gate(task: Task) -> bool:
    from tests.executors import test_inline

    gate: threading.Event = test_inline.__dict__["_gate"]
    return gate.wait(20)


async def test_never_two_tasks_at_once(executor: InlineExecutor) -> None:
    """The environment of tasks is not re-entrant."""

    def overlap(task: Task) -> int:
        inside = sys_counter()
        inside.append(1)
        time.sleep(0.001)
        depth = len(inside)
        inside.pop()
        return depth

    def sys_counter() -> list[int]:
        import sys

        held: list[int] = sys.__dict__.setdefault("_inline_overlap", [])
        return held

    stage = answering(overlap)
    work = [values(executor, stage, [*tasks(stage, 5), with_input(stage, 50_000)]) for _ in range(4)]
    depths = [depth for call in await asyncio.gather(*work) for depth in call]
    assert depths == [1] * 24


async def test_a_cancelled_call_does_not_wait_for_its_task_but_the_next_one_does(
    executor: InlineExecutor,
) -> None:
    globals()["_gate"] = gate = threading.Event()
    stage = answering(_wait_for_gate)
    call = asyncio.create_task(values(executor, stage, [with_input(stage, 20_000)] * 3))
    await eventually(lambda: executor.statistics().tasks_running)
    await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    quick = answering(lambda task: "quick")
    following = asyncio.create_task(values(executor, quick, [task(quick)]))
    await asyncio.sleep(0.01)
    assert not following.done()
    gate.set()
    assert await following == ["quick"]
    assert executor.statistics().tasks_queued == 0


async def test_close_gives_up_on_a_task_that_does_not_end_and_says_so(
    directory: BlockDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inline, "CLOSE_TIMEOUT_S", 0.05)
    globals()["_gate"] = gate = threading.Event()
    stage = answering(_wait_for_gate)
    async with LeakCheck():
        executor = InlineExecutor(directory)
        await executor.start()
        call = asyncio.create_task(values(executor, stage, [with_input(stage, 20_000)]))
        await eventually(lambda: executor.statistics().tasks_running)
        await asyncio.sleep(0.01)
        with caplog.at_level(logging.WARNING):
            await executor.aclose()
        assert "cannot be killed" in caplog.text
        with pytest.raises(LifecycleError, match="closed"):
            await call
        gate.set()


async def test_state_needs_no_changelog(executor: InlineExecutor) -> None:
    assert executor.volatile_workers is False
    assert executor.slots == 1


async def test_an_inline_engine_inside_of_a_worker_is_refused(
    directory: BlockDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A20"""
    monkeypatch.setenv(WORKER_VARIABLE, str(os.getppid()))
    with pytest.raises(LifecycleError, match="inside of a worker"):
        await InlineExecutor(directory).start()
