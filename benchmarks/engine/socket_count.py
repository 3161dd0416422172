"""Counting the lines of a flooding socket, while a canary on the same loop watches the delay."""

from __future__ import annotations

import asyncio

from canary import canary
from common.feeder import FLOOD_LINE, flood_feeder
from common.program import package_version, parameters, report, stopwatch
from common.statistics import percentile
from waiting import until

import aiostream_engine as ase

given = parameters()


async def main() -> None:
    counted = 0
    done = asyncio.Event()

    async def add(rdd: object) -> None:
        nonlocal counted
        counted += await rdd.first() if not await rdd.is_empty() else 0
        if counted >= given["lines"]:
            done.set()

    with flood_feeder(given["lines"]) as port:
        ssc = ase.StreamingContext(
            interval=given["interval_s"],
            master=given["master"],
            backpressure=ase.BackpressureConfig(enabled=False),
        )
        ssc.socket_text_stream("127.0.0.1", port).count().foreach_rdd(add)
        async with ssc:
            started = stopwatch()
            await ssc.start()
            async with canary() as late_s:
                await until(done, ssc)
            seconds = stopwatch() - started
    report(
        answer=counted,
        version=package_version("aiostream-engine"),
        metrics={
            "mb_per_s": counted * len(FLOOD_LINE) / seconds / 1e6,
            "lines_per_s": counted / seconds,
            "canary_p99_ms": percentile(late_s, 99) * 1e3,
            "canary_max_ms": max(late_s) * 1e3,
        },
    )


asyncio.run(main())
