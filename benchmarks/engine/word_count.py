"""Word count over files that appear in a watched directory, on the engine."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from common.feeding import WatchedDirectory, round_metrics, seconds_to_move
from common.program import digest_counts, package_version, parameters, report, stopwatch
from waiting import until

import aiostream_engine as ase

given = parameters()


class Totals:
    """Adds up batches until all words were seen."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.words = 0
        self.processing_s = 0.0
        self.changed = asyncio.Event()

    async def add(self, rdd: Any) -> None:
        started = stopwatch()
        for word, count in await rdd.collect():
            self.counts[word] += count
            self.words += count
        self.processing_s += stopwatch() - started
        self.changed.set()

    async def wait_for(self, words: int, ssc: ase.StreamingContext) -> None:
        while self.words < words:
            self.changed.clear()
            await until(self.changed, ssc)


def counts_of(lines: Any) -> Any:
    if given["built_in"]:
        return lines.flat_map(str.split).count_by_value()
    words = lines.flat_map(lambda line: line.split())
    return words.map(lambda word: (word, 1)).reduce_by_key(lambda a, b: a + b)


async def main() -> None:
    directory = WatchedDirectory(given["scratch"])
    totals = Totals()
    checkpoint = given["disk"] + "/checkpoint" if given.get("checkpoint") else None
    ssc = ase.StreamingContext(given["interval_s"], given["master"], checkpoint=checkpoint)
    counts_of(ssc.text_file_stream(directory.path)).foreach_rdd(totals.add)
    async with ssc:
        await ssc.start()
        directory.stage(given["files"][:1], "warm-up")()
        await totals.wait_for(given["words_of_first_file"], ssc)
        rounds = [await one_round(number, directory, totals, ssc) for number in range(given["rounds"])]
    report(
        answer=digest_counts(totals.counts),
        version=package_version("aiostream-engine"),
        metrics=round_metrics(given["words"], rounds),
    )


async def one_round(
    number: int, directory: WatchedDirectory, totals: Totals, ssc: ase.StreamingContext
) -> tuple[float, float]:
    """Seconds from moving all files in to the last count in the driver, and of processing in them."""
    totals.counts.clear()
    totals.words, totals.processing_s = 0, 0.0
    move_in = await asyncio.to_thread(directory.stage, given["files"], f"round-{number}")
    await asyncio.sleep(seconds_to_move(given["interval_s"]))
    started = stopwatch()
    move_in()
    await totals.wait_for(given["words"], ssc)
    return stopwatch() - started, totals.processing_s


asyncio.run(main())
