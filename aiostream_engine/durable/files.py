"""The file operations that durability is made of, in one place that tests can replace.

The twin of :mod:`aiostream_engine.testing.fault_files` fails the n-th operation, loses what was not
synced and stops the process between two of them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence

from .crash import crash_point

__all__ = ["TEMPORARY_SUFFIX", "Files"]

TEMPORARY_SUFFIX = ".tmp"


class Files:
    """Operations on real files. Errors are OSError; nothing is retried here."""

    def create(self, path: str) -> int:
        """A new private file, open for writing; FileExistsError when the name is taken."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(path, flags, 0o600)

    def make_directory(self, path: str) -> None:
        """A new private directory; FileExistsError when the name is taken."""
        os.mkdir(path, 0o700)

    def write(self, fd: int, parts: Sequence[bytes | memoryview]) -> int:
        """Write all of ``parts``; gives the number of bytes."""
        total = sum(len(part) for part in parts)
        written = os.writev(fd, parts)
        if written < total:  # a full disk may take only a part before it says so
            rest = memoryview(b"".join(parts))[written:]
            while rest:
                rest = rest[os.write(fd, rest) :]
        return total

    def write_at(self, fd: int, offset: int, parts: Sequence[bytes | memoryview]) -> int:
        """Write all of ``parts`` from ``offset`` on; gives the number of bytes."""
        total = sum(len(part) for part in parts)
        written = os.pwritev(fd, parts, offset)
        if written < total:
            rest = memoryview(b"".join(parts))
            while written < total:
                written += os.pwrite(fd, rest[written:], offset + written)
        return total

    def fill(self, fd: int, offset: int, size: int) -> None:
        """Write ``size`` zeros from ``offset`` on."""
        zeros = memoryview(bytes(size))
        written = 0
        while written < size:
            written += os.pwrite(fd, zeros[written:], offset + written)

    def sync(self, fd: int) -> None:
        """Return when the file's bytes are on the disk; after an error ``fd`` must not be used again."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(fd)
        else:
            os.fsync(fd)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut an open file to ``size`` bytes; durable with the next :meth:`sync`."""
        os.ftruncate(fd, size)

    def sync_path(self, path: str) -> None:
        """Make a file that somebody else has written durable."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
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

    def replace(self, path: str, data: bytes) -> None:
        """Make ``data`` the content of ``path``, durably: after a crash it is the old one or the new one.

        A temporary file in the same directory is written, synced and renamed, and the directory is
        synced. A failure removes it where that still can be done; a crash leaves it, named
        ``.<name>.<random>.tmp``.
        """
        directory, name = os.path.split(path)
        temporary = os.path.join(directory, f".{name}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
        fd = self.create(temporary)
        try:
            try:
                self.write(fd, [data])
                self.sync(fd)
            finally:
                self.close(fd)
            self.rename(temporary, path)
        except OSError:
            try:
                self.unlink(temporary)
            except OSError:
                pass  # the first error says what is wrong
            raise
        crash_point("mid_replace")
        self.sync_directory(directory)
