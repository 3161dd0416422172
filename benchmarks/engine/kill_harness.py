"""A running count of words that is killed at random moments."""

from __future__ import annotations

import asyncio
import json
import operator
from pathlib import Path
from typing import Any

from common.kill_harness import Row, measure, rows_of
from common.program import package_version, parameters, report
from common.stream_process import tell

import aiostream_engine as ase
from aiostream_engine.sinks.two_phase_files import TwoPhaseFileSink, read_committed

given = parameters()
OUT = Path(given["disk"], "out")


def running_count(word: str, value: int | None, state: Any) -> tuple[str, int]:
    count = (state.get() if state.exists() else 0) + value
    state.update(count)
    return word, count


async def stream() -> None:
    ssc = ase.StreamingContext(given["interval_s"], given["master"], checkpoint=given["disk"] + "/checkpoint")
    lines = ssc.text_file_stream(given["scratch"] + "/in", name="lines")
    ones = lines.map(lambda line: (json.loads(line)["word"], 1))
    counts = ones.reduce_by_key(operator.add).map_with_state(running_count, name="counts")
    counts.to(TwoPhaseFileSink(OUT), name="out")
    async with ssc:
        await ssc.start()
        tell("ready")
        await ssc.await_termination()


class Committed:
    """What the sink shows: whole batches, each once."""

    def __init__(self) -> None:
        self._seen: set[Path] = set()

    def new_rows(self) -> list[Row]:
        new = [path for path in read_committed(OUT) if path not in self._seen] if OUT.exists() else []
        self._seen.update(new)
        return _rows(new)

    def all_rows(self) -> list[Row]:
        return _rows(read_committed(OUT))


def _rows(paths: list[Path]) -> list[Row]:
    lines = (line for path in paths for line in path.read_text().splitlines())
    return rows_of("\n".join(" ".join(map(str, json.loads(line))) for line in lines))


if given.get("role") == "stream":
    asyncio.run(stream())
else:
    metrics, answer = measure(given, Committed())
    report(answer=answer, version=package_version("aiostream-engine"), metrics=metrics)
