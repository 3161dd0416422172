"""A scratch file that cannot be written says so, names where, and is not believed any more."""

from __future__ import annotations

import builtins
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine.errors import StorageError
from aiostream_engine.state.scratch import Row, ScratchFile


@contextmanager
def file_bytes_max(size: int) -> Iterator[None]:
    """No file of this process may become larger: the kernel refuses it as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def rows(first: int, count: int) -> list[Row]:
    return [Row(place, place, b"key", b"x" * 4000) for place in range(first, first + count)]


def test_rows_are_read_in_the_order_of_their_places(tmp_path: Path) -> None:
    file = ScratchFile(str(tmp_path), "x")
    table = file.new_table()
    file.write(table, [Row(2, 7, b"b", b"2"), Row(1, 7, b"a", b"1"), Row(3, 8, b"c", b"3")])
    file.write(table, [Row(2, 7, b"b", b"two")])
    assert list(file.items(table)) == [(b"a", b"1"), (b"b", b"two"), (b"c", b"3")]
    assert file.find(table, 7) == [(1, b"a"), (2, b"b")]
    file.remove(table, [1, 3])
    assert file.find_with_value(table, 7) == [(2, b"b", b"two")]
    assert list(file.keys(table)) == [b"b"]


def test_a_full_disk_is_a_named_error_from_then_on(tmp_path: Path) -> None:
    """C16 for the scratch file."""
    file = ScratchFile(str(tmp_path), "counts")
    table = file.new_table()
    with file_bytes_max(1_000_000), pytest.raises(StorageError, match=r"'counts'.*free space or set spill"):
        for number in range(100):
            file.write(table, rows(100 * number, 100))
    assert str(tmp_path) in str(file.broken)
    assert file.size == 0
    with pytest.raises(StorageError, match="'counts'"):
        file.find(table, 1)


def test_a_directory_that_is_gone_is_a_named_error(tmp_path: Path) -> None:
    file = ScratchFile(str(tmp_path / "gone"), "counts")
    with pytest.raises(StorageError, match=r"'counts'.*gone"):
        file.new_table()


def test_a_python_without_sqlite_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "sqlite3":
            raise ModuleNotFoundError("No module named '_sqlite3'")
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(StorageError, match=r"sqlite3.*backend='memory'"):
        ScratchFile(str(tmp_path), "x").new_table()


_FORK = """
import os, sys
from aiostream_engine.state.scratch import Row, ScratchFile
file = ScratchFile(sys.argv[1], "x")
table = file.new_table()
rows = [Row(place, place, b"key", b"x" * 4000) for place in range(2000)]
file.write(table, rows[:1000])
child = os.fork()
if child == 0:
    file.close()
    sys.exit(0)  # with all exit handlers, as a process of multiprocessing ends
assert os.waitpid(child, 0)[1] == 0
file.write(table, rows[1000:])
assert sum(1 for _ in file.items(table)) == 2000
"""


def test_a_fork_that_ends_does_its_parents_file_no_harm(tmp_path: Path) -> None:
    """A13: a step may use multiprocessing."""
    command = [sys.executable, "-W", "error", "-c", _FORK, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
