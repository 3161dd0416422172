"""Word counts of batches of ten lines: what a batch costs beyond its records."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from commit_times import CommitTimes
from common.program import digest_counts, package_version, parameters, report
from common.statistics import latency_metrics, percentile
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
    checkpoint = given["disk"] + "/checkpoint" if given.get("checkpoint") else None
    ssc = ase.StreamingContext(given["interval_s"], given["master"], checkpoint=checkpoint)
    ssc.add_listener(delays)
    if "checkpoint" in given:  # which holds no RDDs
        lines = ssc.queue_stream([given["lines"] for _ in range(batches)])
    else:
        lines = ssc.queue_stream([ssc.engine.parallelize(given["lines"], 2) for _ in range(batches)])
    commits = CommitTimes(lines)
    words = lines.flat_map(lambda line: line.split()).map(lambda word: (word, 1))
    words.reduce_by_key(lambda a, b: a + b, 2).foreach_rdd(add)
    async with ssc:
        await ssc.start()
        await until(done, ssc)
    report(
        answer=digest_counts({word: count // batches for word, count in counts.items()}),
        version=package_version("aiostream-engine"),
        metrics={
            **latency_metrics(delays.processing_s[given["warm_up"] : batches]),
            "true_ms": percentile(commits.seconds[given["warm_up"] : batches], 50) * 1e3,
        },
    )


asyncio.run(main())
