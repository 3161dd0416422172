"""One batch of a given size: records are made, shuffled as blocks, and counted."""

from __future__ import annotations

import asyncio

import psutil
from common.program import package_version, parameters, report, stopwatch

import aiostream_engine as ase

given = parameters()


async def main() -> None:
    records = given["records"]
    async with ase.EngineContext(given["master"]) as engine:

        async def job(count: int) -> int:
            texts = engine.range(count, partitions=given["partitions"]).map(lambda number: f"{number:032d}")
            return await texts.repartition(given["partitions"]).count()

        await job(10)
        rss_before = psutil.Process().memory_info().rss
        rounds = max(1, min(50, 200_000 // records))
        started = stopwatch()
        for _ in range(rounds):
            answer = await job(records)
        seconds = (stopwatch() - started) / rounds
        rss_after = psutil.Process().memory_info().rss
    report(
        answer=answer / records,
        version=package_version("aiostream-engine"),
        metrics={
            "us_per_record": seconds * 1e6 / records,
            "seconds": seconds,
            "driver_rss_mb": rss_after / 1e6,
            "driver_growth_mb": (rss_after - rss_before) / 1e6,
        },
    )


asyncio.run(main())
