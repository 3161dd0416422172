"""Which files a directory stream has read: bounded, and plain data for a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import ConfigurationError, SourceError
from .file_scan import FileIdentity, FileKey, ScanResult

__all__ = ["FileMemory"]

_VERSION = 1


class FileMemory:
    """Identities by (device, inode).

    Files that are gone are forgotten first, the longest gone first, when the bound is reached;
    one that is still there is never forgotten, since it would be read again.

    Parameters
    ----------
    files_max: most files remembered.
    """

    def __init__(self, files_max: int) -> None:
        self.files_max = files_max
        self._identities: dict[FileKey, FileIdentity] = {}
        self._present: set[FileKey] = set()
        self._gone: dict[FileKey, None] = {}
        self._position: dict[str, Any] | None = None
        self._moved: dict[FileKey, None] = {}  # since the last change was taken

    def __len__(self) -> int:
        return len(self._identities)

    def get(self, key: FileKey) -> FileIdentity | None:
        """What is remembered of the file with these numbers."""
        return self._identities.get(key)

    def is_gone(self, key: FileKey) -> bool:
        """True when the file was not there in the last scan, so that its numbers may be used anew."""
        return key in self._gone

    def add(self, identities: Iterable[FileIdentity]) -> None:
        """Remember files as read. Raises SourceError when more are present than can be remembered."""
        for identity in identities:
            key = (identity.device, identity.inode)
            self._identities[key] = identity
            self._present.add(key)
            self._gone.pop(key, None)
            self._moved[key] = None
            self._position = None
        while len(self._identities) > self.files_max and self._gone:
            oldest = next(iter(self._gone))
            del self._gone[oldest], self._identities[oldest]
            self._moved[oldest] = None
        if len(self._identities) > self.files_max:
            raise SourceError(
                f"more than {self.files_max} files that were read are still there: "
                "move them away, or raise remembered_files_max"
            )

    def note(self, result: ScanResult) -> None:
        """Take note of which known files a finished scan met, and of those that changed."""
        for key in self._present - result.present:
            self._gone[key] = None
        for key in result.present & self._gone.keys():
            del self._gone[key]
        self._present = result.present
        for _, identity in result.changed:
            self._identities[(identity.device, identity.inode)] = identity
            self._moved[(identity.device, identity.inode)] = None
            self._position = None

    def position(self) -> dict[str, Any]:
        """All that is remembered, as plain data; not to be changed. The same object while nothing changes."""
        if self._position is None:
            self._position = {"version": _VERSION, "files": tuple(self._identities.values())}
        return self._position

    def take_change(self) -> dict[str, Any]:
        """What is remembered and forgotten since the last call, as plain data; empty for nothing."""
        if not self._moved:
            return {}
        known = self._identities
        files = [known[key] for key in self._moved if key in known]
        forgotten = [key for key in self._moved if key not in known]
        self._moved = {}
        return {"version": _VERSION, "files": files, "forgotten": forgotten}

    def restore(self, position: Any) -> None:
        """Remember what :meth:`position` gave, also after a trip through JSON. Raises ConfigurationError."""
        self.advance({**position, "forgotten": ()} if isinstance(position, dict) else position)

    def advance(self, change: Any) -> None:
        """Remember what :meth:`take_change` gave, as :meth:`restore` does with a position."""
        try:
            if change["version"] != _VERSION:
                raise ConfigurationError(f"position has version {change['version']}, this is {_VERSION}")
            identities = [FileIdentity(*_numbers(row)) for row in change["files"]]
            forgotten = [_numbers(row) for row in change["forgotten"]]
        except (TypeError, KeyError, ValueError) as error:
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(f"this is not a position of a directory stream: {error!r}") from error
        for device, inode in forgotten:
            self._identities.pop((device, inode), None)
            self._present.discard((device, inode))
        self.add(identities)
        self._moved = {}


def _numbers(row: Sequence[Any]) -> list[int]:
    if not all(type(value) is int for value in row):
        raise ValueError(f"not a row of numbers: {row!r}")
    return list(row)
