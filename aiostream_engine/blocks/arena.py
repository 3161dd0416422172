"""A byte buffer that grows in shared memory and is cut into blocks.

Receivers append what they got, whole records only, and cut when a batch or a size says so. The
first bytes stay in process memory; what outgrows the size that travels inside of a reference
goes to a file of its own. One file a block means that its memory is free the moment its last
reader lets go, and appending by ``write`` costs half of what filling a fresh mapping does (the
kernel zeroes and faults in every page of a mapping first).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from typing import Any

from ..errors import StorageError
from ..types import INLINE_BYTES_MAX, BlockRef
from .directory import BlockDirectory

__all__ = ["Arena"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Arena:
    """One open block after the other; belongs to one event loop.

    Parameters
    ----------
    directory: the engine's block directory; its disk side is used when shared memory is full.
    name: prefix of the file names, unique in the engine.
    inline_bytes_max: a block up to this size rides inside of its reference.
    """

    def __init__(
        self, directory: BlockDirectory, name: str, *, inline_bytes_max: int = INLINE_BYTES_MAX
    ) -> None:
        self._directory = directory
        self._name = name
        self._inline_bytes_max = inline_bytes_max
        self._numbers = itertools.count()
        self._small = bytearray()
        self._path = ""
        self._fd = -1
        self._file_bytes = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes written and not yet cut."""
        return len(self._small) + self._file_bytes

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data`` by a copy; all of it or, when it raises StorageError, nothing."""
        if self._fd < 0 and len(self._small) + len(data) <= self._inline_bytes_max:
            self._small += data
            return
        if self._fd < 0:
            self._open(self._directory.path)
        try:
            self._append(data)
        except OSError as error:
            self._retreat(error)
            self._append_on_disk(data)

    def cut(self, format: str, *, records: int = -1, args: tuple[Any, ...] = ()) -> BlockRef:
        """Make all pending bytes a block; the caller holds it in the ledger (retained once)."""
        if self._fd < 0:
            ref = BlockRef(format, bytes(self._small), "", 0, len(self._small), records, args)
            self._small.clear()
            return ref
        ref = BlockRef(format, None, self._path, 0, self._file_bytes, records, args)
        self._directory.ledger.retain([ref])
        self._close_file()
        return ref

    def discard(self) -> None:
        """Drop all pending bytes; the arena can be used again."""
        self._small.clear()
        if self._fd >= 0:
            path = self._path
            self._close_file()
            _unlink_quietly(path)

    def _open(self, directory: str) -> None:
        path = os.path.join(directory, f"a-{self._name}-{next(self._numbers):x}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_APPEND
        try:
            self._fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise StorageError(f"cannot open a receive buffer at {path}: {error}") from error
        self._path = path

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        if self._small:
            self._write_all(self._small)
            self._file_bytes += len(self._small)
            self._small.clear()
        self._write_all(data)
        self._file_bytes += len(data)

    def _write_all(self, data: bytes | bytearray | memoryview) -> None:
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                with view[done:] as rest:
                    done += os.write(self._fd, rest)

    def _retreat(self, error: OSError) -> None:
        """Cut off what a failed write left in the file, so that no part of it is read."""
        os.ftruncate(self._fd, self._file_bytes)
        if error.errno not in _NO_ROOM or not self._path.startswith(self._directory.path + os.sep):
            raise StorageError(f"cannot write a receive buffer at {self._path}: {error}") from error

    def _append_on_disk(self, data: bytes | bytearray | memoryview) -> None:
        """Go on in a file on disk, with what is pending moved along."""
        memory = (self._path, self._fd, self._file_bytes)
        pending = os.pread(self._fd, self._file_bytes, 0) + self._small
        try:
            self._open(self._directory.spill_path)
            self._write_all(pending)
            self._write_all(data)
        except (OSError, StorageError) as error:
            if self._fd != memory[1]:
                _unlink_quietly(self._path)
                os.close(self._fd)
            self._path, self._fd, self._file_bytes = memory
            raise StorageError(
                f"no room to receive {len(data)} bytes, neither in shared memory nor in "
                f"{self._directory.spill_path}: {error}; free space or set spill_directory"
            ) from error
        self._file_bytes = len(pending) + len(data)
        self._small.clear()
        os.close(memory[1])
        _unlink_quietly(memory[0])

    def _close_file(self) -> None:
        os.close(self._fd)
        self._path, self._fd, self._file_bytes = "", -1, 0


def _unlink_quietly(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # the directory may have been closed first
        os.unlink(path)
