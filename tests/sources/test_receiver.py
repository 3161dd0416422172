from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aiostream_engine.config import QueueLimits, RetryPolicy
from aiostream_engine.errors import LifecycleError, OptionError, SourceError
from aiostream_engine.sources.base import ReceiverSource
from aiostream_engine.sources.object_source import ObjectSource
from aiostream_engine.testing import ManualClock
from aiostream_engine.types import BatchTime

from .harness import FAST, Harness, until

Life = Callable[["Scripted"], Awaitable[None]]


class Scripted(ObjectSource, ReceiverSource):
    """Does one thing in each life."""

    def __init__(self, *lives: Life, **options: Any) -> None:
        super().__init__("scripted", **{"retry": FAST, **options})
        self._lives = lives
        self.life = 0

    async def receive(self) -> None:
        life = self._lives[min(self.life, len(self._lives) - 1)]
        self.life += 1
        await life(self)


def stores(*items: Any) -> Life:
    async def life(source: Scripted) -> None:
        for item in items:
            await source.store(item)

    return life


def then_raises(*items: Any) -> Life:
    async def life(source: Scripted) -> None:
        await stores(*items)(source)
        raise ConnectionError("gone")

    return life


async def hangs(source: Scripted) -> None:
    await asyncio.get_running_loop().create_future()


async def is_deaf(source: Scripted) -> None:
    while True:
        try:
            await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            if source.counters["let_go"]:
                raise


async def test_a_failure_starts_it_again_and_loses_nothing(harness: Harness) -> None:
    """E1"""
    source = Scripted(then_raises(1, 2), then_raises(3), stores(4))
    await harness.start(source)
    assert await harness.drain(source) == [1, 2, 3, 4]
    info = source.info()
    assert (info.restarts, info.last_error, info.active) == (2, "ConnectionError: gone", False)
    assert len(harness.events_of("error")) == 2
    assert len(harness.events_of("started")) == 3
    assert len(harness.events_of("stopped")) == 1


async def test_what_was_received_is_handed_over_before_the_failure_is_raised(harness: Harness) -> None:
    """E2"""
    source = Scripted(then_raises(1, 2), retry=RetryPolicy(attempts_max=1))
    await harness.start(source)
    await until(lambda: harness.events_of("stopped"))
    assert await harness.cut(source) == [1, 2]
    assert source.pending
    with pytest.raises(SourceError, match="ConnectionError: gone") as caught:
        await source.cut(BatchTime(5000))
    assert isinstance(caught.value.__cause__, ConnectionError)


async def test_the_wait_grows_and_a_life_that_gave_something_resets_it(harness: Harness) -> None:
    """E1, E2"""
    clock = ManualClock()
    lives = [then_raises(), then_raises(), then_raises(), then_raises("x"), then_raises(), hangs]
    source = Scripted(*lives, retry=RetryPolicy(None, 1.0, 100.0, jitter=0))
    await harness.start(source, clock=clock)
    waits = []
    for life in range(1, 6):
        await until(lambda n=life: len(harness.events_of("error")) == n and clock.sleepers)
        begin = clock.monotonic()
        while source.life == life:
            await clock.advance(0.5)
        waits.append(clock.monotonic() - begin)
    assert waits == [1, 2, 4, 1, 2]


async def test_the_attempts_of_a_policy_are_in_a_row(harness: Harness) -> None:
    source = Scripted(*[then_raises(n) for n in range(20)], stores("end"), retry=RetryPolicy(2, 0.001, 0.001))
    await harness.start(source)
    assert await harness.drain(source) == [*range(20), "end"]


async def test_a_cancelled_wait_of_its_own_is_a_failure_not_a_silent_end(harness: Harness) -> None:
    """E1"""

    async def awaits_something_cancelled(source: Scripted) -> None:
        other = asyncio.get_running_loop().create_future()
        other.cancel()
        await other

    source = Scripted(awaits_something_cancelled, stores(1))
    await harness.start(source)
    assert await harness.drain(source) == [1]
    assert "CancelledError" in str(source.info().last_error)


async def test_a_receiver_that_exits_ends_itself_alone(harness: Harness) -> None:
    """E2"""

    async def exits(source: Scripted) -> None:
        raise SystemExit(3)

    source = Scripted(exits, stores(1))
    await harness.start(source)
    assert await harness.drain(source) == [1]
    assert "sys.exit(3)" in str(source.info().last_error)


async def test_a_receiver_that_cannot_be_cancelled_is_left_behind(harness: Harness) -> None:
    """E4"""
    source = Scripted(is_deaf, stop_timeout_s=0.05)
    await harness.start(source)
    task = source._task
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await source.stop()
    assert "did not end" in str(source.info().last_error)
    source.counters["let_go"] = 1
    assert task is not None
    task.cancel()
    await asyncio.wait({task})


async def test_a_receiver_that_hangs_does_not_hold_up_the_cut(harness: Harness) -> None:
    """E4"""
    source = Scripted(hangs)
    await harness.start(source)
    async with asyncio.timeout(10):
        assert await harness.cut(source) == []
        await source.stop()


async def test_the_queue_is_never_over_its_bound_in_records(harness: Harness) -> None:
    """E5"""
    source = Scripted(stores(*range(10_000)))
    await harness.start(source, limits=QueueLimits(records_max=100))
    highest, records = 0, []
    while not source.finished:
        await asyncio.sleep(0)
        highest = max(highest, source.info().queue_records)
        records += await harness.cut(source)
    assert records == list(range(10_000))
    assert highest == 100


async def test_the_queue_is_never_far_over_its_bound_in_bytes(harness: Harness) -> None:
    """E5"""
    source = Scripted(stores(*[bytes(1000)] * 3000))
    await harness.start(source, limits=QueueLimits(bytes_max=50_000))
    await until(lambda: source.info().queue_fill >= 1)
    assert source.info().queue_bytes <= 51_000
    assert len(await harness.drain(source)) == 3000


async def test_the_size_of_objects_is_learned_not_guessed(harness: Harness) -> None:
    """E5: a few huge objects are not taken for small ones."""
    source = Scripted(stores(*[{"data": str(n) * 50_000} for n in range(10, 100)]))
    await harness.start(source, limits=QueueLimits(bytes_max=1_000_000))
    await until(lambda: source.info().queue_fill >= 1)
    assert source.info().queue_records <= 11
    assert len(await harness.drain(source)) == 90


async def test_a_receiver_that_never_waits_does_not_starve_the_loop(harness: Harness) -> None:
    """E5, G6"""

    async def endless(source: Scripted) -> None:
        while True:
            await source.store("x")

    source = Scripted(endless)
    await harness.start(source)
    async with asyncio.timeout(10):
        for _ in range(20):
            await asyncio.sleep(0)
        await source.stop()


async def test_one_record_a_call_is_counted_against_the_rate(harness: Harness) -> None:
    """RCV-14"""
    clock = ManualClock()
    source = Scripted(stores(*range(1000)))
    source.set_rate(10.0)
    await harness.start(source, clock=clock)
    for _ in range(10):
        await clock.advance(1.0)
    assert 100 <= source.info().records_total <= 102
    source.set_rate(100.0)
    await clock.advance(1.0)
    assert 200 <= source.info().records_total <= 213
    source.set_rate(None)
    await clock.settle()
    await until(lambda: source.info().records_total == 1000)
    assert await harness.drain(source) == list(range(1000))


async def test_a_block_is_counted_against_the_rate(harness: Harness) -> None:
    """RCV-3: in the original model only single records are."""
    clock = ManualClock()

    async def blocks(source: Scripted) -> None:
        for _ in range(100):
            await source.store_block(["x"] * 10)

    source = Scripted(blocks)
    source.set_rate(10.0)
    await harness.start(source, clock=clock)
    for _ in range(10):
        await clock.advance(1.0)
    assert 90 <= source.info().records_total <= 120


@pytest.mark.parametrize("started", [False, True])
async def test_a_rate_of_zero_is_refused(harness: Harness, started: bool) -> None:
    source = Scripted(hangs)
    if started:
        await harness.start(source)
    with pytest.raises(OptionError, match="rate"):
        source.set_rate(0)


async def test_stop_during_full_back_pressure_ends_and_keeps_what_was_taken(harness: Harness) -> None:
    """G8"""
    source = Scripted(stores(*range(1000)))
    await harness.start(source, limits=QueueLimits(records_max=10))
    await until(lambda: source.info().queue_fill >= 1)
    async with asyncio.timeout(10):
        await source.stop()
    assert await harness.cut(source) == list(range(10))
    assert source.finished


async def test_stop_while_the_rate_is_used_up_ends(harness: Harness) -> None:
    source = Scripted(stores(*range(1000)))
    source.set_rate(1.0)
    await harness.start(source)
    await until(lambda: source.info().records_total == 1)
    async with asyncio.timeout(10):
        await source.stop()


async def test_stop_may_be_cancelled_and_called_again(harness: Harness) -> None:
    """I3, I4"""
    source = Scripted(is_deaf, stop_timeout_s=30.0)
    await harness.start(source)
    await asyncio.sleep(0)
    stopping = asyncio.create_task(source.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait({stopping})
    source.counters["let_go"] = 1
    async with asyncio.timeout(10):
        await asyncio.gather(source.stop(), source.stop())
    assert len(harness.events_of("stopped")) == 1


async def test_whoever_waits_to_store_is_let_go_at_stop(harness: Harness) -> None:
    """G8"""
    source = Scripted(hangs)
    await harness.start(source, limits=QueueLimits(records_max=1))
    await source.store(1)
    waiting = asyncio.create_task(source.store(2))
    await asyncio.sleep(0)
    await source.stop()
    async with asyncio.timeout(10):
        with pytest.raises(LifecycleError, match="stopped"):
            await waiting


async def test_stop_and_close_before_start_are_nothing(harness: Harness) -> None:
    """I4"""
    source = Scripted(hangs)
    await source.stop()
    await source.aclose()
    assert source.info().stream_id == -1


async def test_a_second_start_is_refused(harness: Harness) -> None:
    """I4"""
    source = Scripted(hangs)
    await harness.start(source)
    with pytest.raises(LifecycleError, match="before"):
        await harness.start(source)


async def test_names_carry_the_stream_id(harness: Harness) -> None:
    """SRC-23"""
    first, second = Scripted(hangs), Scripted(hangs)
    await harness.start(first)
    await harness.start(second)
    assert [first.name, second.name] == ["scripted[0]", "scripted[1]"]
    assert second.info().stream_id == 1


async def test_blocks_that_nobody_cut_are_released_at_close(harness: Harness) -> None:
    source = Scripted(stores(*[bytes(100_000)] * 20), hangs)
    await harness.start(source)
    await until(lambda: source.info().records_total == 20)
    assert harness.directory.ledger.statistics().files > 0
    await source.aclose()
    assert harness.directory.ledger.statistics().files == 0


async def test_a_full_memory_is_an_error_that_is_tried_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-type fault: no space is not the end."""
    from aiostream_engine.blocks.arena import Arena
    from aiostream_engine.errors import StorageError

    write, fails = Arena.write, [True, True]

    def flaky(self: Arena, data: Any) -> None:
        if fails:
            fails.pop()
            raise StorageError("no room")
        write(self, data)

    monkeypatch.setattr(Arena, "write", flaky)

    async def blocks(source: Scripted) -> None:
        await source.store_block(["x"])

    source = Scripted(blocks)
    await harness.start(source)
    assert await harness.drain(source) == ["x"]
    assert source.info().restarts == 2
