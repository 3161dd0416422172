"""Lines that hold a word, counted, from files that appear in a watched directory."""

from __future__ import annotations

import asyncio
from typing import Any

from common.feeding import WatchedDirectory, round_metrics, seconds_to_move
from common.program import package_version, parameters, report, stopwatch
from waiting import until

import aiostream_engine as ase

given = parameters()


class Totals:
    """Adds up lines and matches until all lines were seen."""

    def __init__(self) -> None:
        self.matches = 0
        self.processing_s = 0.0
        self.changed = asyncio.Event()

    async def add(self, rdd: Any) -> None:
        started = stopwatch()
        matches = await rdd.count()
        if matches:
            self.matches += matches
            self.processing_s += stopwatch() - started
            self.changed.set()

    async def wait_for(self, matches: int, ssc: ase.StreamingContext) -> None:
        while self.matches < matches:
            self.changed.clear()
            await until(self.changed, ssc)


async def main() -> None:
    directory = WatchedDirectory(given["scratch"])
    totals = Totals()
    ssc = ase.StreamingContext(interval=given["interval_s"], master=given["master"])
    lines = ssc.text_file_stream(directory.path)
    lines.filter(lambda line: "ERROR" in line).foreach_rdd(totals.add)
    async with ssc:
        await ssc.start()
        directory.stage(given["files"], "warm-up")()
        await totals.wait_for(given["matches"], ssc)
        rounds = [await one_round(number, directory, totals, ssc) for number in range(given["rounds"])]
    report(
        answer=totals.matches,
        version=package_version("aiostream-engine"),
        metrics=round_metrics(given["lines"], rounds, unit="records"),
    )


async def one_round(
    number: int, directory: WatchedDirectory, totals: Totals, ssc: ase.StreamingContext
) -> tuple[float, float]:
    """Seconds from moving all files in to the last count in the driver, and of processing in them."""
    totals.matches, totals.processing_s = 0, 0.0
    move_in = await asyncio.to_thread(directory.stage, given["files"], f"round-{number}")
    await asyncio.sleep(seconds_to_move(given["interval_s"]))
    started = stopwatch()
    move_in()
    await totals.wait_for(given["matches"], ssc)
    return stopwatch() - started, totals.processing_s


asyncio.run(main())
