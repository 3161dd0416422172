"""A checkpoint directory: who may use it, which format it has, and whose turn it is."""

from __future__ import annotations

import json
import os
import stat

from ..errors import ConfigurationError, CorruptionError, EnvironmentFault
from .atomic_file import sync_directory, write_atomically
from .lock import DirectoryLock

__all__ = ["CheckpointDirectory", "FencedError"]

FORMAT_VERSION = 1


class FencedError(EnvironmentFault):
    """A newer driver has taken over the checkpoint directory: this one must not write any more."""


class CheckpointDirectory:
    """Opens, checks and locks a directory; each opening gets a higher epoch.

    Raises ConfigurationError for a path that cannot be one (a link, another user's, readable by
    others, with foreign files), DirectoryInUseError when another process works on it, and
    CorruptionError for a directory of an unknown format.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.journal_path = os.path.join(self.path, "journal")
        self._prepare()
        self._lock = DirectoryLock(self.path)
        try:
            self._check_format()
            self.epoch = self._read_epoch() + 1
            self._write("EPOCH", {"epoch": self.epoch})
        except BaseException:
            self._lock.close()
            raise

    def _prepare(self) -> None:
        if os.path.islink(self.path):
            raise ConfigurationError(
                f"the checkpoint directory {self.path} is a symbolic link: give the real path"
            )
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"the checkpoint directory {self.path} cannot be made: {error}"
            ) from error
        info = os.stat(self.path)
        if info.st_uid != os.geteuid():
            raise ConfigurationError(f"the checkpoint directory {self.path} belongs to another user")
        if stat.S_IMODE(info.st_mode) & 0o077:
            raise ConfigurationError(f"the checkpoint directory {self.path} is open to others: chmod 700 it")
        names = set(os.listdir(self.path))
        if names and "META" not in names and names - {"LOCK", "journal"}:
            raise ConfigurationError(
                f"{self.path} is not empty and no checkpoint directory: use another; nothing was touched"
            )
        if not os.access(self.path, os.W_OK):
            raise ConfigurationError(f"the checkpoint directory {self.path} is read-only")

    def _check_format(self) -> None:
        meta = self._read("META")
        if meta is None:
            os.makedirs(self.journal_path, mode=0o700, exist_ok=True)
            self._write("META", {"format": FORMAT_VERSION})
            sync_directory(self.path)
            return
        found = meta.get("format")
        if not isinstance(found, int) or found > FORMAT_VERSION:
            raise CorruptionError(
                f"{self.path} was written in format {found!r}; this version reads up to {FORMAT_VERSION}"
            )

    def _read_epoch(self) -> int:
        content = self._read("EPOCH")
        return 0 if content is None else int(str(content["epoch"]))

    def check_epoch(self) -> None:
        """Raises FencedError when another driver opened the directory since."""
        epoch = self._read_epoch()
        if epoch != self.epoch:
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
        write_atomically(os.path.join(self.path, name), [json.dumps(content).encode()])

    def close(self) -> None:
        """Unlock."""
        self._lock.close()
