"""A keyed running count of a steady trickle, a batch as soon as there is data: the age of each result."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from common.feeder import event_feeder
from common.program import digest_counts, package_version, parameters, report
from common.statistics import latency_metrics
from waiting import until

import aiostream_engine as ase
from aiostream_engine.config import SchedulerConfig

given = parameters()


def parse(line: str) -> tuple[str, int]:
    key, stamp = line.split()
    return key, int(stamp)


def running_count(key: str, stamp: int | None, state: Any) -> tuple[str, int, int | None]:
    count = (state.get() if state.exists() else 0) + 1
    state.update(count)
    return key, count, stamp


async def main() -> None:
    counts: dict[str, int] = {}
    ages_s: list[float] = []
    done = asyncio.Event()

    async def keep(rdd: Any) -> None:
        for key, count, stamp in await rdd.collect():
            counts[key] = count
            ages_s.append((time.monotonic_ns() - stamp) / 1e9)
        if len(ages_s) >= given["events"]:
            done.set()

    with event_feeder(given["rate"], given["events"]) as port:
        ssc = ase.StreamingContext(
            interval=0.01, master=given["master"], scheduler=SchedulerConfig(trigger="data")
        )
        pairs = ssc.socket_text_stream("127.0.0.1", port).map(parse)
        pairs.map_with_state(running_count).foreach_rdd(keep)
        async with ssc:
            await ssc.start()
            await until(done, ssc)
    report(
        answer=digest_counts(counts),
        version=package_version("aiostream-engine"),
        metrics=latency_metrics(ages_s[given["rate"] :]),
    )


asyncio.run(main())
