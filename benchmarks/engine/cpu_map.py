"""A map that only burns processor time, as an RDD job."""

from __future__ import annotations

import asyncio

from common.program import package_version, parameters, report, stopwatch

import aiostream_engine as ase

given = parameters()


async def main() -> None:
    async with ase.EngineContext(given["master"]) as engine:
        heavy = lambda number: sum(range(20_000)) + number  # noqa: E731 (a user's lambda)
        await engine.range(8, partitions=4).map(heavy).sum()
        started = stopwatch()
        answer = await engine.range(given["records"], partitions=given["partitions"]).map(heavy).sum()
        seconds = stopwatch() - started
    report(
        answer=answer,
        version=package_version("aiostream-engine"),
        metrics={"records_per_s": given["records"] / seconds},
    )


asyncio.run(main())
