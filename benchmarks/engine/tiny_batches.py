"""Word counts of batches of ten lines: what a batch costs beyond its records."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from common.program import digest_counts, package_version, parameters, report
from common.statistics import latency_metrics
from listening import Delays
from waiting import until

import aiostream_engine as ase

given = parameters()


async def main() -> None:
    counts: Counter[str] = Counter()
    done = asyncio.Event()
    batches = given["warm_up"] + given["batches"]

    async def add(rdd: Any) -> None:
        counts.update(dict(await rdd.collect()))
        if counts["lazy"] >= 10 * batches:
            done.set()

    delays = Delays()
    ssc = ase.StreamingContext(interval=given["interval_s"], master=given["master"])
    ssc.add_listener(delays)
    lines = ssc.queue_stream([ssc.engine.parallelize(given["lines"], 2) for _ in range(batches)])
    words = lines.flat_map(lambda line: line.split()).map(lambda word: (word, 1))
    words.reduce_by_key(lambda a, b: a + b, 2).foreach_rdd(add)
    async with ssc:
        await ssc.start()
        await until(done, ssc)
    report(
        answer=digest_counts({word: count // batches for word, count in counts.items()}),
        version=package_version("aiostream-engine"),
        metrics=latency_metrics(delays.processing_s[given["warm_up"] : batches]),
    )


asyncio.run(main())
