"""A sink that takes far longer than the interval: the stream goes at its pace, and only this one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from aiostream_engine import EngineContext
from aiostream_engine.config import QueueLimits, SchedulerConfig
from aiostream_engine.sinks.base import PlainSink, Records, WriteKey
from aiostream_engine.testing import ManualClock
from tests.stage import Stage

pytestmark = pytest.mark.faults


class SlowSink(PlainSink):
    """Each write takes ten intervals."""

    def __init__(self, clock: ManualClock) -> None:
        self.name = "slow"
        self.clock = clock
        self.writing = self.most_at_once = 0
        self.records: list[int] = []

    async def write(self, key: WriteKey, records: Records) -> None:
        self.writing += 1
        self.most_at_once = max(self.most_at_once, self.writing)
        rows = [record async for chunk in records for record in chunk]
        if rows:
            await self.clock.sleep_until(self.clock.monotonic() + 10)
        self.records += rows
        self.writing -= 1


async def test_a_slow_sink_sets_the_pace_within_bounds_and_another_stream_keeps_its_own() -> None:
    """F3, D4, I9: ticks coalesce, no more batches are cut than may be in flight, none is lost."""
    async with EngineContext("local", parallelism=2) as engine:
        slow, quick = (
            Stage([[n] for n in range(6)], engine=engine),
            Stage([[n] for n in range(60)], engine=engine),
        )
        sink = SlowSink(slow.clock)
        slow.stream.to(sink)
        quick.look(quick.stream)
        async with slow.started(), quick.started():
            for _ in range(60):
                await slow.clock.advance(1.0)
                await asyncio.sleep(0)
                waiting = slow.ssc.statistics()
                in_flight = waiting.batches_submitted - waiting.batches_completed
                assert in_flight <= SchedulerConfig().batches_in_flight_max
                await quick.batch()
            await slow.until(lambda: len(sink.records) >= 5)
            assert [record for batch in quick.records for record in batch] == list(range(60))
        assert slow.ssc.statistics().ticks_coalesced > 40
    assert sink.records == list(range(len(sink.records)))


async def test_a_receiver_of_a_stream_that_is_held_up_by_its_sink_is_held_up_at_its_bounds() -> None:
    """F3, E5: the bound is of the queue, not of the time."""
    limits = QueueLimits(records_max=50, block_bytes=200)
    stage = Stage([], queue=limits)
    sink = SlowSink(stage.clock)
    taken = 0

    async def endless() -> AsyncIterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken
            await asyncio.sleep(0)

    stage.look(stage.stream)
    stage.ssc.receiver_stream(endless).to(sink)
    async with stage.started():
        await stage.clock.advance(1.0)
        for _ in range(2000):
            await asyncio.sleep(0)
        held = taken
        for _ in range(2000):
            await asyncio.sleep(0)
        assert taken == held
        fills = [info.queue_records for info in stage.ssc.statistics().receivers]
        assert max(fills) <= limits.records_max + 1
