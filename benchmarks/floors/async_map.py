"""The same waits with a handful of plain asyncio workers: what asyncio itself needs."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterator

from common.event_loop import run_on
from common.program import parameters, report, stopwatch

given = parameters()


async def ask(number: int) -> int:
    await asyncio.sleep(given["wait_s"])
    return number + 1


async def work(numbers: Iterator[int], answers: list[int]) -> None:
    for number in numbers:
        answers[number] = await ask(number)


async def main() -> None:
    answers = [0] * given["records"]
    numbers = iter(range(given["records"]))
    started = stopwatch()
    await asyncio.gather(*(work(numbers, answers) for _ in range(given["concurrency"])))
    seconds = stopwatch() - started
    report(
        answer=sum(answers),
        version=platform.python_version(),
        metrics={"seconds": seconds, "times_ideal": seconds / given["ideal_s"]},
    )


run_on(given["loop"], main())
