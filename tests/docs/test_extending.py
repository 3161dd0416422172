"""The complete source and sink that the pages show do what the pages say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import operator
import re
import sqlite3
from pathlib import Path
from typing import Any

from aiostream_engine import RetryPolicy, StreamingContext
from aiostream_engine.blocks.directory import BlockDirectory
from aiostream_engine.blocks.formats import read_chunks
from aiostream_engine.sinks.base import SinkContext, WriteKey
from aiostream_engine.sinks.retry import retrying
from aiostream_engine.sources.base import SourceContext
from aiostream_engine.testing import ManualClock
from aiostream_engine.types import BatchTime

DOCS = Path(__file__).parents[2] / "docs"
DEADLINE_S = 30


def names_of(page: str) -> dict[str, Any]:
    """What the Python blocks of a page define, run one after the other."""
    namespace: dict[str, Any] = {"__name__": "page"}
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S)
    ):
        exec(compile(block, f"{page}, block {number}", "exec"), namespace)
    return namespace


# -- the source ------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def started(source: Any):
    directory = BlockDirectory()
    try:
        await source.start(SourceContext(0, directory, clock=ManualClock()))
        yield source
        await source.stop()
        await source.aclose()
    finally:
        directory.close()


async def cut_lines(source: Any) -> list[str]:
    content = await source.cut(BatchTime(1))
    return [line for ref in content.blocks for chunk in read_chunks(ref) for line in chunk]


async def test_the_growing_file_hands_over_whole_lines_and_each_once(tmp_path: Path):
    path = tmp_path / "log"
    async with started(names_of("writing-a-source.md")["GrowingFile"](str(path))) as source:
        assert not source.pending
        path.write_text("one\ntwo\nthr")
        assert source.pending
        assert await cut_lines(source) == ["one", "two"]
        assert await cut_lines(source) == []
        with path.open("a") as file:
            file.write("ee\n")
        assert await cut_lines(source) == ["three"]


async def test_the_growing_file_begins_again_at_its_position(tmp_path: Path):
    path = tmp_path / "log"
    path.write_text("one\ntwo\n")
    growing_file = names_of("writing-a-source.md")["GrowingFile"]
    async with started(growing_file(str(path))) as source:
        position = (await source.cut(BatchTime(1))).position
    with path.open("a") as file:
        file.write("three\n")
    again = growing_file(str(path))
    again.restore(json.loads(json.dumps(position)))
    async with started(again) as source:
        assert await cut_lines(source) == ["three"]


async def test_the_growing_file_runs_in_a_stream_and_drains(tmp_path: Path):
    path = tmp_path / "log"
    path.write_text("ERROR one\nINFO two\nERROR three\nhalf a line")
    async with StreamingContext(0.1, "local[1]") as ssc:
        lines = ssc.from_source(names_of("writing-a-source.md")["GrowingFile"](str(path)))
        seen: list[str] = []

        async def take(rdd: Any) -> None:
            seen.extend(await rdd.collect())

        lines.filter(lambda line: "ERROR" in line).foreach_rdd(take)
        await ssc.start()
        async with asyncio.timeout(DEADLINE_S):
            assert await ssc.stop()
    assert seen == ["ERROR one", "ERROR three"]


# -- the sink --------------------------------------------------------------------------------


def totals(path: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("select word, count from totals"))


async def once(rows: list[tuple[str, int]]):
    yield rows


async def test_the_sqlite_sink_counts_a_repeated_write_once(tmp_path: Path):
    sink = names_of("writing-a-sink.md")["SqliteTotals"](str(tmp_path / "db"))
    await sink.open(SinkContext("totals"))
    try:
        for time in (500, 1000, 1000):
            key = WriteKey("totals", time // 500, BatchTime(time), 0, 1)
            await sink.write(key, once([("a", 1), ("b", 2)]))
    finally:
        await sink.aclose()
    assert totals(tmp_path / "db") == {"a": 2, "b": 4}


async def test_the_sqlite_sink_takes_a_failed_write_back_as_a_whole(tmp_path: Path):
    sink = names_of("writing-a-sink.md")["SqliteTotals"](str(tmp_path / "db"))
    await sink.open(SinkContext("totals"))
    try:
        with contextlib.suppress(sqlite3.Error):
            await sink.write(WriteKey("totals", 1, BatchTime(500), 0, 1), once([("a", 1), ("b", None)]))
    finally:
        await sink.aclose()
    assert totals(tmp_path / "db") == {}


async def test_the_sqlite_sink_runs_in_a_stream(tmp_path: Path):
    sink = names_of("writing-a-sink.md")["SqliteTotals"](str(tmp_path / "db"))
    async with StreamingContext(0.05, "local[1]") as ssc:
        words = ssc.queue_stream([["a", "b", "a"], ["b", "c"]], finish_when_empty=True)
        counts = words.map(lambda word: (word, 1)).reduce_by_key(operator.add, 2)
        counts.to(retrying(sink, RetryPolicy(attempts_max=2), timeout_s=10))
        async with asyncio.timeout(DEADLINE_S):
            await ssc.run()
    assert totals(tmp_path / "db") == {"a": 2, "b": 2, "c": 1}
