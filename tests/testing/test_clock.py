"""The manual clock."""

import asyncio

import pytest

from aiostream_engine.testing import ManualClock


async def test_time_stands_still_until_it_is_advanced():
    clock = ManualClock(epoch_s=50.0)
    before = clock.time(), clock.monotonic()
    await asyncio.sleep(0.01)
    assert (clock.time(), clock.monotonic()) == before == (50.0, before[1])


async def test_wall_and_monotonic_time_pass_together():
    clock = ManualClock(epoch_s=50.0)
    start = clock.monotonic()
    await clock.advance(2.5)
    assert clock.time() == pytest.approx(52.5)
    assert clock.monotonic() == pytest.approx(start + 2.5)


async def test_sleepers_wake_in_the_order_of_their_deadlines_each_at_its_own_time():
    clock, woken = ManualClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep_until(clock.monotonic() + seconds)
        woken.append((seconds, clock.time()))

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3, 1, 2, 9)]
    await clock.advance(5)
    assert woken == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert clock.sleepers == 1
    tasks[-1].cancel()


async def test_one_who_sleeps_again_is_woken_again_within_the_same_advance():
    clock, woken = ManualClock(), []

    async def sleeper() -> None:
        for _ in range(4):
            await clock.sleep_until(clock.monotonic() + 1)
            woken.append(clock.time())

    task = asyncio.create_task(sleeper())
    await clock.advance(4)
    assert woken == [1, 2, 3, 4]
    assert task.done()


async def test_a_deadline_that_has_passed_does_not_sleep():
    clock = ManualClock()
    await asyncio.wait_for(clock.sleep_until(clock.monotonic()), 10)


async def test_a_cancelled_sleeper_is_forgotten():
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep_until(clock.monotonic() + 1))
    await clock.settle()
    task.cancel()
    await clock.settle()
    assert clock.sleepers == 0
    await clock.advance(2)
    assert task.cancelled()


async def test_a_wall_clock_step_leaves_monotonic_time_and_sleepers_alone():
    """D1."""
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep_until(clock.monotonic() + 1))
    await clock.settle()
    before = clock.monotonic()
    clock.step_wall(3600)
    await clock.settle()
    assert (clock.time(), clock.monotonic(), task.done()) == (3600, before, False)
    await clock.advance(1)
    assert task.done()


async def test_a_jump_wakes_all_who_are_due_and_they_find_that_they_are_late():
    """D2."""
    clock, woken = ManualClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep_until(clock.monotonic() + seconds)
        woken.append((seconds, clock.time()))

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (2, 1, 20)]
    await clock.settle()
    await clock.jump(10)
    assert woken == [(1, 10.0), (2, 10.0)]
    tasks[-1].cancel()


async def test_time_does_not_go_back():
    with pytest.raises(ValueError, match="never goes back"):
        await ManualClock().advance(-1)


async def test_until_waits_for_work_that_is_not_the_loops():
    clock, done = ManualClock(), []
    future = asyncio.get_running_loop().run_in_executor(None, done.append, 1)
    await clock.until(lambda: done)
    await future


async def test_until_says_when_its_condition_does_not_come_true():
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        await ManualClock().until(lambda: False, timeout_s=0.01)
