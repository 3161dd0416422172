from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiostream_engine.blocks.directory import BlockDirectory, BlockLedger
from aiostream_engine.errors import InternalError, StorageError
from aiostream_engine.types import BlockRef


def stored(tmp_path: Path, name: str = "block", size: int = 10) -> BlockRef:
    path = tmp_path / name
    path.write_bytes(b"x" * size)
    return BlockRef("lines", None, str(path), 0, size)


def test_a_file_lives_until_its_last_holder_lets_go(tmp_path: Path) -> None:
    ledger = BlockLedger()
    ref = stored(tmp_path)
    ledger.retain([ref])
    ledger.retain([ref])
    ledger.release([ref])
    assert os.path.exists(ref.path)
    assert ledger.holds(ref.path)
    ledger.release([ref])
    assert not os.path.exists(ref.path)
    assert not ledger.holds(ref.path)


def test_blocks_in_one_file_hold_it_together(tmp_path: Path) -> None:
    ledger = BlockLedger()
    whole = stored(tmp_path, size=10)
    first, second = whole._replace(length=4), whole._replace(offset=4, length=6)
    ledger.retain([first, second])
    ledger.release([first])
    assert os.path.exists(whole.path)
    ledger.release([second])
    assert not os.path.exists(whole.path)


def test_statistics_follow_what_is_held(tmp_path: Path) -> None:
    ledger = BlockLedger()
    first, second = stored(tmp_path, "a", 10), stored(tmp_path, "b", 5)
    ledger.retain([first, second])
    ledger.release([first])
    figures = ledger.statistics()
    assert (figures.files, figures.bytes_held, figures.bytes_peak) == (1, 5, 15)
    ledger.release([second])
    assert ledger.statistics().bytes_held == 0


def test_inline_blocks_user_files_and_ranges_are_not_held(tmp_path: Path) -> None:
    ledger = BlockLedger()
    user = stored(tmp_path)._replace(format="file-lines")
    refs = [user, BlockRef("pickle", b"data"), BlockRef("range", args=(0, 10, 1))]
    ledger.retain(refs)
    ledger.release(refs)
    assert os.path.exists(user.path)
    assert ledger.statistics().files == 0


def test_letting_go_more_often_than_holding_is_a_bug_that_shows(tmp_path: Path) -> None:
    ledger = BlockLedger()
    ref = stored(tmp_path)
    ledger.retain([ref])
    ledger.release([ref])
    with pytest.raises(InternalError, match="more often"):
        ledger.release([ref])


def test_letting_go_after_the_directory_is_closed_is_fine() -> None:
    directory = BlockDirectory()
    path, _ = directory.writer.write([b"data"])
    ref = BlockRef("lines", None, path, 0, 4)
    directory.ledger.retain([ref])
    directory.close()
    directory.ledger.release([ref])


def test_its_directories_are_private_and_gone_after_close(tmp_path: Path) -> None:
    """J14"""
    directory = BlockDirectory(str(tmp_path))
    for path in (directory.path, directory.spill_path):
        assert os.stat(path).st_mode & 0o777 == 0o700
    assert directory.spill_path.startswith(str(tmp_path))
    directory.close()
    directory.close()
    assert not os.path.exists(directory.path)
    assert not os.path.exists(directory.spill_path)


def test_a_spill_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        BlockDirectory(str(tmp_path / "nowhere"))


@pytest.mark.faults
def test_nothing_is_left_when_the_process_is_killed() -> None:
    """A16: however the engine's process goes, its shared memory goes with it."""
    program = (
        "import sys, time\n"
        "from aiostream_engine.blocks.directory import BlockDirectory\n"
        "directory = BlockDirectory()\n"
        "directory.writer.write([b'data'])\n"
        "print(directory.path, directory.spill_path, flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        paths = process.stdout.readline().split()
    assert all(os.path.isdir(path) for path in paths)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while any(os.path.exists(path) for path in paths):
        assert time.monotonic() < deadline, "the directories outlived their process"
        time.sleep(0.01)
