"""The driver is killed while it keeps a million keys of state on disk."""

from __future__ import annotations

import asyncio
from typing import Any

from common.driver_kill import TOUCHED, measure
from common.program import package_version, parameters, report
from common.stream_process import tell

import aiostream_engine as ase

given = parameters()
WANTED = frozenset(TOUCHED)


def running_count(key: str, value: int | None, state: Any) -> tuple[str, int]:
    count = (state.get() if state.exists() else 0) + value
    state.update(count)
    return key, count


def updated(values: list[int], count: int | None) -> int:
    return sum(values) + (count or 0)


class Counts:
    """Tells the counts of a batch when it is true."""

    def __init__(self, lines: Any) -> None:
        self._of_batch: dict[int, dict[str, int]] = {}
        lines.node.source.on_commit = self.committed

    async def take(self, rdd: Any, label: int) -> None:
        self._of_batch[label] = dict(await rdd.filter(lambda pair: pair[0] in WANTED).collect())

    async def committed(self, label: int) -> None:
        counts = self._of_batch.pop(label, {})
        if counts:
            tell("counts", counts)
        tell("settled")


async def stream() -> None:
    tell("imported")
    ssc = ase.StreamingContext(given["interval_s"], given["master"], checkpoint=given["disk"] + "/checkpoint")
    lines = ssc.text_file_stream(given["scratch"] + "/in", name="lines")
    counts = Counts(lines)
    pairs = lines.map(lambda line: (line, 1))
    if given["operator"] == "map_with_state":
        totals = pairs.map_with_state(running_count, name="totals")
    else:
        totals = pairs.update_state_by_key(updated, name="totals")
    totals.foreach_rdd(counts.take)
    async with ssc:
        await ssc.start()
        tell("ready")
        await ssc.await_termination()


if given.get("role") == "stream":
    asyncio.run(stream())
else:
    metrics, answer = measure(given)
    report(answer=answer, version=package_version("aiostream-engine"), metrics=metrics)
