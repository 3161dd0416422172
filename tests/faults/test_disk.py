"""The disk of the checkpoint directory fails, fills up, or loses its power: nothing is lost or doubled."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiostream_engine.errors import AiostreamError, StorageError
from aiostream_engine.testing import FaultFiles
from tests.faults.world import Outputs, World, expected_outputs, script

BATCHES = 5
pytestmark = pytest.mark.faults


@pytest.fixture
async def expected(tmp_path: Path) -> Outputs:
    return await expected_outputs(str(tmp_path / "expected"), script(BATCHES))


async def operations_of_a_run(tmp_path: Path) -> list[str]:
    """The file operations when nothing fails, from the making of the directory to its end."""
    world = World(str(tmp_path / "counted"), script(BATCHES))
    files = FaultFiles(world.directory)
    assert await world.run(files) is None
    return files.operations


async def finish(world: World, expected: Outputs) -> None:
    """The next driver, on a disk that is well, brings everything to its end."""
    error = await world.run()
    assert error is None, error
    assert world.outputs() == expected
    assert all(batch > BATCHES for _, batch, _ in world.outside.staged), "what was staged is published"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fails", [1, 10**6], ids=["once", "for good"])
async def test_whichever_operation_fails_the_stream_stops_and_the_next_driver_goes_on(
    tmp_path: Path, expected: Outputs, fails: int
) -> None:
    """C4, C3, C10, C16, B11: each operation in turn, once or from then on; half of the writes are torn."""
    operations = await operations_of_a_run(tmp_path)
    stopped = 0
    for number in range(1, len(operations) + 1):
        world = World(str(tmp_path / f"cp{number}"), script(BATCHES))
        files = FaultFiles(world.directory, fail_at=number, fails=fails, tear=number % 2 == 0)
        error = await world.run(files)
        if operations[number - 1] not in ("truncate", "close"):  # of a segment that is whole
            assert isinstance(error, AiostreamError), (number, operations[number - 1])
            assert "injected" in str(error), (number, error)
            stopped += 1
        committed = world.outputs()
        assert all(committed[key] == expected[key] for key in committed if key[0] in ("staged", "counts"))
        await finish(world, expected)
    assert stopped > 40


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(2))
async def test_after_a_loss_of_power_at_any_operation_the_next_driver_goes_on(
    tmp_path: Path, expected: Outputs, seed: int
) -> None:
    """B10: of what was not synced the disk has any part, in any order."""
    operations = await operations_of_a_run(tmp_path)
    for number in range(1, len(operations) + 1):
        world = World(str(tmp_path / f"cp{number}"), script(BATCHES))
        files = FaultFiles(world.directory, cut_at=number)
        files.on_power_off = lambda world=world: setattr(world.outside, "is_off", True)
        await world.run(files)
        assert files.is_off
        files.power_cut(seed * 1000 + number)
        world.outside.is_off = False
        await finish(world, expected)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_second_loss_of_power_during_recovery_changes_nothing(
    tmp_path: Path, expected: Outputs
) -> None:
    """B4, B10: what a recovery read is synced before it is believed."""
    first_cut = len(await operations_of_a_run(tmp_path)) * 2 // 3
    for number in range(1, 30):
        world = World(str(tmp_path / f"cp{number}"), script(BATCHES))
        for cut_at in (first_cut, number):
            files = FaultFiles(world.directory, cut_at=cut_at)
            files.on_power_off = lambda world=world: setattr(world.outside, "is_off", True)
            await world.run(files)
            files.power_cut(number)
            world.outside.is_off = False
        await finish(world, expected)


async def test_a_process_that_dies_before_its_sync_and_a_later_loss_of_power(
    tmp_path: Path, expected: Outputs
) -> None:
    """B10: the kernel still has what the first driver wrote; the second believes it, so it must sync it."""
    syncs = (await operations_of_a_run(tmp_path)).count("sync")
    for number in range(3, syncs):
        world = World(str(tmp_path / f"cp{number}"), script(BATCHES))
        files = FaultFiles(world.directory, only={"sync"}, cut_at=number)
        files.on_power_off = lambda world=world: setattr(world.outside, "is_off", True)
        await world.run(files)  # no loss of power: just the process is gone
        world.outside.is_off = False
        second = FaultFiles(world.directory, only={"sync"}, cut_at=4)
        for node in second._nodes.values():
            node.synced = None
        for path, node in files._nodes.items():
            if path in second._nodes:
                second._nodes[path].synced = node.synced
        second.on_power_off = lambda world=world: setattr(world.outside, "is_off", True)
        await world.run(second)
        second.power_cut(number)
        world.outside.is_off = False
        await finish(world, expected)


# -- a full disk -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_disk_that_is_full_for_a_moment_holds_the_stream_up_and_no_more(
    tmp_path: Path, expected: Outputs
) -> None:
    """C1, C2: whichever write finds no room; the stream goes on by itself when there is room again."""
    operations = await operations_of_a_run(tmp_path)
    first = operations.index("write", operations.index("unlink") + 1 if "unlink" in operations else 12)
    waited = 0
    for number in range(first, len(operations)):
        if operations[number] != "write":
            continue
        world = World(str(tmp_path / f"cp{number}"), script(BATCHES))
        files = FaultFiles(
            world.directory, fail_at=number + 1, fails=1, error=errno.ENOSPC, tear=number % 2 == 0
        )
        error = await world.run(files)
        assert error is None, (number, error)
        assert world.outputs() == expected
        waited += 1
    assert waited > 10


async def test_a_disk_that_stays_full_stops_the_stream_in_bounded_time(
    tmp_path: Path, expected: Outputs
) -> None:
    """C2: with a cause, and nothing lost."""
    world = World(str(tmp_path / "cp"), script(BATCHES), config={"disk_full_wait_s": 0.3})
    files = FaultFiles(world.directory)
    assert await world.run(files, upto=2) is None
    files.fail(errno.ENOSPC, fails=10**6, only={"write", "create"})
    error = await world.run(files)
    assert isinstance(error, StorageError)
    assert "No space left" in str(error)
    await finish(world, expected)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system can be mounted by root only")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path) -> None:
    """Take all room."""
    with open(path, "wb", buffering=0) as ballast, pytest.raises(OSError, match="No space left"):
        while True:
            ballast.write(bytes(1024))


async def test_a_real_disk_that_is_full(small_disk: Path, expected: Outputs) -> None:
    """C1, C2: somebody fills it, and makes room again later."""
    world = World(str(small_disk / "cp"), script(BATCHES), config={"disk_full_wait_s": 0.3})
    assert await world.run(upto=2) is None
    fill(small_disk / "ballast")
    error = await world.run()
    assert isinstance(error, AiostreamError)
    assert "No space left" in str(error)
    os.unlink(small_disk / "ballast")
    await finish(world, expected)
