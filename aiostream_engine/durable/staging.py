"""A directory whose files appear whole and under their final names, when somebody says so.

    <directory>/                files that count
    <directory>/.staged/        files that do not yet, and the lock of their one writer
    <directory>/_batches/       one small record for each group of files that counts as a whole

All is done relative to descriptors that are held open, and links are not followed: what is planted
at a path later cannot lead the writer elsewhere (scenario J6). Blocking: for use in a thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

from ..errors import StorageError
from .crash import crash_point
from .lock import DirectoryLock

__all__ = ["RECORDS", "STAGED", "StagingDirectory"]

STAGED = ".staged"
RECORDS = "_batches"
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class StagingDirectory:
    """Opens a directory for one writer, and makes it if need be.

    durable: sync what is written, so that it survives a loss of power and not only of the process.
    Raises OSError when it cannot be used, DirectoryInUseError when another writer has it.
    """

    def __init__(self, path: str, *, durable: bool = True) -> None:
        self.path = path
        self._durable = durable
        self._fds: list[int] = []
        self._lock: DirectoryLock | None = None
        try:
            os.makedirs(path, exist_ok=True)
            self._top = self._opened(os.open(path, _FLAGS))
            self._staged = self._below(STAGED)
            self._records = self._below(RECORDS)
            self._sync(self._top)
            self._lock = DirectoryLock(os.path.join(path, STAGED), what="output directory")
        except BaseException:
            self.close()
            raise

    def _opened(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def _below(self, name: str) -> int:
        try:
            os.mkdir(name, dir_fd=self._top)
        except FileExistsError:
            pass
        return self._opened(os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=self._top))

    def close(self) -> None:
        """Let go of the directory; may be called again."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        while self._fds:
            os.close(self._fds.pop())

    def _sync(self, fd: int) -> None:
        if self._durable:
            os.fsync(fd)

    # -- staging -------------------------------------------------------------------------------

    def stage(self, name: str) -> BinaryIO:
        """A new staged file, in place of an older one of the same name."""
        self._remove(self._staged, name)
        return open(self._create(name), "wb")

    def _create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o666, dir_fd=self._staged)

    def finish(self, file: BinaryIO) -> None:
        """Close a staged file; it is there for good, under its staged name, when this returns."""
        with file:
            file.flush()
            self._sync(file.fileno())
        self._sync(self._staged)
        crash_point("after_stage")

    def discard(self, names: Iterable[str]) -> None:
        """Remove staged files; those that are gone are none."""
        for name in names:
            self._remove(self._staged, name)

    def discard_where(self, unwanted: Callable[[str], bool]) -> int:
        """Remove the staged files whose names are ``unwanted``; gives how many."""
        names = [name for name in os.listdir(self._staged) if unwanted(name)]
        self.discard(names)
        return len(names)

    def _remove(self, fd: int, name: str) -> None:
        try:
            os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            return

    # -- publishing ----------------------------------------------------------------------------

    def publish(self, names: Sequence[str]) -> None:
        """Move staged files to the directory, under the same names; may be repeated.

        Raises StorageError for one that is neither staged nor published: its content is lost.
        """
        for name in names:
            self._move(name)
            crash_point("mid_publish_files")
        if names:
            self._sync(self._top)

    def _move(self, name: str) -> None:
        try:
            os.rename(name, name, src_dir_fd=self._staged, dst_dir_fd=self._top)
        except FileNotFoundError:
            if not self._is_file(self._top, name):
                raise StorageError(
                    f"{name} of a committed batch is neither in {self.path} nor staged there: "
                    "somebody removed it before it was published"
                ) from None

    def _is_file(self, fd: int, name: str) -> bool:
        try:
            return stat.S_ISREG(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def has_record(self, name: str) -> bool:
        """True when :meth:`record` was done for ``name``."""
        return self._is_file(self._records, name)

    def record(self, name: str, content: bytes) -> None:
        """Write a record whole: readers see all of it or nothing."""
        self._remove(self._staged, name)
        with open(self._create(name), "wb") as file:
            file.write(content)
            file.flush()
            self._sync(file.fileno())
        os.rename(name, name, src_dir_fd=self._staged, dst_dir_fd=self._records)
        self._sync(self._records)
