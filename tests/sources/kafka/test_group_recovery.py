"""A member of a group with a checkpoint directory, killed at random: at least once."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import aiostream_engine
from aiostream_engine.sinks.two_phase_files import read_committed
from aiostream_engine.testing import crash_environment
from aiostream_engine.testing.kafka_broker import LocalKafka
from tests.kafka_broker import MakeTopic

from .streams import Load

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(180)]

APP = Path(__file__).with_name("group_crash_app.py")
DEADLINE_S = 60.0
UniqueName = Callable[[str], str]
Line = tuple[int, int, int, int]


def written(base: Path) -> list[Line]:
    """(life, partition, offset, number) as it stands in the files, in their order."""
    paths = read_committed(base / "out")
    return [tuple(json.loads(line)) for path in paths for line in path.read_text().splitlines()]


def batches(base: Path) -> int:
    return len(read_committed(base / "out"))


async def live(
    arguments: list[str], until_seen: Callable[[], bool], at: dict[str, str] | None = None
) -> None:
    """Run a member until a condition holds, or a crash point, and kill it."""
    root = Path(aiostream_engine.__file__).parent.parent
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(APP),
        *arguments,
        env={**os.environ, "PYTHONPATH": str(root), **(at or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output = asyncio.ensure_future(process.communicate())
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not (output.done() or until_seen()):
                await asyncio.sleep(0.1)  # looking reads files
    finally:
        if not output.done():
            process.kill()
        text, _ = await output
    assert process.returncode == -signal.SIGKILL, text.decode()


def check(lines: list[Line], total: int) -> int:
    """Nothing lost; each life went on at or before where the others had ended. Gives what came twice."""
    assert {number for *_, number in lines} == set(range(total))
    for partition in {partition for _, partition, _, _ in lines}:
        end = 0
        for offset in (offset for _, one, offset, _ in lines if one == partition):
            assert offset <= end  # no gap, also not for a while
            end = max(end, offset + 1)
    return len(lines) - total


@pytest.mark.parametrize(
    ("seat", "lives"),
    [("-", 2), ("seat", 2), pytest.param("seat", 15, marks=[pytest.mark.soak, pytest.mark.timeout(900)])],
)
async def test_a_member_that_is_killed_at_any_moment_loses_nothing(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName, tmp_path: Path, seat: str, lives: int
) -> None:
    """E14, B1 … B4: with a directory and without a seat of its own, and with one."""
    topic, group = await make_topic(kafka, partitions=3), unique_name("group")
    arguments = [kafka.bootstrap, topic, group, str(tmp_path), seat]
    chance = random.Random(3)
    async with Load(kafka.bootstrap, topic, 3).running() as load:
        for _ in range(lives):
            enough = batches(tmp_path) + chance.randint(1, 25)
            await live(arguments, lambda enough=enough: batches(tmp_path) >= enough)  # type: ignore[misc]
        await load.end()
        await live(arguments, lambda: len({number for *_, number in written(tmp_path)}) == load.sent)
    check(written(tmp_path), load.sent)


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_a_member_that_is_killed_at_a_crash_point_loses_nothing(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName, tmp_path: Path, point: str
) -> None:
    """E14, B1 … B4"""
    topic, group = await make_topic(kafka, partitions=2), unique_name("group")
    arguments = [kafka.bootstrap, topic, group, str(tmp_path), "seat"]
    async with Load(kafka.bootstrap, topic, 2).running() as load:
        await live(arguments, lambda: False, at=crash_environment(point, hit=4))
        await load.end()
        await live(arguments, lambda: len({number for *_, number in written(tmp_path)}) == load.sent)
    check(written(tmp_path), load.sent)
