"""A keyed count of a steady trickle at a short interval: delays, drift, latency of each event."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from typing import Any

from commit_times import CommitTimes
from common.feeder import event_feeder
from common.program import digest_counts, package_version, parameters, report
from common.statistics import latency_metrics, percentile
from listening import Delays
from waiting import until

import aiostream_engine as ase

given = parameters()


def parse(line: str) -> tuple[str, tuple[int, tuple[int, ...]]]:
    key, stamp = line.split()
    return key, (1, (int(stamp),))


class Arrivals:
    """Counts by key, and the age of every event when its count is in the driver."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.ages_s: list[float] = []
        self.done = asyncio.Event()

    async def add(self, rdd: Any) -> None:
        for key, (count, stamps) in await rdd.collect():
            self.counts[key] += count
            now = time.monotonic_ns()
            self.ages_s.extend((now - stamp) / 1e9 for stamp in stamps)
        if len(self.ages_s) >= given["events"]:
            self.done.set()


async def main() -> None:
    arrivals, delays = Arrivals(), Delays()
    with event_feeder(given["rate"], given["events"]) as port:
        checkpoint = given["disk"] + "/checkpoint" if given.get("checkpoint") else None
        ssc = ase.StreamingContext(given["interval_s"], given["master"], checkpoint=checkpoint)
        ssc.add_listener(delays)
        lines = ssc.socket_text_stream("127.0.0.1", port)
        commits = CommitTimes(lines)
        pairs = lines.map(parse)
        pairs.reduce_by_key(lambda a, b: (a[0] + b[0], a[1] + b[1])).foreach_rdd(arrivals.add)
        async with ssc:
            await ssc.start()
            await until(arrivals.done, ssc)
    report(
        answer=digest_counts(arrivals.counts),
        version=package_version("aiostream-engine"),
        metrics={
            **latency_metrics(arrivals.ages_s[given["rate"] :]),
            **_schedule(delays),
            "true_ms": percentile(commits.seconds[len(commits.seconds) // 10 :], 50) * 1e3,
        },
        batches=len(delays.scheduling_s),
    )


def _schedule(delays: Delays) -> dict[str, float]:
    """Scheduling delay, and drift: how much later than its label a batch is cut at the end than before."""
    lateness = delays.lateness_s[len(delays.lateness_s) // 10 :]
    tenth = max(1, len(lateness) // 10)
    drift_s = statistics.median(lateness[-tenth:]) - statistics.median(lateness[:tenth])
    return {
        "scheduling_p99_ms": percentile(delays.scheduling_s, 99) * 1e3,
        "drift_ms": abs(drift_s) * 1e3,
        "ticks_coalesced": delays.ticks_coalesced,
    }


asyncio.run(main())
