"""A stream inside of somebody's program: cancelled anywhere, started again and again, beside others."""

from __future__ import annotations

import asyncio
import contextlib
import operator
import os
import resource
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine import StreamingContext
from aiostream_engine.errors import AiostreamError, LifecycleError, OptionError
from aiostream_engine.testing import LeakCheck, LoopCanary
from aiostream_engine.types import ContextState
from tests.executors.programs import eventually
from tests.stage import DEADLINE_S, Stage


def busy(stage: Stage) -> Stage:
    """A graph with a bit of everything."""
    s = stage.stream.map(lambda x: (x % 3, x))
    stage.look(s.reduce_by_key(operator.add).window(2))
    s.update_state_by_key(lambda new, old: sum(new) + (old or 0)).foreach_rdd(lambda rdd: None)
    s.map_async(_same).foreach_rdd(lambda rdd: None)
    return stage


async def _same(x: Any) -> Any:
    await asyncio.sleep(0)
    return x


async def life(stage: Stage, batches: int = 2) -> None:
    """What a host does with a stream."""
    async with stage.ssc:
        await stage.ssc.start()
        for _ in range(batches):
            await stage.batch()
        await stage.ssc.stop()


def is_free(stage: Stage) -> bool:
    return stage.ssc.state is ContextState.STOPPED and stage.ssc.engine._runner is None


# -- cancellation ----------------------------------------------------------------------------------


@pytest.mark.both_loops
@pytest.mark.parametrize("step", [*range(40), *range(40, 400, 9)])
async def test_a_host_that_is_cancelled_anywhere_leaves_nothing_behind(step: int):
    """I3: after so many steps of the loop, whatever is awaited then."""
    stage = busy(Stage([[n, n + 1] for n in range(4)]))
    async with LeakCheck(grace_s=DEADLINE_S):
        host = asyncio.create_task(life(stage))
        for _ in range(step):
            if host.done():
                break
            await asyncio.sleep(0)
        host.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await host
        if stage.ssc.state is not ContextState.INITIALIZED:
            await eventually(lambda: is_free(stage))
    again = busy(Stage([[1], [2]]))
    await life(again)
    assert len(again.records) >= 2


@pytest.mark.parametrize("times", [2, 3])
async def test_a_host_that_is_cancelled_again_while_it_ends_leaves_nothing_behind(times: int):
    """I3: an impatient supervisor."""
    stage = busy(Stage([[1]] * 4))
    async with LeakCheck(grace_s=DEADLINE_S):
        host = asyncio.create_task(life(stage, batches=1000))
        await stage.until(lambda: stage.ssc._driver is not None)
        for _ in range(times):
            host.cancel()
            await asyncio.sleep(0)
        with contextlib.suppress(asyncio.CancelledError):
            await host
        await eventually(lambda: is_free(stage))


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0, 0.01, 0.05, 0.15, 0.4])
async def test_a_host_with_worker_processes_that_is_cancelled_leaves_nothing_behind(delay_s: float):
    """I3."""
    async with LeakCheck(grace_s=DEADLINE_S):
        stage = busy(Stage([[n] for n in range(50)], master="local[2]"))
        host = asyncio.create_task(life(stage, batches=50))
        await asyncio.sleep(delay_s)
        host.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await host
        if stage.ssc.state is not ContextState.INITIALIZED:
            await eventually(lambda: is_free(stage))


async def test_an_error_in_the_body_of_the_context_ends_the_stream_and_is_raised():
    """I3."""
    stage = busy(Stage([[1]]))
    async with LeakCheck(grace_s=DEADLINE_S):
        with pytest.raises(KeyError, match="mine"):
            async with stage.ssc:
                await stage.ssc.start()
                raise KeyError("mine")
    assert stage.ssc.state is ContextState.STOPPED


async def test_a_timeout_around_the_wait_for_the_end_leaves_the_stream_running():
    """I3."""
    stage = busy(Stage([[1], [2]]))
    async with stage.started():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await stage.ssc.await_termination()
        await stage.batch()
    assert len(stage.records) == 1


# -- again and again -------------------------------------------------------------------------------


async def test_many_lives_leave_no_task_thread_process_or_descriptor():
    """I8."""
    async with LeakCheck(grace_s=DEADLINE_S):
        for number in range(30):
            await life(busy(Stage([[number]])), batches=1)


@pytest.mark.slow
async def test_many_lives_with_worker_processes_leave_nothing():
    """I8."""
    async with LeakCheck(grace_s=DEADLINE_S):
        for number in range(5):
            await life(busy(Stage([[number]], master="local[2]")), batches=1)


async def test_contexts_that_were_never_started_need_no_end():
    """I4, I8."""
    async with LeakCheck(grace_s=DEADLINE_S):
        for _ in range(10):
            busy(Stage([[1]]))
        async with StreamingContext(1, "local"):
            pass


# -- beside others ---------------------------------------------------------------------------------


async def test_two_streams_run_side_by_side_and_one_that_fails_does_not_touch_the_other():
    """I9."""
    good, bad = busy(Stage([[1], [2], [3]])), Stage([[0]])
    bad.look(bad.stream.map(lambda x: 1 // x))
    async with good.started(), bad.started():
        await good.batch()
        await bad.clock.advance(1)
        await bad.stopped()
        await good.batch(2)
    with pytest.raises(AiostreamError):
        await bad.ssc.await_termination()
    assert len(good.records) == 3


async def test_the_loop_of_the_host_stays_responsive_while_big_batches_run():
    """G6: with a bound that a busy machine keeps, far below the seconds that the work takes."""
    async with LoopCanary() as canary:
        stage = Stage([list(range(60_000))] * 3)
        stage.look(stage.stream.map(lambda x: (x % 100, x * x)).reduce_by_key(operator.add).count())
        await stage.play(3)
    assert stage.records == [[100]] * 3
    assert canary.report().samples > 0
    assert canary.report().max_s < 1.0


@pytest.mark.slow
async def test_three_receivers_run_on_one_worker():
    """CTX-2: receivers take no worker, so that the trap of the original model is gone."""

    async def receive() -> AsyncIterator[int]:
        for number in range(5):
            yield number

    async with asyncio.timeout(DEADLINE_S):
        ssc = StreamingContext(0.02, "local[1]")
        seen: list[int] = []

        async def keep(rdd: Any) -> None:
            seen.extend(await rdd.collect())

        ssc.union(*[ssc.receiver_stream(receive) for _ in range(3)]).foreach_rdd(keep)
        await ssc.run()
    assert sorted(seen) == sorted([*range(5)] * 3)


async def test_a_context_belongs_to_one_event_loop():
    """I6: the error says so."""
    stage = busy(Stage([[1]]))
    async with stage.ssc:

        def elsewhere() -> None:
            async def use() -> None:
                for call in (stage.ssc.start, stage.ssc.stop, stage.ssc.await_termination):
                    with pytest.raises(LifecycleError, match="another event loop"):
                        await call()

            asyncio.run(use())

        await asyncio.to_thread(elsewhere)


@contextlib.contextmanager
def few_descriptors(more: int) -> Iterator[None]:
    """Let this process open only ``more`` further files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, highest + 1 + more), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize("more", [0, 2, 5, 9])
async def test_a_start_without_descriptors_fails_cleanly_and_a_later_one_works(more: int):
    """G7."""
    await asyncio.to_thread(lambda: None)  # the loop's own threads are no part of this
    async with LeakCheck(grace_s=DEADLINE_S):
        with few_descriptors(more):
            stage = busy(Stage([[1]], master="local[2]"))
            with contextlib.suppress(AiostreamError, OSError):
                async with asyncio.timeout(DEADLINE_S):
                    await life(stage, batches=1)
    await life(busy(Stage([[1]])), batches=1)


# -- other ways to run -----------------------------------------------------------------------------

PROGRAM = """
import asyncio, operator, sys
from aiostream_engine import StreamingContext

async def main():
    ssc = StreamingContext(0.02, sys.argv[1])
    words = ssc.queue_stream([["a b a"], ["b c"]], finish_when_empty=True).flat_map(str.split)
    counts = words.map(lambda w: (w, 1)).update_state_by_key(lambda new, old: sum(new) + (old or 0))
    last = []
    async def keep(rdd):
        last[:] = await rdd.collect()
    counts.foreach_rdd(keep)
    words.count_by_window(0.04).foreach_rdd(lambda rdd: None)
    await ssc.run()
    print(sorted(last))

"""
EXPECTED = "[('a', 2), ('b', 2), ('c', 1)]\n"


def run_program(tmp_path: Path, end: str, *options: str, master: str = "local", body: str = PROGRAM) -> Any:
    script = tmp_path / "program.py"
    script.write_text(body + textwrap.dedent(end))
    return subprocess.run(
        [sys.executable, *options, str(script), master],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=tmp_path,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "end", "master"),
    [
        (("-O", "-W", "error"), "asyncio.run(main())", "local[2]"),
        (("-X", "dev", "-W", "error"), "asyncio.run(main(), debug=True)", "local"),
        (("-W", "error"), "import uvloop; uvloop.run(main())", "local[1]"),
    ],
    ids=["optimised", "debug", "uvloop"],
)
def test_results_do_not_depend_on_how_python_is_run(tmp_path: Path, options: Any, end: str, master: str):
    """I10: no logic in assertions, no warning, any loop."""
    done = run_program(tmp_path, end, *options, master=master)
    assert (done.returncode, done.stdout) == (0, EXPECTED), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("master", ["local", "local[2]"])
def test_a_program_that_forgets_to_stop_ends_all_the_same(tmp_path: Path, master: str):
    """I7: no hang at the exit, and no worker outlives it."""
    body = """
    import asyncio, sys, psutil
    from aiostream_engine import StreamingContext

    async def main():
        global ssc
        ssc = StreamingContext(0.02, sys.argv[1])
        ssc.queue_stream([[1]] * 1000).map(lambda x: x).foreach_rdd(lambda rdd: None)
        await ssc.start()
        await asyncio.sleep(0.1)
        print(*[child.pid for child in psutil.Process().children()])
    """
    done = run_program(tmp_path, "asyncio.run(main())", master=master, body=textwrap.dedent(body) + "\n")
    assert done.returncode == 0, done.stderr
    pids = [int(pid) for pid in done.stdout.split()]
    assert pids
    deadline = time.monotonic() + DEADLINE_S
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline, "a child outlived its driver"
        time.sleep(0.01)


async def test_waiting_for_what_was_not_started_is_refused():
    """No user mistake gives a hang: these would wait for ever."""
    stage = busy(Stage([[1]]))
    async with asyncio.timeout(DEADLINE_S):
        for mistake in (stage.ssc.await_termination(), anext(Stage([[1]]).stream.batches())):
            with pytest.raises(LifecycleError):
                await mistake
    async with stage.started():
        with pytest.raises(OptionError, match="timeout_s"):
            await stage.ssc.stop(timeout_s=-1)
