"""What every executor promises. A new executor adds one line to ``EXECUTORS``."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from aiostream_engine.blocks.directory import BlockDirectory
from aiostream_engine.blocks.formats import read_chunks
from aiostream_engine.blocks.storage import read_bytes
from aiostream_engine.errors import LifecycleError, OptionError
from aiostream_engine.executors.base import Executor, Program, Task, TaskResult
from aiostream_engine.executors.inline import InlineExecutor
from aiostream_engine.executors.process.pool import ProcessExecutor
from aiostream_engine.executors.task import StateMissing, TaskEnvironment
from aiostream_engine.testing.leaks import LeakCheck
from aiostream_engine.types import BlockRef
from tests.executors.programs import answering, block, echo, eventually, program, task, tasks, value, values

EXECUTORS: dict[str, Callable[[BlockDirectory], Executor]] = {
    "inline": InlineExecutor,
    "process": lambda directory: ProcessExecutor(2, directory),
}


@pytest.fixture(params=EXECUTORS)
def new_executor(request: pytest.FixtureRequest, directory: BlockDirectory) -> Callable[[], Executor]:
    return lambda: EXECUTORS[request.param](directory)


@pytest.fixture
async def executor(new_executor: Callable[[], Executor]) -> AsyncIterator[Executor]:
    async with new_executor() as executor:
        yield executor


# -- results ---------------------------------------------------------------------------------


async def test_results_come_in_the_order_of_the_tasks(executor: Executor) -> None:
    stage = answering(lambda task: task.partition)
    assert await values(executor, stage, tasks(stage, 50)) == list(range(50))


async def test_results_name_their_tasks(executor: Executor) -> None:
    stage = echo()
    results = await executor.run(stage, [task(stage, 7), task(stage, 3)])
    assert [result.task for result in results] == [7, 3]


async def test_no_tasks_give_no_results(executor: Executor) -> None:
    assert await executor.run(echo(), []) == []


async def test_a_program_reads_the_blocks_of_its_task(executor: Executor) -> None:
    stage = answering(lambda task: [sum(map(sum, read_chunks(ref))) for ref in task.inputs[0]])
    work = Task(0, stage.id, ((block([1, 2, 3]), block([10])),), 0)
    assert await values(executor, stage, [work]) == [[6, 10]]


async def test_a_block_that_a_task_writes_is_readable_in_the_driver(executor: Executor) -> None:
    def write(environment: TaskEnvironment, task: Task) -> TaskResult:
        path, offsets = environment.writer.write([b"one", b"two"])
        refs = tuple(BlockRef("lines", None, path, offset, 3, args=("utf-8", "strict")) for offset in offsets)
        return TaskResult(task.id, outputs=refs)

    stage = program(write)
    results = await executor.run(stage, tasks(stage, 2))
    contents = [[bytes(read_bytes(ref)) for ref in result.outputs] for result in results]
    assert contents == [[b"one", b"two"], [b"one", b"two"]]
    assert len({result.outputs[0].path for result in results}) == 2


async def test_a_task_arrives_as_it_was_sent_with_its_first_attempt_number(executor: Executor) -> None:
    stage = answering(lambda task: (task.params["x"], task.batch, task.attempt, task.slot))
    work = Task(0, stage.id, ((),), 0, slot=0, batch=1_700_000_000_000, params={"x": {1, "a", (2.5, None)}})
    assert await values(executor, stage, [work]) == [({1, "a", (2.5, None)}, 1_700_000_000_000, 1, 0)]


async def test_two_programs_do_not_get_mixed_up(executor: Executor) -> None:
    one, two = answering(lambda task: "one"), answering(lambda task: "two")
    both = await asyncio.gather(values(executor, one, tasks(one, 20)), values(executor, two, tasks(two, 20)))
    assert both == [["one"] * 20, ["two"] * 20]


async def test_what_a_task_keeps_in_its_slot_is_there_for_the_next_one(executor: Executor) -> None:
    def count(environment: TaskEnvironment, task: Task) -> TaskResult:
        held = environment.states.setdefault(("counter", 0), [0])
        held[0] += 1
        return TaskResult(task.id, value=pickle.dumps(held[0]))

    stage = program(count)
    assert [await values(executor, stage, [task(stage, slot=0)]) for _ in range(3)] == [[1], [2], [3]]


async def test_missing_state_is_told_apart_from_failure(executor: Executor) -> None:
    def miss(environment: TaskEnvironment, task: Task) -> TaskResult:
        raise StateMissing

    stage = program(miss)
    (result,) = await executor.run(stage, [task(stage)])
    assert result.state_missing
    assert result.failure is None


async def test_accumulators_come_back_pickled(executor: Executor) -> None:
    def add(environment: TaskEnvironment, task: Task) -> TaskResult:
        environment.accumulators[4] = task.partition
        return TaskResult(task.id)

    stage = program(add)
    results = await executor.run(stage, tasks(stage, 3))
    assert [pickle.loads(result.accumulators) for result in results] == [{4: 0}, {4: 1}, {4: 2}]


async def test_what_a_function_captured_is_a_copy(executor: Executor) -> None:
    """H12: inline behaves as the pool does; nothing leaks back by aliasing."""
    seen: list[int] = []
    stage = answering(lambda task: seen.append(task.partition) or len(seen))
    await executor.run(stage, tasks(stage, 3))
    assert seen == []


# -- failures of user code -------------------------------------------------------------------


async def failure_of(executor: Executor, function: Callable[[Task], Any]) -> Any:
    stage = answering(function)
    (result,) = await executor.run(stage, [task(stage)])
    assert result.failure is not None
    assert await values(executor, echo(), []) == []  # and the executor is alive
    return result.failure


async def test_an_error_of_user_code_comes_back_as_text_with_its_traceback(executor: Executor) -> None:
    def fail(task: Task) -> None:
        raise ValueError("no good")

    failure = await failure_of(executor, fail)
    assert (failure.kind, failure.error_type, failure.message) == ("user", "ValueError", "no good")
    assert "in fail" in failure.traceback


async def test_one_failed_task_leaves_its_siblings_alone(executor: Executor) -> None:
    def fail_two(task: Task) -> int:
        if task.partition == 2:
            raise RuntimeError("two")
        return task.partition

    stage = answering(fail_two)
    results = await executor.run(stage, tasks(stage, 5))
    assert [result.failure is None for result in results] == [True, True, False, True, True]
    assert executor.statistics().tasks_failed == 1


@pytest.mark.parametrize("code", [0, 3, None])
async def test_sys_exit_is_an_error_of_the_step_and_never_success(executor: Executor, code: Any) -> None:
    """A5"""

    def leave(task: Task) -> None:
        raise SystemExit(code)

    failure = await failure_of(executor, leave)
    assert (failure.kind, failure.error_type) == ("user", "SystemExit")


async def test_exceptions_beside_the_exception_tree_are_errors_of_the_step(executor: Executor) -> None:
    """A7"""

    class Odd(BaseException):
        pass

    def group(task: Task) -> None:
        raise BaseExceptionGroup("many", [Odd(), ValueError("inner")])

    def interrupt(task: Task) -> None:
        raise KeyboardInterrupt

    def cancelled(task: Task) -> None:
        raise asyncio.CancelledError

    kinds = [await failure_of(executor, function) for function in (group, interrupt, cancelled)]
    assert [failure.kind for failure in kinds] == ["user"] * 3
    assert kinds[1].error_type == "KeyboardInterrupt"


async def test_an_exception_that_cannot_be_pickled_or_printed_is_still_reported(executor: Executor) -> None:
    """A16"""

    class Awkward(Exception):
        def __init__(self, one: object, two: object) -> None:
            super().__init__(lambda: None)

        def __reduce__(self) -> Any:
            raise SystemExit(9)

        def __str__(self) -> str:
            raise KeyError("str")

        __repr__ = __str__

    def fail(task: Task) -> None:
        raise Awkward(1, 2)

    failure = await failure_of(executor, fail)
    assert failure.kind == "user"
    assert failure.error_type.endswith("Awkward")
    assert "unprintable" in failure.message


async def test_an_accumulator_that_cannot_be_pickled_fails_its_task_alone(executor: Executor) -> None:
    """A17"""

    def add(environment: TaskEnvironment, task: Task) -> TaskResult:
        environment.accumulators[1] = threading.Lock()
        return TaskResult(task.id)

    stage = program(add)
    (result,) = await executor.run(stage, [task(stage)])
    assert result.failure is not None
    assert result.failure.kind == "unpicklable"


async def test_a_program_that_cannot_be_unpickled_fails_its_tasks_and_no_others(executor: Executor) -> None:
    broken = Program("broken", b"not a pickle", "broken step")
    results = await executor.run(broken, tasks(broken, 3))
    assert all(result.failure is not None for result in results)
    stage = answering(lambda task: "fine")
    assert await values(executor, stage, [task(stage)]) == ["fine"]


async def test_user_code_may_run_an_event_loop_of_its_own(executor: Executor) -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 5

    stage = answering(lambda task: asyncio.run(work()))
    assert await values(executor, stage, tasks(stage, 3)) == [5, 5, 5]
    assert asyncio.current_task() is not None
    await asyncio.sleep(0)


# -- life cycle ------------------------------------------------------------------------------


async def test_a_cancelled_call_leaves_the_executor_usable(executor: Executor) -> None:
    import time

    stage = answering(lambda task: time.sleep(0.05))
    big = [Task(id, stage.id, ((BlockRef("pickle", bytes(32 * 1024)),),), id) for id in range(100)]
    call = asyncio.create_task(executor.run(stage, big))
    await eventually(lambda: executor.statistics().tasks_running)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    fine = answering(lambda task: "fine")
    assert await values(executor, fine, tasks(fine, 4)) == ["fine"] * 4
    await eventually(lambda: executor.statistics().tasks_running == 0)
    assert executor.statistics().tasks_queued == 0


async def test_the_blocks_of_a_cancelled_call_are_removed(
    executor: Executor, directory: BlockDirectory
) -> None:
    import os
    import time

    def write(environment: TaskEnvironment, task: Task) -> TaskResult:
        path, _ = environment.writer.write([b"content"])
        time.sleep(0.02)
        return TaskResult(task.id, outputs=(BlockRef("lines", None, path, 0, 7, args=("utf-8", "strict")),))

    stage = program(write)
    big = [Task(id, stage.id, ((BlockRef("pickle", bytes(32 * 1024)),),), id) for id in range(50)]
    call = asyncio.create_task(executor.run(stage, big))
    await eventually(lambda: executor.statistics().tasks_done > 3)
    call.cancel()
    await asyncio.wait([call])
    await eventually(lambda: executor.statistics().tasks_running == 0)
    assert os.listdir(directory.path) == []


async def test_the_blocks_of_a_task_that_failed_after_it_wrote_them_are_removed(
    executor: Executor, directory: BlockDirectory
) -> None:
    import os

    def write_and_fail(environment: TaskEnvironment, task: Task) -> TaskResult:
        path, _ = environment.writer.write([b"content"], spill=task.partition == 1)
        if task.partition < 2:
            raise ValueError("afterwards")
        return TaskResult(task.id, outputs=(BlockRef("lines", None, path, 0, 7, args=("utf-8", "strict")),))

    stage = program(write_and_fail)
    *_, good = await executor.run(stage, tasks(stage, 3))
    left = [*os.listdir(directory.path), *os.listdir(directory.spill_path)]
    assert left == [os.path.basename(ref.path) for ref in good.outputs]


async def test_calls_under_way_together_take_turns(executor: Executor) -> None:
    import time

    long, short = answering(lambda task: time.sleep(0.002)), echo()
    many = asyncio.create_task(executor.run(long, tasks(long, 400)))
    await eventually(lambda: executor.statistics().tasks_done > 2)
    await executor.run(short, tasks(short, 4))
    assert not many.done()
    await many


async def test_run_needs_a_started_executor(new_executor: Callable[[], Executor]) -> None:
    """I4"""
    executor, stage = new_executor(), echo()
    with pytest.raises(LifecycleError, match="not started"):
        await executor.run(stage, [task(stage)])
    await executor.aclose()
    with pytest.raises(LifecycleError):
        await executor.start()


async def test_run_after_close_is_refused(new_executor: Callable[[], Executor]) -> None:
    """I4"""
    stage = echo()
    async with new_executor() as executor:
        pass
    with pytest.raises(LifecycleError, match="closed"):
        await executor.run(stage, [task(stage)])


async def test_an_executor_starts_once(executor: Executor) -> None:
    """I4"""
    with pytest.raises(LifecycleError, match="once"):
        await executor.start()
    stage = answering(lambda task: "fine")
    assert await values(executor, stage, [task(stage)]) == ["fine"]


async def test_close_may_be_called_twice_and_at_the_same_time(new_executor: Callable[[], Executor]) -> None:
    """I4"""
    executor = new_executor()
    await executor.start()
    await asyncio.gather(executor.aclose(), executor.aclose())
    await executor.aclose()


async def test_close_ends_calls_under_way(new_executor: Callable[[], Executor]) -> None:
    import time

    executor = new_executor()
    await executor.start()
    stage = answering(lambda task: time.sleep(0.1))
    call = asyncio.create_task(executor.run(stage, tasks(stage, 200)))
    await eventually(lambda: executor.statistics().tasks_done)
    await executor.aclose()
    with pytest.raises(LifecycleError, match="closed"):
        await call


async def test_a_slot_that_does_not_exist_is_refused(executor: Executor) -> None:
    stage = echo()
    with pytest.raises(OptionError, match="slot 99"):
        await executor.run(stage, [task(stage, slot=99)])


def test_another_event_loop_is_refused(new_executor: Callable[[], Executor]) -> None:
    """I6"""
    executor, stage = new_executor(), echo()
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(executor.start())
        with pytest.raises(LifecycleError, match="another event loop"):
            asyncio.run(executor.run(stage, [task(stage)]))
    finally:
        loop.run_until_complete(executor.aclose())
        loop.close()


async def test_nothing_is_left_behind(new_executor: Callable[[], Executor]) -> None:
    stage = answering(lambda task: task.partition)
    async with LeakCheck(), new_executor() as executor:
        await executor.run(stage, tasks(stage, 10))


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_both_event_loops_give_the_same_results(
    new_executor: Callable[[], Executor], new_loop: Callable[[], asyncio.AbstractEventLoop], debug: bool
) -> None:
    """I10"""

    async def main() -> list[int]:
        stage = answering(lambda task: task.partition**2)
        async with LeakCheck(), new_executor() as executor:
            return await values(executor, stage, tasks(stage, 10))

    with asyncio.Runner(loop_factory=new_loop, debug=debug) as runner:
        assert runner.run(main()) == [n * n for n in range(10)]


async def test_statistics_count_what_was_done(executor: Executor) -> None:
    stage = answering(lambda task: 1 // task.partition)
    results = await executor.run(stage, tasks(stage, 4))
    figures = executor.statistics()
    assert value(results[1]) == 1
    assert (figures.tasks_done, figures.tasks_failed) == (3, 1)
    assert (figures.tasks_running, figures.tasks_queued) == (0, 0)
    assert figures.slots == executor.slots
