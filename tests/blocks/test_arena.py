from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine.blocks.arena import Arena
from aiostream_engine.blocks.directory import BlockDirectory
from aiostream_engine.blocks.storage import read_bytes
from aiostream_engine.errors import StorageError


def files_in(directory: BlockDirectory) -> list[str]:
    return os.listdir(directory.path) + os.listdir(directory.spill_path)


def test_a_small_block_rides_in_its_reference(directory: BlockDirectory) -> None:
    arena = Arena(directory, "t", inline_bytes_max=10)
    arena.write(b"abc")
    arena.write(b"def")
    ref = arena.cut("lines", records=2, args=("utf-8", "strict"))
    assert (ref.data, ref.size, ref.records, ref.args) == (b"abcdef", 6, 2, ("utf-8", "strict"))
    assert files_in(directory) == []
    assert arena.pending_bytes == 0


def test_a_large_block_is_a_file_of_its_own_that_goes_with_its_last_holder(directory: BlockDirectory) -> None:
    arena = Arena(directory, "t", inline_bytes_max=10)
    arena.write(b"abc")
    arena.write(memoryview(b"defghijklmn"))
    arena.write(bytearray(b"op"))
    assert arena.pending_bytes == 16
    first = arena.cut("lines")
    arena.write(b"x" * 20)
    second = arena.cut("lines")
    assert bytes(read_bytes(first)) == b"abcdefghijklmnop"
    assert bytes(read_bytes(second)) == b"x" * 20
    assert first.path != second.path
    directory.ledger.release([first])
    assert files_in(directory) == [os.path.basename(second.path)]
    directory.ledger.release([second])
    assert files_in(directory) == []


def test_discarding_leaves_nothing_and_the_arena_usable(directory: BlockDirectory) -> None:
    arena = Arena(directory, "t", inline_bytes_max=10)
    arena.write(b"x" * 100)
    arena.discard()
    assert (files_in(directory), arena.pending_bytes) == ([], 0)
    arena.write(b"y")
    arena.discard()
    arena.write(b"z")
    assert arena.cut("lines").data == b"z"


def test_block_files_are_private(directory: BlockDirectory) -> None:
    """J14"""
    arena = Arena(directory, "t", inline_bytes_max=0)
    arena.write(b"secret")
    ref = arena.cut("lines")
    assert os.stat(ref.path).st_mode & 0o777 == 0o600
    directory.ledger.release([ref])


class _Full:
    """A shared memory that has room for so many bytes, and takes a part of the write that is too much."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, memory: str, room: int, error: int) -> None:
        self._write = os.write
        self._memory, self.room, self._error = memory, room, error
        monkeypatch.setattr(os, "write", self)

    def __call__(self, fd: int, data: Any) -> int:
        if not os.readlink(f"/proc/self/fd/{fd}").startswith(self._memory):
            return self._write(fd, data)
        if self.room == 0:
            raise OSError(self._error, os.strerror(self._error))
        done = self._write(fd, bytes(data)[: self.room])
        self.room -= done
        return done


def test_a_block_moves_to_disk_when_shared_memory_is_full(
    directory: BlockDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C: no space"""
    arena = Arena(directory, "t", inline_bytes_max=10)
    _Full(monkeypatch, directory.path, room=130, error=errno.ENOSPC)
    for number in range(10):
        arena.write(bytes([number]) * 50)
    ref = arena.cut("lines")
    assert ref.path.startswith(directory.spill_path)
    assert bytes(read_bytes(ref)) == b"".join(bytes([number]) * 50 for number in range(10))
    assert os.listdir(directory.path) == []
    directory.ledger.release([ref])


def test_a_write_for_which_there_is_no_room_anywhere_leaves_the_block_as_it_was(
    directory: BlockDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """C: no space"""
    arena = Arena(directory, "t", inline_bytes_max=10)
    full = _Full(monkeypatch, "/", room=120, error=errno.ENOSPC)
    arena.write(b"a" * 50)
    arena.write(b"b" * 50)
    with pytest.raises(StorageError, match="spill_directory"):
        arena.write(b"c" * 50)
    assert arena.pending_bytes == 100
    full.room = 1000
    arena.write(b"d" * 50)
    ref = arena.cut("lines")
    assert bytes(read_bytes(ref)) == b"a" * 50 + b"b" * 50 + b"d" * 50
    directory.ledger.release([ref])


def test_what_was_small_is_kept_when_the_first_file_has_no_room(
    directory: BlockDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena = Arena(directory, "t", inline_bytes_max=10)
    full = _Full(monkeypatch, "/", room=5, error=errno.ENOSPC)
    arena.write(b"small")
    with pytest.raises(StorageError):
        arena.write(b"c" * 50)
    assert arena.pending_bytes == 5
    full.room = 1000
    arena.write(b"d" * 50)
    ref = arena.cut("lines")
    assert bytes(read_bytes(ref)) == b"small" + b"d" * 50
    directory.ledger.release([ref])


def test_another_error_is_not_taken_for_a_lack_of_room(
    directory: BlockDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena = Arena(directory, "t", inline_bytes_max=0)
    _Full(monkeypatch, directory.path, room=0, error=errno.EIO)
    with pytest.raises(StorageError, match="cannot write"):
        arena.write(b"x")
    arena.discard()
    assert files_in(directory) == []


def test_a_lack_of_descriptors_is_an_error_after_which_it_goes_on(
    directory: BlockDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G7"""
    arena = Arena(directory, "t", inline_bytes_max=2)
    arena.write(b"ab")
    open_ = os.open

    def refuse(*_: Any, **__: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match="Too many open files"):
        arena.write(b"cd")
    monkeypatch.setattr(os, "open", open_)
    arena.write(b"ef")
    ref = arena.cut("lines")
    assert bytes(read_bytes(ref)) == b"abef"
    directory.ledger.release([ref])
