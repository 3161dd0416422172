"""Counting the lines of a flooding socket with ``StreamReader.readline``, as most programs read text."""

from __future__ import annotations

import asyncio
import platform

from common.feeder import FLOOD_LINE, flood_feeder
from common.program import parameters, report, stopwatch

given = parameters()


async def main() -> None:
    counted = 0
    with flood_feeder(given["lines"]) as port:
        started = stopwatch()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while counted < given["lines"]:
            await reader.readline()
            counted += 1
        seconds = stopwatch() - started
        writer.close()
    report(
        answer=counted,
        version=platform.python_version(),
        metrics={"mb_per_s": counted * len(FLOOD_LINE) / seconds / 1e6, "lines_per_s": counted / seconds},
    )


asyncio.run(main())
