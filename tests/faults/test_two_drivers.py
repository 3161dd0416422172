"""Two drivers on one checkpoint directory: one of them does nothing."""

from __future__ import annotations

import asyncio
import copy
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from aiostream_engine.durable.checkpoint_directory import FencedError
from aiostream_engine.durable.files import Files
from tests.faults.verdict import Feeder, Verdict
from tests.faults.world import World, expected_outputs, script

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]


def wait_for(condition: object, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def test_a_second_driver_is_refused_and_the_first_is_unharmed(tmp_path: Path) -> None:
    """B7: real processes; the second one touches no output either."""
    feeder = Feeder(tmp_path)
    feeder.feed(60)
    with feeder.start("local") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "started\n"
        wait_for(lambda: list((tmp_path / "out" / "keyed").glob("part-*")))
        os.kill(first.pid, signal.SIGSTOP)
        before = sorted(str(path) for path in (tmp_path / "out").rglob("*"))
        with feeder.start("local") as second:
            output, _ = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f'"pid": {first.pid}' in output
        assert sorted(str(path) for path in (tmp_path / "out").rglob("*")) == before
        os.kill(first.pid, signal.SIGCONT)
        output, _ = first.communicate(timeout=60)
    assert first.returncode == 0, output
    verdict = feeder.verdict()
    assert verdict == Verdict()


def test_a_driver_that_was_paused_and_replaced_stops_when_it_wakes(tmp_path: Path) -> None:
    """B8, B9: its lock is gone with the file, as on a network file system that lost it."""
    feeder = Feeder(tmp_path)
    feeder.feed(60)
    with feeder.start("local") as old:
        assert old.stdout is not None
        assert old.stdout.readline() == "started\n"
        wait_for(lambda: len(list((tmp_path / "out" / "keyed").glob("part-*"))) > 3)
        os.kill(old.pid, signal.SIGSTOP)
        for lock in (tmp_path / "cp" / "LOCK", *(tmp_path / "out").glob("*/.staged/LOCK")):
            lock.unlink()
        with feeder.start("local") as new:
            output, _ = new.communicate(timeout=60)
        assert new.returncode == 0, output
        after = {path: path.read_bytes() for path in (tmp_path / "cp" / "journal").iterdir()}
        os.kill(old.pid, signal.SIGCONT)
        output, _ = old.communicate(timeout=60)
    assert old.returncode == 1
    assert "taken over by a newer driver (epoch 2, this is 1)" in output
    now = {path: path.read_bytes() for path in (tmp_path / "cp" / "journal").iterdir()}
    assert now == after, "it wrote nothing when it woke"
    verdict = feeder.verdict()
    verdict.leftovers = []
    verdict.letters_repeated = 0  # both drivers had read some letters
    assert verdict == Verdict()


class Pausing(Files):
    """Stops before a sync of the journal until it is told to go on, as a suspended machine does."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.paused = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.resume = asyncio.Event()

    def sync(self, fd: int) -> None:
        self.left -= 1
        if self.left == 0:
            asyncio.run_coroutine_threadsafe(self._pause(), self.loop).result()
        super().sync(fd)

    async def _pause(self) -> None:
        self.paused.set()
        await self.resume.wait()


@pytest.mark.parametrize("at", [9, 10, 11, 12, 13, 14])
async def test_a_driver_that_wakes_within_a_write_does_not_believe_it(tmp_path: Path, at: int) -> None:
    """B9: between the check of the epoch and the sync; what it wrote there does not count either."""
    expected = await expected_outputs(str(tmp_path / "expected"), script(6))
    old = World(str(tmp_path / "cp"), script(6))
    files = Pausing(at)
    running = asyncio.create_task(old.run(files))
    await asyncio.wait_for(files.paused.wait(), 20)
    os.unlink(tmp_path / "cp" / "LOCK")
    new = World(old.directory, old.items, outside=old.outside, time_s=old.time_s)
    assert await new.run() is None
    assert new.outputs() == expected
    published = dict(new.outside.published)
    files.resume.set()
    assert isinstance(await running, FencedError)
    assert new.outside.published == published
    third = World(old.directory, old.items, outside=old.outside, time_s=new.time_s)
    assert await third.run() is None
    assert third.outputs() == expected


async def test_a_copy_of_a_directory_in_use_is_a_stream_of_its_own(tmp_path: Path) -> None:
    """B8: it can be taken at any time, and goes on from its last commit without the other."""
    world = World(str(tmp_path / "cp"), script(6))
    assert await world.run(upto=3) is None
    shutil.copytree(tmp_path / "cp", tmp_path / "copy")
    expected = await expected_outputs(str(tmp_path / "expected"), script(6))
    for directory in (tmp_path / "cp", tmp_path / "copy"):
        branch = World(str(directory), script(6), outside=copy.deepcopy(world.outside), time_s=world.time_s)
        assert await branch.run() is None
        assert branch.outputs() == expected
