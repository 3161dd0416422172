"""A checkpoint directory: who may use it, which format it has, and whose turn it is.

META        format version
LOCK        held by the driver that works here, with its host and process
EPOCH       number of the driver whose turn it is; each one that comes counts it up
journal/    the records
"""

from __future__ import annotations

import json
import os
import stat

from ..errors import ConfigurationError, CorruptionError, EnvironmentFault, StorageError
from .files import TEMPORARY_SUFFIX, Files
from .lock import DirectoryLock

__all__ = ["CheckpointDirectory", "FencedError"]

FORMAT_VERSION = 1
_OWN_NAMES = frozenset({"META", "LOCK", "EPOCH", "journal"})


class FencedError(EnvironmentFault):
    """A newer driver has taken over the checkpoint directory: this one must not write any more."""


class CheckpointDirectory:
    """Opens, checks and locks a directory; each opening gets a higher epoch. Blocking.

    Raises ConfigurationError for a path that cannot be one (a link, another user's, open to others,
    with foreign files), DirectoryInUseError when another process works on it, CorruptionError for one
    of an unknown format or with missing parts, and StorageError when it cannot be written. Nothing is
    changed before the lock is held, but for making a directory that is missing.
    """

    def __init__(self, path: str, files: Files | None = None) -> None:
        self.path = os.path.abspath(path)
        self.journal_path = os.path.join(self.path, "journal")
        self._epoch_path = os.path.join(self.path, "EPOCH")
        self._epoch_mark: tuple[int, ...] = ()
        self._files = files or Files()
        self._prepare()
        try:
            self._lock = DirectoryLock(self.path)
        except OSError as error:
            raise StorageError(f"the checkpoint directory {self.path} cannot be locked: {error}") from error
        try:
            self._check_format()
            self.epoch = self._read_epoch() + 1
            self._write("EPOCH", {"epoch": self.epoch})
            self._sweep()
        except OSError as error:
            self._lock.close()
            raise StorageError(f"the checkpoint directory {self.path} cannot be written: {error}") from error
        except BaseException:
            self._lock.close()
            raise

    # -- may it be used ------------------------------------------------------------------------

    def _prepare(self) -> None:
        if os.path.islink(self.path):
            raise ConfigurationError(
                f"the checkpoint directory {self.path} is a symbolic link: give the real path"
            )
        try:
            self._make(self.path)
            info = os.stat(self.path)
            names = set(os.listdir(self.path)) if stat.S_ISDIR(info.st_mode) else set()
        except OSError as error:
            raise ConfigurationError(
                f"the checkpoint directory {self.path} cannot be made or read: {error}"
            ) from error
        if not stat.S_ISDIR(info.st_mode):
            raise ConfigurationError(f"the checkpoint directory {self.path} is no directory")
        if info.st_uid != os.geteuid():
            raise ConfigurationError(f"the checkpoint directory {self.path} belongs to another user")
        if stat.S_IMODE(info.st_mode) & 0o077:
            raise ConfigurationError(f"the checkpoint directory {self.path} is open to others: chmod 700 it")
        if "META" not in names and any(not _is_own(name) for name in names):
            raise ConfigurationError(
                f"{self.path} is not empty and no checkpoint directory: use another; nothing was touched"
            )
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise ConfigurationError(f"the checkpoint directory {self.path} is read-only")

    def _make(self, path: str) -> None:
        """Make the directory and what is missing above it, durably."""
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path)
        self._make(parent)
        try:
            self._files.make_directory(path)
        except FileExistsError:
            return  # a file of that name is told of by the caller
        self._files.sync_directory(parent)

    # -- format --------------------------------------------------------------------------------

    def _check_format(self) -> None:
        meta = self._read("META")
        if meta is None:
            self._begin()
            return
        found = meta.get("format")
        if not isinstance(found, int) or not 1 <= found <= FORMAT_VERSION:
            raise CorruptionError(
                f"{self.path} was written in format {found!r}; this version of the engine reads up to "
                f"{FORMAT_VERSION}: use the version that wrote it, or a newer one"
            )
        if os.path.islink(self.journal_path) or not os.path.isdir(self.journal_path):
            raise CorruptionError(f"{self.journal_path} is missing: put it back, or use another directory")

    def _begin(self) -> None:
        """A new directory; ``META`` comes last, so that a crash before leaves one that is still new."""
        if os.path.isdir(self.journal_path):
            if os.listdir(self.journal_path):
                raise CorruptionError(
                    f"{os.path.join(self.path, 'META')} is missing beside a journal: put it back"
                )
        else:
            self._files.make_directory(self.journal_path)
        self._write("META", {"format": FORMAT_VERSION})

    def _sweep(self) -> None:
        """Remove what replacing a file left behind when it was cut short."""
        for directory in (self.path, self.journal_path):
            for name in os.listdir(directory):
                if _is_temporary(name):
                    self._files.unlink(os.path.join(directory, name))

    # -- whose turn it is ----------------------------------------------------------------------

    def _read_epoch(self) -> int:
        content = self._read("EPOCH")
        if content is None:
            if os.listdir(self.journal_path):
                raise CorruptionError(f"{os.path.join(self.path, 'EPOCH')} is missing: put it back")
            return 0
        epoch = content.get("epoch")
        if not isinstance(epoch, int) or epoch < 1:
            raise CorruptionError(f"{os.path.join(self.path, 'EPOCH')} is damaged: epoch {epoch!r}")
        return epoch

    def check_epoch(self) -> None:
        """Raises FencedError when another driver opened the directory since, or it was taken away.

        The file is read only when it is another one than at the last look: each group of records asks twice.
        """
        try:
            mark = _mark_of(self._epoch_path)
            if mark == self._epoch_mark:
                return
            epoch = self._read_epoch()
        except (OSError, CorruptionError) as error:
            raise FencedError(f"{self.path} cannot be read any more, this driver stops: {error}") from error
        if epoch == self.epoch:
            self._epoch_mark = mark
        else:
            raise FencedError(
                f"{self.path} was taken over by a newer driver (epoch {epoch}, this is {self.epoch}): "
                "this one stops"
            )

    def _read(self, name: str) -> dict[str, object] | None:
        path = os.path.join(self.path, name)
        try:
            with open(path, "rb") as file:
                content = json.loads(file.read(4096))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CorruptionError(f"{path} is damaged: {error}") from error
        if not isinstance(content, dict):
            raise CorruptionError(f"{path} is damaged: it holds no object")
        return content

    def _write(self, name: str, content: dict[str, object]) -> None:
        self._files.replace(os.path.join(self.path, name), json.dumps(content).encode())

    def close(self) -> None:
        """Unlock."""
        self._lock.close()


def _mark_of(path: str) -> tuple[int, ...]:
    """Differs when a file was replaced or written to: a driver that takes over replaces it."""
    info = os.stat(path)
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(TEMPORARY_SUFFIX)


def _is_own(name: str) -> bool:
    return name in _OWN_NAMES or _is_temporary(name)
