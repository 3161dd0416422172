"""A large keyed state of which each batch touches a little."""

from __future__ import annotations

import asyncio
from typing import Any

from common.program import package_version, parameters, report
from common.statistics import latency_metrics
from listening import Delays
from waiting import until

import aiostream_engine as ase

given = parameters()


def running_count(key: int, value: int | None, state: Any) -> int:
    count = (state.get() if state.exists() else 0) + value
    state.update(count)
    return count


def updated(values: list[int], count: int | None) -> int:
    return sum(values) + (count or 0)


class Outputs:
    """Takes each batch's output: only a count of it, but the sum of all in the last batch."""

    def __init__(self) -> None:
        self.batches = 0
        self.increments = 0
        self.sum = 0
        self.done = asyncio.Event()

    async def take_mapped(self, rdd: Any) -> None:
        if self.batches == 0:
            await rdd.count()
        else:  # the outputs are the new counts, of keys that were counted once before
            self.increments += await rdd.sum() - await rdd.count()
        self.sum = given["keys"] + self.increments
        self.advance()

    async def take_updated(self, rdd: Any) -> None:
        await rdd.count()
        if self.batches == given["batches"]:
            self.sum = await rdd.values().sum()
        self.advance()

    def advance(self) -> None:
        self.batches += 1
        if self.batches > given["batches"]:
            self.done.set()


def batches(engine: Any) -> list[Any]:
    keys, touched = given["keys"], given["touched"]
    step = keys // touched
    everything = engine.range(keys, partitions=2).map(lambda key: (key, 1))
    some = [
        engine.parallelize([(key, 1) for key in range(number, keys, step)][:touched], 2)
        for number in range(given["batches"])
    ]
    return [everything, *some]


async def main() -> None:
    outputs, delays = Outputs(), Delays()
    cache = given.get("cache_bytes")
    state = ase.StateConfig("disk", cache) if cache else None
    ssc = ase.StreamingContext(interval=given["interval_s"], master=given["master"], state=state)
    ssc.add_listener(delays)
    pairs = ssc.queue_stream(batches(ssc.engine))
    if given["operator"] == "map_with_state":
        pairs.map_with_state(running_count).foreach_rdd(outputs.take_mapped)
    else:
        pairs.update_state_by_key(updated).foreach_rdd(outputs.take_updated)
    async with ssc:
        await ssc.start()
        await until(outputs.done, ssc)
    report(
        answer=outputs.sum,
        version=package_version("aiostream-engine"),
        metrics={
            **latency_metrics(delays.processing_s[1 : given["batches"]]),
            "load_s": delays.processing_s[0],
        },
    )


asyncio.run(main())
