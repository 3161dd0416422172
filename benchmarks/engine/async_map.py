"""Each record awaits a service that takes five milliseconds."""

from __future__ import annotations

import asyncio
from typing import Any

from common.event_loop import run_on
from common.program import package_version, parameters, report, stopwatch
from waiting import until

import aiostream_engine as ase

given = parameters()


async def ask(number: int) -> int:
    await asyncio.sleep(given["wait_s"])
    return number + 1


async def main() -> None:
    answers: list[int] = []
    done = asyncio.Event()

    async def keep(rdd: Any) -> None:
        answers.extend(await rdd.collect())
        if len(answers) >= given["records"] + given["warm_up"]:
            done.set()
        elif len(answers) == given["warm_up"]:
            warm.set()

    warm = asyncio.Event()
    ssc = ase.StreamingContext(interval=0.05, master=given["master"])
    numbers = ssc.queue_stream(queue := [ssc.engine.range(given["warm_up"], partitions=2)])
    numbers.map_async(ask, concurrency=given["concurrency"], ordered=given["ordered"]).foreach_rdd(keep)
    async with ssc:
        await ssc.start()
        await until(warm, ssc)
        started = stopwatch()
        queue.append(ssc.engine.range(given["records"], partitions=2))
        await until(done, ssc)
        seconds = stopwatch() - started
    got = answers[given["warm_up"] :]
    right = got == list(range(1, given["records"] + 1)) if given["ordered"] else True
    report(
        answer=sum(got) if right else "wrong order",
        version=package_version("aiostream-engine"),
        metrics={"seconds": seconds, "times_ideal": seconds / given["ideal_s"]},
    )


run_on(given["loop"], main())
