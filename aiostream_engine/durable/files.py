"""The file operations that durability is made of, in one place that tests can replace.

The twin of :mod:`aiostream_engine.testing` fails the n-th operation, loses what was not synced
and kills the process between two of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

__all__ = ["Files"]


class Files:
    """Operations on real files. Errors are OSError; nothing is retried here."""

    def create(self, path: str) -> int:
        """A new private file, open for writing; FileExistsError when the name is taken."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def open_append(self, path: str) -> int:
        """An existing file, open for writing at its end."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)

    def write(self, fd: int, parts: Sequence[bytes | memoryview]) -> int:
        """Write all of ``parts``; gives the number of bytes."""
        total = sum(len(part) for part in parts)
        written = os.writev(fd, parts)
        if written < total:  # a full disk may take only a part before it says so
            rest = memoryview(b"".join(parts))[written:]
            while rest:
                rest = rest[os.write(fd, rest) :]
        return total

    def sync(self, fd: int) -> None:
        """Return when the file's bytes are on the disk; after an error ``fd`` must not be used again."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(fd)
        else:
            os.fsync(fd)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def truncate(self, path: str, size: int) -> None:
        """Cut a file to ``size`` bytes and make that durable."""
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, in place of what had it."""
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
