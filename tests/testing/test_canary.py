"""The loop canary."""

import asyncio
import time

from aiostream_engine.testing import LeakCheck, LoopCanary


async def test_a_blocked_loop_shows_in_the_longest_delay():
    async with LoopCanary(interval_s=0.001) as canary:
        await asyncio.sleep(0.02)
        time.sleep(0.2)  # noqa: ASYNC251 - the fault to be seen
        await asyncio.sleep(0.02)
    report = canary.report()
    assert report.max_s >= 0.15
    assert report.samples >= 2
    assert 0 <= report.p50_s <= report.p99_s <= report.max_s


async def test_a_canary_without_samples_reports_zeros_and_leaves_nothing():
    async with LeakCheck(), LoopCanary(interval_s=60) as canary:
        pass
    assert canary.report() == (0, 0.0, 0.0, 0.0)
