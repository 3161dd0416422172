"""A sliding count with an inverse function: the cost of a slide once the window is full."""

from __future__ import annotations

import asyncio
from typing import Any

from common.program import digest_counts, package_version, parameters, report
from common.statistics import latency_metrics
from listening import Delays
from waiting import until

import aiostream_engine as ase

given = parameters()


async def main() -> None:
    slides_in_window = round(given["window_s"] / given["slide_s"])
    batches = slides_in_window + given["slides"]
    delays = Delays()
    counts: dict[str, int] = {}
    done = asyncio.Event()
    seen = 0

    async def keep(rdd: Any) -> None:
        nonlocal seen
        pairs = await rdd.collect()
        seen += 1
        if seen == batches:
            counts.update(pairs)
            done.set()

    ssc = ase.StreamingContext(interval=given["slide_s"], master=given["master"])
    ssc.add_listener(delays)
    records = [(f"key-{number % given['keys']}", 1) for number in range(given["records"])]
    pairs = ssc.queue_stream([ssc.engine.parallelize(records, 2)] * (batches + 1))
    pairs.reduce_by_key_and_window(
        lambda a, b: a + b, lambda a, b: a - b, given["window_s"], given["slide_s"]
    ).foreach_rdd(keep)
    async with ssc:
        await ssc.start()
        await until(done, ssc)
    report(
        answer=digest_counts({key: count // slides_in_window for key, count in counts.items()}),
        version=package_version("aiostream-engine"),
        metrics=latency_metrics(delays.processing_s[slides_in_window:batches]),
    )


asyncio.run(main())
