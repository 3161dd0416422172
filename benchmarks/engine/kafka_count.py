"""A Kafka topic counted by the engine, from a backlog: records a second, delay of the loop, memory."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import psutil
from common.program import package_version, parameters, report, stopwatch

import aiostream_engine as ase
from aiostream_engine.testing import LoopCanary

given = parameters()
PACE = ase.BackpressureConfig(enabled=False)  # all that the queue holds may come in the first batch


class Peak:
    """The most memory that this process holds, looked at by a thread."""

    def __init__(self) -> None:
        self.mb = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        process = psutil.Process()
        while not self._end.wait(0.02):
            self.mb = max(self.mb, process.memory_info().rss / 1e6)

    def close(self) -> float:
        self._end.set()
        self._thread.join()
        return self.mb


async def one_pass(engine: ase.EngineContext) -> dict[str, float]:
    """One stream over all of the topic."""
    counted, queue_bytes = 0, 0
    ssc = ase.StreamingContext(given["interval_s"], engine=engine, backpressure=PACE)

    async def count(rdd: Any) -> None:
        nonlocal counted, queue_bytes
        if given["how"] == "headers":
            counted += await rdd.count()
        else:
            counted += await rdd.map(len).sum() // given["bytes"]
        queue_bytes = max(queue_bytes, ssc.statistics().receivers[0].queue_bytes)

    ssc.kafka_stream(
        given["bootstrap"],
        given["topic"],
        stop="latest",
        projection="value",
        lane=given.get("lane", "auto"),
    ).foreach_rdd(count)
    async with ssc, LoopCanary() as canary:
        started = stopwatch()
        await ssc.start()
        await ssc.await_termination()
        seconds = stopwatch() - started
    assert counted == given["records"], counted
    return {
        "records_per_s": counted / seconds,
        "canary_p99_ms": canary.report().p99_s * 1000,
        "queue_mb": queue_bytes / 1e6,
    }


async def main() -> None:
    peaks: list[float] = []
    passes: list[dict[str, float]] = []
    async with ase.EngineContext(given["master"]) as engine:
        for _ in range(given.get("passes", 1)):
            peak = Peak()
            passes.append(await one_pass(engine))
            peaks.append(peak.close())
    middle = sorted(passes, key=lambda one: one["records_per_s"])[len(passes) // 2]
    metrics = {**middle, "rss_mb": max(peaks)}
    if len(peaks) > 2:  # caches fill in the first two
        metrics["rss_growth_percent"] = 100 * (max(peaks[2:]) / max(peaks[:2]) - 1)
    report(
        answer=given["records"],
        version=package_version("aiostream-engine"),
        metrics=metrics,
        rss_mb_by_pass=peaks,
    )


asyncio.run(main())
