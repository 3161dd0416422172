"""An append-only byte buffer in shared memory that a protocol reads straight into.

The receive path makes no record objects and copies nothing: the socket's bytes land in the
segment, and a block is cut by naming a range of it.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

from ..errors import StorageError
from ..types import BlockRef
from .directory import BlockDirectory

__all__ = ["Arena"]


class _Segment:
    """One mapped file; ``marker`` is the arena's own hold on it in the ledger."""

    def __init__(self, directory: BlockDirectory, path: str, size: int) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Reserve now: writing to a mapping without room behind it would kill the process.
            os.posix_fallocate(fd, 0, size)
            self.map = mmap.mmap(fd, size)
        except OSError as error:
            os.unlink(path)
            raise StorageError(f"no room for a receive buffer of {size} bytes at {path}: {error}") from error
        finally:
            os.close(fd)
        self.path = path
        self.size = size
        self.view = memoryview(self.map)
        self.marker = BlockRef("arena", path=path)
        directory.ledger.retain([self.marker])


class Arena:
    """Segments of shared memory, filled from front to back.

    Parameters
    ----------
    directory: the engine's block directory.
    segment_bytes: size of one segment; no block is larger.
    name: prefix of the file names, unique in the engine.
    """

    def __init__(self, directory: BlockDirectory, name: str, segment_bytes: int = 16 * 1024 * 1024) -> None:
        self._directory = directory
        self._name = name
        self._segment_bytes = segment_bytes
        self._number = 0
        self._segment: _Segment | None = None
        self._begin = 0  # of the bytes not yet cut
        self._end = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes written and not yet cut."""
        return self._end - self._begin

    @property
    def pending(self) -> memoryview:
        """The bytes written and not yet cut."""
        if self._segment is None:
            return memoryview(b"")
        return self._segment.view[self._begin : self._end]

    def writable(self, size_min: int = 1) -> memoryview:
        """Room for at least ``size_min`` bytes; what is pending moves along to a new segment if needed."""
        if self._segment is None or self._segment.size - self._end < size_min:
            self._next_segment(size_min)
        assert self._segment is not None
        return self._segment.view[self._end :]

    def advance(self, size: int) -> None:
        """Say that ``size`` bytes were written to the front of :meth:`writable`."""
        self._end += size

    def write(self, data: bytes) -> None:
        """Append ``data`` by a copy."""
        self.writable(len(data))[: len(data)] = data
        self._end += len(data)

    def cut(self, size: int, format: str, *, records: int = -1, args: tuple[Any, ...] = ()) -> BlockRef:
        """Make the first ``size`` pending bytes a block; the caller holds it in the ledger (retained once)."""
        assert self._segment is not None
        ref = BlockRef(format, None, self._segment.path, self._begin, size, records, args)
        self._begin += size
        self._directory.ledger.retain([ref])
        return ref

    def discard(self, size: int) -> None:
        """Drop the first ``size`` pending bytes."""
        self._begin += size

    def discard_tail(self) -> None:
        """Drop all pending bytes, such as half a line of a connection that broke."""
        self._end = self._begin

    def _next_segment(self, size_min: int) -> None:
        old, tail = self._segment, bytes(self.pending)
        size = max(self._segment_bytes, len(tail) + size_min)
        self._number += 1
        path = os.path.join(self._directory.path, f"a-{self._name}-{self._number:x}")
        self._segment = _Segment(self._directory, path, size)
        self._segment.view[: len(tail)] = tail
        self._begin, self._end = 0, len(tail)
        if old is not None:
            self._release(old)

    def _release(self, segment: _Segment) -> None:
        # No explicit close: a transport may still hold a view; the mapping goes with the last one.
        self._directory.ledger.release([segment.marker])

    def close(self) -> None:
        """Let go of the current segment; blocks already cut stay with their holders."""
        if self._segment is not None:
            self._release(self._segment)
            self._segment = None
            self._begin = self._end = 0
