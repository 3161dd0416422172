"""Kill a worker with SIGKILL, again and again, while a stream with a keyed state runs."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from typing import Any

import psutil
from common.program import package_version, parameters, report, stopwatch
from common.statistics import latency_metrics
from waiting import until

import aiostream_engine as ase

given = parameters()
KEYS = 100


def running_count(key: int, value: int | None, state: Any) -> tuple[int, int]:
    count = (state.get() if state.exists() else 0) + value
    state.update(count)
    return key, count


class Batches:
    """Looks at each batch: all counts must be right, whatever was killed."""

    def __init__(self) -> None:
        self.number = 0
        self.wrong = 0
        self.killed_ms = 0.0
        self.killed_at = 0.0
        self.recovery_s: list[float] = []
        self.good = asyncio.Event()

    async def take(self, rdd: Any, label: int) -> None:
        counts = dict(await rdd.collect())
        self.number += 1
        records = self.number * given["records"]
        self.wrong += counts != dict.fromkeys(range(KEYS), records // KEYS)
        if self.killed_ms and label > self.killed_ms:  # it was cut after the kill: both workers took part
            self.recovery_s.append(stopwatch() - self.killed_at)
            self.killed_ms = 0.0
        if not self.killed_ms:
            self.good.set()

    async def kill(self, pid: int) -> None:
        self.good.clear()
        self.killed_ms, self.killed_at = time.time() * 1000, stopwatch()
        os.kill(pid, signal.SIGKILL)


def workers() -> list[int]:
    """The processes that run tasks: the other child is a shell that tidies up."""
    return [child.pid for child in psutil.Process().children() if "python" in child.name()]


async def main() -> None:
    batches, chance = Batches(), random.Random(given["seed"])
    ssc = ase.StreamingContext(interval=given["interval_s"], master=given["master"])
    pairs = ssc.queue_stream(default=range(given["records"])).map(lambda n: (n % KEYS, 1))
    sums = pairs.reduce_by_key(lambda a, b: a + b)
    sums.map_with_state(running_count).foreach_rdd(batches.take)
    async with ssc:
        await ssc.start()
        await until(batches.good, ssc)
        for _ in range(given["kills"]):
            await asyncio.sleep(chance.uniform(0.3, 0.6))
            await batches.kill(chance.choice(workers()))
            await until(batches.good, ssc)
    report(
        answer=batches.wrong,
        version=package_version("aiostream-engine"),
        metrics=latency_metrics(batches.recovery_s),
        batches=batches.number,
    )


asyncio.run(main())
