"""Thousands of batches with shuffle and state: what grows that should not."""

from __future__ import annotations

import asyncio
import glob
import os
from collections import Counter
from typing import Any, NamedTuple

import psutil
from common.program import package_version, parameters, report, stopwatch
from waiting import until

import aiostream_engine as ase

given = parameters()
WORDS = 50


class Sample(NamedTuple):
    """What the driver and its workers hold at one moment."""

    driver_mb: float
    workers_mb: float
    descriptors: int
    tasks: int
    shared_files: int


OTHERS = set(glob.glob("/dev/shm/*"))  # what other programs hold there does not count


def shared_files() -> int:
    """Files in shared memory that came after our start."""
    ours = set(glob.glob("/dev/shm/*")) - OTHERS
    return sum(len(files) for entry in ours for _, _, files in os.walk(entry))


def sample() -> Sample:
    driver = psutil.Process()
    workers = driver.children(recursive=True)
    return Sample(
        driver.memory_info().rss / 1e6,
        sum(worker.memory_info().rss for worker in workers) / 1e6,
        sum(process.num_fds() for process in [driver, *workers]),
        len(asyncio.all_tasks()),
        shared_files(),
    )


def running_count(word: str, count: int | None, state: Any) -> tuple[str, int]:
    total = (state.get() if state.exists() else 0) + count
    state.update(total)
    return word, total


async def main() -> None:
    latest: Counter[str] = Counter()
    samples: list[Sample] = []
    seen = 0
    done = asyncio.Event()
    every = max(1, given["batches"] // 20)

    async def keep(rdd: Any) -> None:
        nonlocal seen
        for word, total in await rdd.collect():
            latest[word] = max(latest[word], total)
        seen += 1
        if seen % every == 0:
            samples.append(sample())
        if seen >= given["batches"]:
            done.set()

    ssc = ase.StreamingContext(interval=given["interval_s"], master=given["master"])
    lines = ssc.engine.parallelize([f"word-{number % WORDS}" for number in range(10 * WORDS)], 2)
    pairs = ssc.queue_stream([], default=lines).map(lambda word: (word, 1))
    counts = pairs.reduce_by_key(lambda a, b: a + b)
    counts.map_with_state(running_count).foreach_rdd(keep)
    async with ssc:
        started = stopwatch()
        await ssc.start()
        await until(done, ssc)
        seconds = stopwatch() - started
    report(
        answer=len(latest) == WORDS and set(latest.values()) == {10 * seen},
        version=package_version("aiostream-engine"),
        metrics={**growth(samples), "batches_per_s": seen / seconds},
        samples=[list(each) for each in samples],
    )


def growth(samples: list[Sample]) -> dict[str, float]:
    """Growth from the first fifth, when caches have filled, to the end."""
    early, late = samples[len(samples) // 5], samples[-1]
    return {
        "driver_growth_percent": 100 * (late.driver_mb / early.driver_mb - 1),
        "workers_growth_percent": 100 * (late.workers_mb / early.workers_mb - 1) if early.workers_mb else 0.0,
        "descriptors_growth": late.descriptors - early.descriptors,
        "tasks_growth": late.tasks - early.tasks,
        "files_growth": late.shared_files - early.shared_files,
        "driver_mb": late.driver_mb,
        "workers_mb": late.workers_mb,
    }


asyncio.run(main())
