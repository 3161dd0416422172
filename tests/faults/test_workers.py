"""Worker processes are killed, stopped, flooded and starved for real; the pool must hold its promises."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from aiostream_engine.blocks.directory import BlockDirectory
from aiostream_engine.config import PoolConfig
from aiostream_engine.errors import (
    LifecycleError,
    OptionError,
    UnpicklableError,
    WorkerLostError,
    WorkerStartError,
)
from aiostream_engine.executors.base import Task, TaskResult
from aiostream_engine.executors.process.pool import ProcessExecutor
from aiostream_engine.executors.task import TaskEnvironment
from aiostream_engine.observe.events import Event, WorkerLost
from aiostream_engine.testing.leaks import LeakCheck
from aiostream_engine.types import BlockRef
from tests.executors.programs import answering, eventually, program, task, tasks, values

pytestmark = pytest.mark.faults
# ruff: noqa: ASYNC240 - small files in memory, read while nothing else runs on the loop

Pool = Callable[..., ProcessExecutor]


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def pool(directory: BlockDirectory, events: list[Event]) -> Pool:
    def new(workers: int = 2, **options: Any) -> ProcessExecutor:
        return ProcessExecutor(workers, directory, PoolConfig(**options), events.append)

    return new


def lost(events: list[Event]) -> list[str]:
    return [event.reason for event in events if isinstance(event, WorkerLost)]


def pids(pool: ProcessExecutor) -> list[int]:
    return [pid for pid in pool.worker_pids() if pid is not None]


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def once(marks: Path, act: Callable[[], Any]) -> Callable[[Task], str]:
    """A function that does ``act`` in the first attempt of partition 1, and marks each that begins."""
    folder = str(marks)

    def run(task: Task) -> str:
        with open(f"{folder}/{task.partition}-{task.attempt}", "w") as file:
            file.write(str(os.getpid()))
        if task.partition == 1 and task.attempt == 1:
            act()
        return f"{task.partition}-{task.attempt}"

    return run


def hang() -> None:
    while True:
        time.sleep(1)


# -- deaths ----------------------------------------------------------------------------------


async def test_only_the_task_of_a_killed_worker_is_tried_again(
    pool: Pool, events: list[Event], tmp_path: Path
) -> None:
    """A1"""
    stage = answering(once(tmp_path, hang), "slow step")
    async with pool() as executor:
        call = asyncio.create_task(values(executor, stage, tasks(stage, 4)))
        mark = tmp_path / "1-1"
        await eventually(lambda: mark.exists() and mark.read_text())
        victim, before = int(mark.read_text()), pids(executor)
        os.kill(victim, signal.SIGKILL)
        assert await call == ["0-1", "1-2", "2-1", "3-1"]
        await eventually(lambda: len(pids(executor)) == 2)
        assert len(set(before) & set(pids(executor))) == 1  # exactly one worker was replaced
    (reason,) = lost(events)
    assert "SIGKILL" in reason
    assert "'slow step'" in reason


async def test_a_batch_survives_the_death_of_all_workers(
    pool: Pool, events: list[Event], tmp_path: Path
) -> None:
    """A2"""
    stage = answering(lambda task: (time.sleep(0.02), task.partition)[1])
    async with pool() as executor:
        call = asyncio.create_task(values(executor, stage, tasks(stage, 40)))
        await eventually(lambda: executor.statistics().tasks_done > 4)
        for pid in pids(executor):
            os.kill(pid, signal.SIGKILL)
        assert await call == list(range(40))
        assert executor.statistics().workers_started == 4
    assert len(lost(events)) == 2


async def test_a_task_that_kills_each_worker_is_given_up_as_poison(pool: Pool, events: list[Event]) -> None:
    """A3"""

    def maybe_die(task: Task) -> int:
        if task.partition == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return task.partition

    stage = answering(maybe_die, "deadly")
    async with pool() as executor:
        results = await executor.run(stage, tasks(stage, 4))
        assert [result.failure is None for result in results] == [True, False, True, True]
        failure = results[1].failure
        assert failure is not None
        assert (failure.kind, failure.step) == ("poison", "deadly")
        assert failure.message.count("SIGKILL") == 3
        assert await values(executor, fine, [task(fine)]) == ["fine"]
    assert len(lost(events)) == 3


async def test_a_segmentation_fault_is_reported_with_its_step(
    pool: Pool, events: list[Event], tmp_path: Path
) -> None:
    """A4"""

    def crash() -> None:
        import ctypes

        ctypes.string_at(0)

    stage = answering(once(tmp_path, crash), "native step")
    async with pool() as executor:
        assert await values(executor, stage, tasks(stage, 2)) == ["0-1", "1-2"]
    (reason,) = lost(events)
    assert "SIGSEGV" in reason
    assert "'native step'" in reason


async def test_an_exit_with_code_zero_is_a_lost_worker(
    pool: Pool, events: list[Event], tmp_path: Path
) -> None:
    """A6"""
    stage = answering(once(tmp_path, lambda: os._exit(0)))
    async with pool() as executor:
        assert await values(executor, stage, tasks(stage, 2)) == ["0-1", "1-2"]
    assert "exited with code 0" in lost(events)[0]


async def test_workers_that_keep_dying_end_the_pool_with_an_error(pool: Pool) -> None:
    """A2: no crash loop without end"""
    stage = answering(lambda task: os._exit(7), "deadly")
    options = {"task_attempts_max": 1000, "worker_restarts_max": 4}
    async with pool(**options) as executor:
        with pytest.raises(WorkerLostError, match=r"worker_restarts_max = 4.*code 7"):
            await executor.run(stage, tasks(stage, 3))
        with pytest.raises(WorkerLostError, match="worker_restarts_max"):
            await executor.run(fine, [task(fine)])


async def test_a_worker_that_dies_between_tasks_is_replaced(pool: Pool, events: list[Event]) -> None:
    async with pool() as executor:
        (victim, other) = pids(executor)
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: executor.statistics().workers_started == 3)
        assert await values(executor, fine, [task(fine, slot=0), task(fine, slot=1)]) == ["fine", "fine"]
        assert other in pids(executor)
    assert len(lost(events)) == 1


async def test_a_pinned_task_waits_for_the_replacement_of_its_worker(pool: Pool) -> None:
    stage = answering(lambda task: os.getpid())
    async with pool() as executor:
        victim = pids(executor)[0]
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: victim not in pids(executor))
        (new,) = await values(executor, stage, [task(stage, slot=0)])
        assert new == executor.worker_pids()[0] != victim


# -- hangs -----------------------------------------------------------------------------------


async def test_a_task_past_its_deadline_is_killed_and_tried_again(
    pool: Pool, events: list[Event], tmp_path: Path
) -> None:
    """A8"""
    stage = answering(once(tmp_path, hang), "hung")
    async with pool(task_timeout_s=4.0, term_grace_s=0.2) as executor:
        assert await values(executor, stage, tasks(stage, 3)) == ["0-1", "1-2", "2-1"]
    assert "'hung' ran longer than task_timeout_s = 4.0" in lost(events)[0]


async def test_a_task_that_always_hangs_fails_with_its_deadline(pool: Pool) -> None:
    """A8"""
    stage = answering(lambda task: time.sleep(1000), "hung")
    async with pool(1, task_timeout_s=0.2, term_grace_s=0.1, task_attempts_max=2) as executor:
        (result,) = await executor.run(stage, [task(stage)])
        assert result.failure is not None
        assert result.failure.kind == "deadline"
        assert "2 attempts" in result.failure.message


async def test_code_that_holds_the_interpreter_lock_and_ignores_sigterm_is_killed(
    pool: Pool, events: list[Event], tmp_path: Path
) -> None:
    """A9"""

    def hold() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sum(range(10**13))

    stage = answering(once(tmp_path, hold))
    async with pool(task_timeout_s=1.0, term_grace_s=0.2) as executor:
        assert await values(executor, stage, tasks(stage, 2)) == ["0-1", "1-2"]
    assert "SIGKILL" in lost(events)[0]


async def test_a_stopped_worker_is_killed_at_the_deadline_and_replaced(
    pool: Pool, events: list[Event], tmp_path: Path
) -> None:
    """A23"""
    stage = answering(once(tmp_path, lambda: os.kill(os.getpid(), signal.SIGSTOP)))
    async with pool(task_timeout_s=1.0, term_grace_s=0.2) as executor:
        assert await values(executor, stage, tasks(stage, 3)) == ["0-1", "1-2", "2-1"]
        assert executor.statistics().tasks_retried == 1


async def test_the_result_of_an_abandoned_task_is_dropped(pool: Pool, tmp_path: Path) -> None:
    """A23, B14"""
    gate = str(tmp_path / "gate")

    def wait(task: Task) -> str:
        while not os.path.exists(gate):
            time.sleep(0.005)
        return "late"

    stage = answering(wait)
    async with pool(1, term_grace_s=20.0) as executor:
        call = asyncio.create_task(values(executor, stage, tasks(stage, 1)))
        await eventually(lambda: executor.statistics().tasks_running)
        call.cancel()
        next_call = asyncio.create_task(values(executor, fine, [task(fine)]))
        await asyncio.wait([call])
        Path(gate).touch()
        assert await next_call == ["fine"]
        assert executor.statistics().results_stale == 1
        assert executor.statistics().workers_lost == 0


async def test_an_abandoned_task_that_does_not_end_is_killed(pool: Pool, events: list[Event]) -> None:
    stage = answering(lambda task: time.sleep(1000), "endless")
    async with pool(1, term_grace_s=0.1) as executor:
        call = asyncio.create_task(executor.run(stage, tasks(stage, 5)))
        await eventually(lambda: executor.statistics().tasks_running)
        call.cancel()
        await asyncio.wait([call])
        assert await values(executor, fine, [task(fine)]) == ["fine"]
    assert "'endless' was cancelled" in lost(events)[0]


# -- blocks ----------------------------------------------------------------------------------


def writing(then: Callable[[Task], Any]) -> Any:
    """A program that writes a block in shared memory and one on disk, and then does something."""

    def run(environment: TaskEnvironment, task: Task) -> TaskResult:
        refs = []
        for spill in (False, True):
            path, _ = environment.writer.write([b"content"], spill=spill)
            refs.append(BlockRef("lines", None, path, 0, 7, args=("utf-8", "strict")))
        then(task)
        return TaskResult(task.id, outputs=tuple(refs))

    return program(run)


def files(directory: BlockDirectory) -> list[str]:
    return [*os.listdir(directory.path), *os.listdir(directory.spill_path)]


async def test_what_a_dead_attempt_wrote_is_removed_and_what_others_wrote_is_kept(
    pool: Pool, directory: BlockDirectory
) -> None:
    """A1: deaths do not fill the memory"""

    def die(task: Task) -> None:
        if task.partition == 2 and task.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    stage = writing(die)
    async with pool(1) as executor:
        results = await executor.run(stage, tasks(stage, 4))
        kept = [os.path.basename(ref.path) for result in results for ref in result.outputs]
        assert sorted(files(directory)) == sorted(kept)
        assert len(kept) == 8


async def test_the_blocks_of_a_cancelled_call_are_removed(pool: Pool, directory: BlockDirectory) -> None:
    stage = writing(lambda task: time.sleep(0.05))
    async with pool(term_grace_s=20.0) as executor:
        call = asyncio.create_task(executor.run(stage, tasks(stage, 50)))
        await eventually(lambda: executor.statistics().tasks_done > 3)
        call.cancel()
        await asyncio.wait([call])
        await eventually(lambda: executor.statistics().tasks_running == 0)
        assert files(directory) == []


async def test_random_kills_lose_no_task_and_double_none(pool: Pool, directory: BlockDirectory) -> None:
    """A1, A2: the sums of what is read back are those of what was asked for"""
    stage = writing(lambda task: time.sleep(0.002))
    draw = random.Random(20)
    async with pool(3, task_attempts_max=1000, worker_restarts_max=1000) as executor:
        call = asyncio.create_task(executor.run(stage, tasks(stage, 600)))
        killed = 0
        while killed < 15:
            await eventually(lambda: executor.statistics().tasks_running >= 2 or call.done())
            await asyncio.sleep(draw.random() * 0.01)
            if call.done():
                break  # on a busy machine the tasks are through before the kills
            if alive := pids(executor):
                os.kill(draw.choice(alive), signal.SIGKILL)
                killed += 1
        assert killed >= 1
        results = await call
        assert [result.task for result in results] == list(range(600))
        paths = {ref.path for result in results for ref in result.outputs}
        assert len(paths) == 1200
        assert len(files(directory)) == 1200
        assert executor.statistics().tasks_done == 600


# -- memory ----------------------------------------------------------------------------------


async def test_a_worker_that_grows_is_recycled_between_tasks_without_failing_one(
    pool: Pool, events: list[Event]
) -> None:
    """A10"""

    def leak(environment: TaskEnvironment, task: Task) -> TaskResult:
        held = environment.states.setdefault(("leak", 0), [])
        held.append(b"x" * 30_000_000)
        time.sleep(0.11)  # memory is measured ten times a second
        return TaskResult(task.id, value=pickle.dumps(os.getpid()))

    stage = program(leak)
    async with pool(1, worker_rss_bytes_max=120_000_000) as executor:
        used = await values(executor, stage, tasks(stage, 9))
        assert len(set(used)) >= 2
        assert executor.statistics().workers_recycled >= 1
        assert executor.statistics().tasks_failed == executor.statistics().workers_lost == 0
    assert lost(events) == []


async def test_a_worker_is_recycled_after_so_many_tasks(pool: Pool, events: list[Event]) -> None:
    """A10"""
    stage = answering(lambda task: os.getpid())
    async with pool(2, worker_tasks_max=3) as executor:
        used = await values(executor, stage, tasks(stage, 20))
        assert max(used.count(pid) for pid in used) == 3
    assert lost(events) == []


async def test_memory_that_is_refused_is_an_error_of_the_step(pool: Pool) -> None:
    """A11: with a limit of address space"""

    def allocate(task: Task) -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, resource.getrlimit(resource.RLIMIT_AS)[1]))
        bytearray(100 * 10**9)

    stage = answering(allocate)
    async with pool(1) as executor:
        (result,) = await executor.run(stage, [task(stage)])
        assert result.failure is not None
        assert result.failure.error_type == "MemoryError"
        assert await values(executor, fine, [task(fine)]) == ["fine"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
async def test_a_worker_is_a_likelier_victim_of_low_memory_than_the_driver(pool: Pool) -> None:
    """A11"""

    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    async with pool(1) as executor:
        assert score(pids(executor)[0]) > score(os.getpid())


async def test_a_kill_from_outside_is_reported_as_perhaps_low_memory(pool: Pool, events: list[Event]) -> None:
    """A11"""
    async with pool(1) as executor:
        os.kill(pids(executor)[0], signal.SIGKILL)
        await eventually(lambda: lost(events))
    assert "out of memory?" in lost(events)[0]


# -- output and descriptors ------------------------------------------------------------------


async def test_a_flood_of_output_neither_blocks_nor_reaches_the_protocol(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """A12"""

    def flood(task: Task) -> str:
        line = "x" * 999 + "\n"
        for _ in range(200):
            sys.stdout.write(line * 50)
            sys.stderr.write(line * 50)
            os.write(1, line.encode() * 50)
            os.write(2, line.encode() * 50)
        subprocess.run(["/bin/echo", "from a grandchild"], check=True)
        return "done"

    stage = answering(flood, "noisy")
    with caplog.at_level(logging.INFO, "aiostream_engine.worker"):
        async with pool(output_lines_per_s_max=20) as executor:
            assert await values(executor, stage, tasks(stage, 2)) == ["done"] * 2
            await eventually(lambda: executor.statistics().output_lines_dropped > 50_000)
    assert len(caplog.records) < 2_000
    assert any("noisy" in record.getMessage() for record in caplog.records)


async def test_what_a_step_prints_is_logged_with_its_name_and_without_control_characters(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """A12, J4"""

    def talk(task: Task) -> None:
        print("hello \x1b[31mred")
        print("oh no", file=sys.stderr)

    stage = answering(talk, "talker")
    with caplog.at_level(logging.INFO, "aiostream_engine.worker"):
        async with pool(1) as executor:
            await values(executor, stage, [task(stage)])
            await eventually(lambda: len(caplog.records) >= 2)
    told = {(record.levelname, record.getMessage()) for record in caplog.records}
    assert told == {
        ("INFO", "[worker 0, talker] hello \\x1b[31mred"),
        ("WARNING", "[worker 0, talker] oh no"),
    }


async def test_programs_that_a_step_starts_do_not_inherit_the_engines_descriptors(pool: Pool) -> None:
    """A12"""

    def listing(task: Task) -> list[str]:
        listing = subprocess.run(
            ["/bin/ls", "-l", "/proc/self/fd"], capture_output=True, text=True, check=True, close_fds=False
        )
        return [line.rpartition("-> ")[2] for line in listing.stdout.splitlines() if "->" in line]

    stage = answering(listing)
    async with pool(1) as executor:
        (targets,) = await values(executor, stage, [task(stage)])
    assert not any(target.startswith("socket:") for target in targets)
    assert sum(target.startswith("pipe:") for target in targets) == 2  # what capture_output made


async def test_bytes_on_the_engines_descriptor_kill_the_worker_not_the_driver(
    pool: Pool, events: list[Event], tmp_path: Path
) -> None:
    """A12, A22"""

    def scribble() -> None:
        import stat

        for fd in map(int, os.listdir("/proc/self/fd")):
            if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}") and stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, b"rubbish that is surely longer than one header")
        hang()

    stage = answering(once(tmp_path, scribble))
    async with pool() as executor:
        assert await values(executor, stage, tasks(stage, 2)) == ["0-1", "1-2"]
    assert "foreign bytes" in lost(events)[0]


async def test_half_a_reply_is_discarded(pool: Pool, events: list[Event], tmp_path: Path) -> None:
    """A22"""

    def half_a_reply() -> None:
        import stat

        from aiostream_engine.executors.process.wire import Kind, encode_frame

        header, payload = encode_frame(Kind.RESULT, 2, b"x" * 100_000)
        for fd in map(int, os.listdir("/proc/self/fd")):
            if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}") and stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, header + payload[:1000])
        os._exit(1)

    stage = answering(once(tmp_path, half_a_reply))
    async with pool() as executor:
        assert await values(executor, stage, tasks(stage, 2)) == ["0-1", "1-2"]
    assert "code 1" in lost(events)[0]


async def test_a_worker_that_closes_all_its_descriptors_is_replaced(
    pool: Pool, events: list[Event], tmp_path: Path
) -> None:
    """A22"""

    def close_all() -> None:
        os.closerange(0, 1000)
        hang()

    stage = answering(once(tmp_path, close_all))
    async with pool() as executor:
        assert await values(executor, stage, tasks(stage, 2)) == ["0-1", "1-2"]
    assert "closed its connection" in lost(events)[0]


# -- what user code does to its process ------------------------------------------------------


async def test_the_child_of_a_fork_in_a_step_does_not_answer(pool: Pool) -> None:
    """A13"""

    def fork(environment: TaskEnvironment, task: Task) -> TaskResult:
        child = os.fork()
        path, _ = environment.writer.write([b"block"])
        if child:
            os.waitpid(child, 0)
        return TaskResult(task.id, value=pickle.dumps((child, path)))

    stage = program(fork)
    async with pool(1) as executor:
        answers = await values(executor, stage, tasks(stage, 3))
        assert all(child > 0 for child, _ in answers)
        assert executor.statistics().results_stale == 0
        assert executor.statistics().workers_lost == 0


async def test_threads_and_processes_that_a_step_leaves_behind_do_not_hold_up_the_stop(pool: Pool) -> None:
    """A14"""

    def litter(task: Task) -> list[int]:
        import socket
        import threading

        threading.Thread(target=time.sleep, args=(1000,)).start()
        sys.kept_socket = socket.create_server(("127.0.0.1", 0))  # type: ignore[attr-defined]
        forked = os.fork()
        if forked == 0:
            time.sleep(1000)
        return [forked, subprocess.Popen(["/bin/sleep", "1000"]).pid]

    stage = answering(litter)
    started = time.monotonic()
    async with pool(1) as executor:
        (left,) = await values(executor, stage, [task(stage)])
        assert not any(map(gone, left))
    assert time.monotonic() - started < 20
    await eventually(lambda: all(map(gone, left)))


async def test_processes_that_a_dead_worker_leaves_behind_are_killed(pool: Pool, tmp_path: Path) -> None:
    """A14"""
    mark = str(tmp_path / "child")

    def leave_child() -> None:
        with open(mark, "w") as file:
            file.write(str(subprocess.Popen(["/bin/sleep", "1000"]).pid))
        os._exit(1)

    stage = answering(once(tmp_path, leave_child))
    async with pool() as executor:
        await values(executor, stage, tasks(stage, 2))
        child = int(Path(mark).read_text())
        await eventually(lambda: gone(child))


async def test_the_next_task_finds_directory_environment_handlers_and_streams_as_they_were(
    pool: Pool,
) -> None:
    """A15"""

    def look() -> Any:
        return (
            os.getcwd(),
            dict(os.environ),
            signal.getsignal(signal.SIGTERM),
            signal.getsignal(signal.SIGALRM),
            signal.getitimer(signal.ITIMER_REAL),
            sys.stdout.fileno(),
        )

    def spoil(task: Task) -> Any:
        before = look()
        os.chdir("/")
        os.environ.pop("PATH")
        os.environ["SPOILED"] = "yes"
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 500)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return before

    stage = answering(spoil)
    async with pool(1) as executor:
        first, second = await values(executor, stage, tasks(stage, 2))
    assert first == second


async def test_sigint_does_not_reach_the_workers(pool: Pool) -> None:
    """Ctrl-C in the terminal is the driver's to handle."""
    async with pool(1) as executor:
        (pid,) = pids(executor)
        assert os.getsid(pid) == pid  # not in the terminal's group
        os.kill(pid, signal.SIGINT)
        assert await values(executor, fine, [task(fine)]) == ["fine"]
        assert pids(executor) == [pid]


# -- messages --------------------------------------------------------------------------------


async def test_a_result_that_cannot_be_pickled_is_an_error_of_its_task(pool: Pool) -> None:
    """A17"""

    def unpicklable(environment: TaskEnvironment, task: Task) -> TaskResult:
        return TaskResult(task.id, counters={"x": lambda: None})  # type: ignore[dict-item]

    stage = program(unpicklable)
    async with pool(1) as executor:
        (result,) = await executor.run(stage, [task(stage, 5)])
        assert result.failure is not None
        assert (result.task, result.failure.kind) == (5, "unpicklable")


async def test_a_result_of_a_foreign_type_runs_no_code_in_the_driver(pool: Pool, tmp_path: Path) -> None:
    """A17, J8"""
    mark = str(tmp_path / "executed")

    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (mark,)

    def trap(environment: TaskEnvironment, task: Task) -> TaskResult:
        return TaskResult(task.id, counters={"x": Trap()})  # type: ignore[dict-item]

    stage = program(trap)
    async with pool(1) as executor:
        (result,) = await executor.run(stage, [task(stage)])
        assert result.failure is not None
        assert result.failure.kind == "unpicklable"
        assert await values(executor, fine, [task(fine)]) == ["fine"]
    assert not os.path.exists(mark)


async def test_a_result_whose_pickling_exits_is_an_error_of_its_task(pool: Pool) -> None:
    """A16"""

    class Exits:
        def __reduce__(self) -> Any:
            sys.exit(0)

    def exits(environment: TaskEnvironment, task: Task) -> TaskResult:
        return TaskResult(task.id, counters={"x": Exits()})  # type: ignore[dict-item]

    stage = program(exits)
    async with pool(1) as executor:
        (result,) = await executor.run(stage, [task(stage)])
        assert result.failure is not None
        assert result.failure.error_type == "SystemExit"


async def test_a_task_that_cannot_be_sent_is_refused_before_anything_runs(pool: Pool) -> None:
    """A18: the check of the steps themselves is made at start of the context"""
    stage = answering(lambda task: 1, "taker")
    async with pool(1) as executor:
        with pytest.raises(UnpicklableError, match="'taker'"):
            await executor.run(stage, [task(stage), task(stage, given=lambda: None)])
        assert executor.statistics().tasks_done == 0


async def test_messages_of_two_hundred_megabytes_pass_both_ways_at_once(pool: Pool) -> None:
    """A21"""

    def double(environment: TaskEnvironment, task: Task) -> TaskResult:
        return TaskResult(task.id, value=task.params["data"])

    stage = program(double)
    data = bytes(200_000_000)
    async with pool() as executor:
        results = await executor.run(stage, [task(stage, slot=0, data=data), task(stage, slot=1, data=data)])
        assert [len(result.value) for result in results] == [len(data)] * 2


async def test_a_message_over_the_limit_is_refused_with_advice(pool: Pool) -> None:
    """A21"""
    stage = answering(lambda task: b"x" * task.params.get("size", 0), "large")
    async with pool(1, message_bytes_max=100_000) as executor:
        with pytest.raises(OptionError, match="broadcast"):
            await executor.run(stage, [task(stage, given=bytes(200_000))])
        (result,) = await executor.run(stage, [task(stage, size=200_000)])
        assert result.failure is not None
        assert "message_bytes_max" in result.failure.message
        assert await values(executor, fine, [task(fine)]) == ["fine"]


async def test_a_worker_that_dies_while_it_is_written_to_is_replaced(pool: Pool, events: list[Event]) -> None:
    """A22"""
    stage = answering(lambda task: len(task.params["data"]))
    async with pool(1) as executor:
        (pid,) = pids(executor)
        os.kill(pid, signal.SIGSTOP)
        call = asyncio.create_task(values(executor, stage, [task(stage, data=bytes(20_000_000))]))
        await eventually(lambda: executor.statistics().tasks_running)
        os.kill(pid, signal.SIGKILL)
        assert await call == [20_000_000]
    assert len(lost(events)) == 1


async def test_a_retried_task_is_the_same_but_for_its_attempt_number(pool: Pool) -> None:
    """A27: with seeds in the parameters a retry computes the same"""

    def draw(task: Task) -> Any:
        if task.attempt == 1:
            os._exit(1)
        return random.Random(task.params["seed"]).random(), task.batch, task.attempt

    stage = answering(draw)
    async with pool(1) as executor:
        work = task(stage, seed=42)._replace(batch=1000)
        first, second = [await values(executor, stage, [work]) for _ in range(2)]
    assert first == second
    assert first[0][1:] == (1000, 2)


async def test_hashes_of_strings_are_the_same_in_all_workers(pool: Pool) -> None:
    """A27: the order of sets does not depend on the worker"""
    stage = answering(lambda task: list({"a", "b", "c", "d", "e", "f"}))
    async with pool() as executor:
        one, two = await values(executor, stage, [task(stage, slot=0), task(stage, slot=1)])
    assert one == two


# -- start and stop --------------------------------------------------------------------------


async def test_a_worker_that_does_not_get_ready_in_time_fails_the_start(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A26"""
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(1000)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with LeakCheck():
        with pytest.raises(WorkerStartError, match=r"not ready within 0\.5 s"):
            await pool(start_timeout_s=0.5, term_grace_s=0.1).start()


async def test_a_slow_import_is_no_matter_of_the_task_timeout(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A26"""
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(1.5)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with pool(1, task_timeout_s=1.0) as executor:
        assert await values(executor, fine, [task(fine)]) == ["fine"]


async def test_a_worker_that_fails_to_start_tells_what_it_wrote(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A26"""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, os; print('licence expired', file=sys.stderr, flush=True); os._exit(3)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(WorkerStartError, match=r"code 3.*\n.*licence expired"):
        await pool().start()


async def test_an_interpreter_that_cannot_be_started_fails_the_start(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    async with LeakCheck():
        with pytest.raises(WorkerStartError, match="nonexistent"):
            await pool().start()


async def test_a_cancelled_start_leaves_nothing_behind(pool: Pool) -> None:
    """I3"""
    for turns in (0, 1, 5, 50):
        async with LeakCheck():
            start = asyncio.create_task(pool().start())
            for _ in range(turns):
                await asyncio.sleep(0)
            start.cancel()
            await asyncio.wait([start])
            assert start.cancelled() or start.exception() is None


async def test_close_during_start_ends_both(pool: Pool) -> None:
    """I4"""
    async with LeakCheck():
        executor = pool()
        start = asyncio.create_task(executor.start())
        await asyncio.sleep(0)
        await executor.aclose()
        with pytest.raises(LifecycleError):
            await start


async def test_close_is_bounded_when_a_worker_ignores_sigterm(pool: Pool) -> None:
    def stubborn(task: Task) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        hang()

    stage = answering(stubborn)
    async with LeakCheck():
        executor = pool(term_grace_s=0.2)
        await executor.start()
        call = asyncio.create_task(executor.run(stage, tasks(stage, 2)))
        await eventually(lambda: executor.statistics().tasks_running == 2)
        async with asyncio.timeout(15):
            await executor.aclose()
        assert isinstance(await asyncio.gather(call, return_exceptions=True), list)


async def test_many_cycles_of_start_and_stop_leave_nothing_behind(pool: Pool) -> None:
    """I8"""
    async with LeakCheck():
        for cycle in range(20):
            async with pool(1) as executor:
                if cycle % 5 == 0:
                    os.kill(pids(executor)[0], signal.SIGKILL)
                await values(executor, fine, [task(fine)])


async def test_pools_in_one_process_are_independent(pool: Pool, events: list[Event]) -> None:
    """I9"""
    async with pool(1) as one, pool(1) as two:
        os.kill(pids(one)[0], signal.SIGKILL)
        assert await values(two, fine, [task(fine)]) == ["fine"]
        assert await values(one, fine, [task(fine)]) == ["fine"]
        assert two.statistics().workers_lost == 0


async def test_an_error_in_the_listener_of_events_does_no_harm(directory: BlockDirectory) -> None:
    """I5"""

    def broken(event: Event) -> None:
        raise RuntimeError("listener")

    async with ProcessExecutor(1, directory, on_event=broken) as executor:
        os.kill(pids(executor)[0], signal.SIGKILL)
        assert await values(executor, fine, [task(fine)]) == ["fine"]


# -- the driver ------------------------------------------------------------------------------

_SCRIPT = """
import asyncio, os, signal, sys, time
import cloudpickle
from aiostream_engine.blocks.directory import BlockDirectory
from aiostream_engine.executors.base import Program, Task, TaskResult
from aiostream_engine.executors.process.pool import ProcessExecutor

class OfMain:
    text = "from main"

def work(environment, task):
    return TaskResult(task.id, value=OfMain.text.encode())

def busy(environment, task):
    open(f"{task.params['marks']}/{os.getpid()}", "w").close()
    sum(range(10**13))

def nested(environment, task):
    directory = BlockDirectory()
    try:
        asyncio.run(ProcessExecutor(1, directory).start())
    finally:
        directory.close()

async def run(function, count=2, **params):
    directory = BlockDirectory()
    async with ProcessExecutor(2, directory) as pool:
        program = Program("p", cloudpickle.dumps(function), "work")
        results = await pool.run(program, [Task(i, "p", ((),), i, params=params) for i in range(count)])
    directory.close()
    return results
"""


def python(*arguments: str, script: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        input=script,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=Path(__file__).parents[2],
        **options,
    )


@pytest.mark.parametrize("how", ["file", "command", "stdin", "optimised"])
def test_functions_of_a_script_without_a_main_guard_run(how: str, tmp_path: Path) -> None:
    """A19, A25: no fork, no import of the main module"""
    script = _SCRIPT + "print(b' '.join(result.value for result in asyncio.run(run(work))).decode())\n"
    path = tmp_path / "script.py"
    path.write_text(script)
    arguments = {
        "file": [str(path)],
        "command": ["-W", "error", "-c", script],
        "stdin": ["-"],
        "optimised": ["-O", str(path)],
    }[how]
    ended = python(*arguments, script=script)
    assert (ended.stdout, ended.stderr) == ("from main from main\n", "")


def test_a_pool_inside_of_a_worker_is_refused() -> None:
    """A20"""
    ended = python("-", script=_SCRIPT + "print(asyncio.run(run(nested, 1))[0].failure.message)\n")
    assert "cannot be started inside of a worker process" in ended.stdout, ended.stderr


async def test_workers_are_fresh_interpreters_and_never_forks_of_the_host(pool: Pool) -> None:
    """A25: neither memory nor held locks nor threads of the host are in them"""
    import threading

    threading.held_by_the_host = threading.Lock()  # type: ignore[attr-defined]
    threading.held_by_the_host.acquire()  # type: ignore[attr-defined]
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    stage = answering(lambda task: (hasattr(threading, "held_by_the_host"), threading.active_count()))
    try:
        async with pool(1) as executor:
            assert await values(executor, stage, [task(stage)]) == [(False, 1)]
    finally:
        release.set()
        thread.join()
        del threading.held_by_the_host  # type: ignore[attr-defined]


@pytest.mark.parametrize("forked_child", [False, True])
def test_workers_die_with_a_killed_driver_even_when_busy_in_c(tmp_path: Path, forked_child: bool) -> None:
    """A24; also when the driver had forked a child that lives on"""
    script = _SCRIPT
    if forked_child:
        script = script.replace(
            "        results = ", "        os.fork() or time.sleep(1000)\n        results = "
        )
    script += f"asyncio.run(run(busy, marks={str(tmp_path)!r}))\n"
    driver = subprocess.Popen(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], start_new_session=True
    )
    try:
        deadline = time.monotonic() + 30
        while len(os.listdir(tmp_path)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        workers = [int(name) for name in os.listdir(tmp_path)]
        assert not any(map(gone, workers))
        driver.kill()
        driver.wait()
        deadline = time.monotonic() + 5
        while not all(map(gone, workers)):
            assert time.monotonic() < deadline, "workers outlived their driver"
            time.sleep(0.01)
    finally:
        for member in psutil.process_iter():
            if _group_of(member.pid) == driver.pid:
                member.kill()
        driver.wait()


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


_FORGET = """
async def forget():
    pool = ProcessExecutor(2, directory)
    await pool.start()
    print(*pool.worker_pids(), flush=True)
    return pool if keep else None
"""


@pytest.mark.parametrize("keep", [True, False])
def test_an_exit_of_the_driver_without_close_neither_hangs_nor_leaves_workers(keep: bool) -> None:
    """I7"""
    script = _SCRIPT + f"keep = {keep}; directory = BlockDirectory()\n" + _FORGET
    ended = python("-W", "default", "-", script=script + "kept = asyncio.run(forget())\n")
    workers = [int(pid) for pid in ended.stdout.split()]
    assert len(workers) == 2, ended.stderr
    assert "a process pool was not closed" in ended.stderr
    deadline = time.monotonic() + 5
    while not all(map(gone, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_workers_of_a_forgotten_pool_end_while_the_driver_lives_on() -> None:
    """I7"""
    script = (
        _SCRIPT
        + "keep = False; directory = BlockDirectory()\n"
        + _FORGET
        + textwrap.dedent("""
        import gc
        asyncio.run(forget())
        gc.collect()
        print("alive", flush=True)
        time.sleep(1000)
        """)
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    ) as driver:
        try:
            assert driver.stdout is not None
            workers = [int(pid) for pid in driver.stdout.readline().split()]
            assert driver.stdout.readline() == "alive\n"
            deadline = time.monotonic() + 5
            while not all(map(gone, workers)):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            driver.kill()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("pidfd", [True, False])
def test_deaths_are_noticed_on_both_loops_and_without_process_descriptors(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, new_loop: Any, pidfd: bool
) -> None:
    """A1, I10: sandboxes may forbid pidfd_open"""
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open")

    def work(task: Task) -> str:
        if task.attempt == 1 and task.partition == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    async def main() -> None:
        stage = answering(work)
        async with LeakCheck(), pool() as executor:
            assert await values(executor, stage, tasks(stage, 4)) == ["done"] * 4
            os.kill(pids(executor)[0], signal.SIGKILL)
            await eventually(lambda: executor.statistics().workers_lost == 2)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


fine = answering(lambda task: "fine")
