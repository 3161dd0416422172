"""A stream of Kafka survives its driver and its broker: each record once in what it writes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import aiostream_engine
from aiostream_engine.sinks.two_phase_files import read_committed
from aiostream_engine.testing import crash_environment
from tests.sources.kafka.streams import read, send, streaming, until

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(180)]

APP = Path(__file__).with_name("crash_app.py")
RECORDS = 600


class Lives:
    """One stream after the other over the same topic and directory."""

    def __init__(self, bootstrap: str, topic: str, base: Path, lane: str) -> None:
        self.base = base
        self._command = [sys.executable, str(APP), bootstrap, topic, str(base), lane]

    async def live(self, *, at: dict[str, str] | None = None, for_s: float | None = None) -> int:
        """Run until the end, a crash point, or SIGKILL after a while; gives the exit code."""
        root = Path(aiostream_engine.__file__).parent.parent
        environment = {**os.environ, "PYTHONPATH": str(root), **(at or {})}
        process = await asyncio.create_subprocess_exec(
            *self._command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output = asyncio.ensure_future(process.communicate())
        done, _ = await asyncio.wait({output}, timeout=60 if for_s is None else for_s)
        if not done:
            process.kill()
        text, _ = await output
        assert process.returncode in (0, -signal.SIGKILL), text.decode()
        return process.returncode

    def numbers(self) -> list[tuple[int, int, int]]:
        """(key, number, how many of its key came before) as written."""
        paths = read_committed(self.base / "out")
        return [tuple(json.loads(line)) for path in paths for line in path.read_text().splitlines()]


def check(written: list[tuple[int, int, int]], total: int) -> None:
    """Each number once, and the counts of the state as if nothing had happened."""
    assert sorted(number for _, number, _ in written) == list(range(total))
    for key in range(5):
        mine = [(number, count) for one, number, count in written if one == key]
        assert sorted(count for _, count in mine) == list(range(1, len(mine) + 1))


POINTS = ["after_intent", "before_commit", "after_commit", "mid_publish", "after_publish", "mid_recovery"]


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_a_crash_point_each_record_counts_once(kafka, make_topic, tmp_path, point):
    """E16, B1 … B4: ranges that were begun are fetched again, the same."""
    topic = await make_topic(kafka, partitions=3)
    for partition in range(3):
        mine = range(partition, RECORDS, 3)
        await send(kafka.bootstrap, topic, [b"%d" % number for number in mine], partition=partition)
    lives = Lives(kafka.bootstrap, topic, tmp_path, "raw")
    if point == "mid_recovery":
        assert await lives.live(at=crash_environment("after_intent", hit=3)) == -signal.SIGKILL
    hit = 1 if point == "mid_recovery" else 3
    assert await lives.live(at=crash_environment(point, hit=hit)) == -signal.SIGKILL
    await send(kafka.bootstrap, topic, [b"%d" % number for number in range(RECORDS, RECORDS + 50)])
    assert await lives.live() == 0
    check(lives.numbers(), RECORDS + 50)


async def test_killed_at_any_moment_each_record_counts_once(kafka, make_topic, tmp_path, lane):
    topic = await make_topic(kafka, partitions=3)
    lives = Lives(kafka.bootstrap, topic, tmp_path, lane)
    moments = random.Random(7)
    total = 0
    for _ in range(4):
        more = range(total, total + 300)
        total += 300
        for partition in range(3):
            mine = [b"%d" % number for number in more if number % 3 == partition]
            await send(kafka.bootstrap, topic, mine, partition=partition)
        await lives.live(for_s=moments.uniform(0.6, 1.4))
    assert await lives.live() == 0
    check(lives.numbers(), total)


async def test_the_journal_holds_ranges_and_not_the_bytes(kafka, make_topic, tmp_path):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"a value that is easy to find again"] * 50)
    await read(kafka.bootstrap, topic, name="numbers", context={"checkpoint": str(tmp_path / "cp")})
    written = b"".join(path.read_bytes() for path in (tmp_path / "cp").rglob("*") if path.is_file())
    assert b'"recipe":[["%s",0,0,50]]' % topic.encode() in written
    assert b"easy to find" not in written


async def test_a_stream_goes_on_where_it_ended(kafka, make_topic, tmp_path, lane):
    """KAF-11"""
    topic = await make_topic(kafka, partitions=2)
    options = {"name": "n", "projection": "value", "context": {"checkpoint": str(tmp_path / "cp")}}
    await send(kafka.bootstrap, topic, [b"first"])
    assert (await read(kafka.bootstrap, topic, lane=lane, **options)).records == [b"first"]
    await send(kafka.bootstrap, topic, [b"second"], partition=1)
    assert (await read(kafka.bootstrap, topic, lane=lane, **options)).records == [b"second"]
    assert (await read(kafka.bootstrap, topic, lane=lane, **options)).records == []


async def test_a_start_at_the_latest_that_gave_nothing_yet_is_remembered(kafka, make_topic, tmp_path):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"before"])
    options = {
        "name": "n",
        "projection": "value",
        "start": "latest",
        "context": {"checkpoint": str(tmp_path / "cp")},
    }
    assert (await read(kafka.bootstrap, topic, **options)).records == []
    await send(kafka.bootstrap, topic, [b"while it was away"])
    assert (await read(kafka.bootstrap, topic, **options)).records == [b"while it was away"]


async def test_a_broker_that_is_killed_and_comes_back_loses_and_doubles_nothing(own_kafka, make_topic, lane):
    """E16"""
    topic = await make_topic(own_kafka, partitions=2)
    async with streaming(own_kafka.bootstrap, topic, projection="value", lane=lane) as seen:
        await send(own_kafka.bootstrap, topic, [b"%d" % number for number in range(100)])
        await seen.count(100)
        own_kafka.kill()
        if lane == "raw":
            await until(lambda: "is down" in " ".join(seen.ssc.health().reasons))
        await own_kafka.restarted()
        await send(own_kafka.bootstrap, topic, [b"%d" % number for number in range(100, 200)], partition=1)
        await seen.count(200)
        assert seen.ssc.health().reasons == ()
    assert sorted(map(int, seen.records)) == list(range(200))


async def test_a_broker_that_stands_still_for_a_while_is_waited_for(own_kafka, make_topic):
    topic = await make_topic(own_kafka)
    async with streaming(own_kafka.bootstrap, topic, projection="value", request_timeout_ms=2000) as seen:
        await send(own_kafka.bootstrap, topic, [b"before"])
        await seen.count(1)
        own_kafka.freeze()
        try:
            await asyncio.sleep(3)
            assert seen.ssc.health().live
        finally:
            own_kafka.thaw()
        await send(own_kafka.bootstrap, topic, [b"after"])
        await seen.count(2)
    assert seen.records == [b"before", b"after"]


async def test_a_window_right_over_the_topic_outlives_the_driver(kafka, make_topic, tmp_path, lane):
    """What a window still needs is kept with the checkpoint: Kafka may have removed it by then."""
    topic = await make_topic(kafka, partitions=2)
    options = {
        "name": "n",
        "projection": "value",
        "value": "str",
        "build": lambda stream: stream.window(60, 0.05, name="last minute"),
        "context": {"checkpoint": str(tmp_path / "cp")},
        "lane": lane,
    }
    await send(kafka.bootstrap, topic, [b"first"])
    await send(kafka.bootstrap, topic, [b"first"], partition=1)
    assert (await read(kafka.bootstrap, topic, **options)).batches[-1] == ["first"] * 2
    await send(kafka.bootstrap, topic, [b"second"])
    again = await read(kafka.bootstrap, topic, **options)
    assert sorted(again.batches[-1]) == ["first", "first", "second"]
