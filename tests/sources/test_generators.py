from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aiostream_engine.config import QueueLimits
from aiostream_engine.errors import OptionError, SourceError
from aiostream_engine.sources.generators import GeneratorSource, RateSource
from aiostream_engine.testing import ManualClock
from aiostream_engine.types import BatchTime

from .harness import Harness, until


async def test_a_rate_is_kept_exactly_by_the_clock(harness: Harness) -> None:
    clock = ManualClock()
    source = RateSource(10)
    await harness.start(source, clock=clock)
    batches = []
    for _ in range(3):
        await clock.advance(1.0)
        batches.append(await harness.cut(source))
    assert batches == [list(range(10)), list(range(10, 20)), list(range(20, 30))]


async def test_high_rates_come_in_steps(harness: Harness) -> None:
    clock = ManualClock()
    source = RateSource(100_000)
    await harness.start(source, clock=clock)
    await clock.advance(0.1)
    assert abs(len(await harness.cut(source)) - 10_000) <= 200


async def test_records_are_made_by_a_function_of_their_number(harness: Harness) -> None:
    source = RateSource(1e6, lambda number: f"record {number}", records_max=3)
    await harness.start(source)
    assert await harness.drain(source) == ["record 0", "record 1", "record 2"]


async def test_a_short_stall_is_made_up_for(harness: Harness) -> None:
    """D2"""
    clock = ManualClock()
    source = RateSource(10)
    await harness.start(source, clock=clock)
    await clock.settle()
    await clock.jump(5.0)
    assert await harness.cut(source) == list(range(50))
    await clock.advance(1.0)
    assert await harness.cut(source) == list(range(50, 60))


async def test_a_long_stall_gives_no_storm(harness: Harness) -> None:
    """D3"""
    clock = ManualClock()
    source = RateSource(10, catch_up_s=2.0)
    await harness.start(source, clock=clock)
    await clock.settle()
    await clock.jump(10_000.0)
    assert len(await harness.cut(source)) == 20
    await clock.advance(1.0)
    assert len(await harness.cut(source)) == 10


async def test_a_maker_that_raises_fails_the_source(harness: Harness) -> None:
    source = RateSource(1000, lambda number: 1 / (2 - number))
    await harness.start(source)
    await until(lambda: harness.events_of("stopped"))
    assert await harness.cut(source) == [0.5, 1.0]
    with pytest.raises(SourceError, match="ZeroDivisionError"):
        await source.cut(BatchTime(9000))


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
def test_a_bad_rate_is_refused(rate: float) -> None:
    with pytest.raises(OptionError, match="records_per_s"):
        RateSource(rate)


def _numbers(count: int) -> Iterator[int]:
    yield from range(count)


async def _async_numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


@pytest.mark.parametrize(
    "make", [lambda n: list(range(n)), range, lambda n: tuple(range(n)), _numbers, _async_numbers]
)
async def test_iterables_of_all_kinds_are_given_whole_and_in_order(harness: Harness, make: Any) -> None:
    """E3"""
    source = GeneratorSource(make(5000))
    await harness.start(source)
    assert await harness.drain(source) == list(range(5000))


async def test_an_endless_iterator_is_bounded_by_the_queue(harness: Harness) -> None:
    """E5"""
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    source = GeneratorSource(endless())
    await harness.start(source, limits=QueueLimits(records_max=100))
    await until(lambda: source.info().queue_fill >= 1)
    before = await harness.collect(source, 100)
    assert before[:100] == list(range(1, 101))
    assert taken <= 100 + len(before) + 3000
    await source.stop()


async def test_an_iterator_that_blocks_holds_up_neither_loop_nor_stop(harness: Harness) -> None:
    """E4"""
    let_go = threading.Event()

    def slow() -> Iterator[int]:
        yield 1
        let_go.wait(30)
        yield 2

    source = GeneratorSource(slow())
    await harness.start(source)
    try:
        assert await harness.collect(source, 1) == [1], "a record is not held back for the next one"
        async with asyncio.timeout(10):
            await source.stop()
    finally:
        let_go.set()


async def test_an_iterator_that_raises_gives_what_it_had_and_fails_the_source(harness: Harness) -> None:
    def breaks() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    source = GeneratorSource(breaks())
    await harness.start(source)
    await until(lambda: harness.events_of("stopped"))
    assert await harness.cut(source) == [1]
    with pytest.raises(SourceError, match="broken"):
        await source.cut(BatchTime(9000))


async def test_items_can_be_paced(harness: Harness) -> None:
    clock = ManualClock()
    source = GeneratorSource(range(100), records_per_s=10)
    await harness.start(source, clock=clock)
    await clock.advance(5.0)
    assert 50 <= source.info().records_total <= 52


@pytest.mark.parametrize("wrong", [3, None, _numbers])
def test_what_cannot_be_iterated_is_refused(wrong: Any) -> None:
    with pytest.raises(OptionError, match="items"):
        GeneratorSource(wrong)
