"""The state of one partition of one keyed step, in the memory of the worker that owns it.

A batch computes its changes first and applies them as a whole, so that a failing user function
leaves the partition as it was. The previous version can be brought back once, for a batch that is
run again.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..blocks.pickling import dumps
from ..errors import CorruptionError

__all__ = ["Changes", "MemoryStore"]

_ABSENT = object()


@dataclass(slots=True)
class Changes:
    """What one batch does to a partition.

    touched: keys whose idle time starts anew, which a timeout needs to know.
    mapped: records that the step yields, where these are not the state itself.
    """

    changed: dict[Any, Any] = field(default_factory=dict)
    removed: list[Any] = field(default_factory=list)
    touched: dict[Any, int] = field(default_factory=dict)
    mapped: list[Any] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """True when the partition stays as it is."""
        return not (self.changed or self.removed or self.touched)

    def dump(self) -> bytes:
        """The changes as a block of the changelog."""
        return dumps(("changes", self.changed, self.removed, self.touched))


class MemoryStore:
    """Key -> value, with a version and the times of last touch in order, oldest first."""

    __slots__ = ("_undo", "_undo_touched", "_undo_version", "entries", "touched", "version")

    def __init__(self, version: int = 0) -> None:
        self.entries: dict[Any, Any] = {}
        self.touched: dict[Any, int] = {}
        self.version = version
        self._undo: dict[Any, Any] | None = None
        self._undo_touched: dict[Any, int | None] = {}
        self._undo_version = -1

    def apply(self, changes: Changes, version: int) -> None:
        """Make ``changes`` true; the version before can be brought back by :meth:`rollback`."""
        entries = self.entries
        undo = {key: entries.get(key, _ABSENT) for key in changes.changed}
        undo.update((key, entries.get(key, _ABSENT)) for key in changes.removed)
        self._undo, self._undo_version = undo, self.version
        # Also of a batch that touches nothing: it may remove idle keys, which have times.
        timed = bool(changes.touched or self.touched)
        self._undo_touched = {key: self.touched.get(key) for key in chain_keys(changes)} if timed else {}
        self._replay(changes.changed, changes.removed, changes.touched)
        self.version = version

    def _replay(self, changed: Mapping[Any, Any], removed: Iterable[Any], touched: Mapping[Any, int]) -> None:
        self.entries.update(changed)
        for key, at in touched.items():
            self.touched.pop(key, None)  # re-inserting moves it to the young end
            self.touched[key] = at
        for key in removed:
            self.entries.pop(key, None)
            self.touched.pop(key, None)

    def can_roll_back_to(self, version: int) -> bool:
        """True when :meth:`rollback` would give ``version``."""
        return self._undo is not None and self._undo_version == version

    def rollback(self) -> None:
        """Undo the last :meth:`apply`."""
        assert self._undo is not None
        for key, value in self._undo.items():
            if value is _ABSENT:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value
        if self._undo_touched:
            for key, at in self._undo_touched.items():
                self.touched.pop(key, None)
                if at is not None:
                    self.touched[key] = at
            self.touched = dict(sorted(self.touched.items(), key=lambda item: item[1]))
        self.version, self._undo = self._undo_version, None

    def snapshot(self) -> bytes:
        """The whole partition as a block."""
        return dumps(("snapshot", self.entries, self.touched))

    @classmethod
    def restore(cls, payloads: Iterable[bytes | memoryview], version: int) -> MemoryStore:
        """Rebuild from a chain of blocks: at most one snapshot, first, then changes in order."""
        store = cls(version)
        for payload in payloads:
            kind, *content = pickle.loads(payload)
            if kind == "snapshot":
                store.entries, store.touched = content
            elif kind == "changes":
                store._replay(*content)
            else:
                raise CorruptionError(f"a state block of unknown kind {kind!r}")
        return store


def chain_keys(changes: Changes) -> Iterable[Any]:
    """The keys whose time of touch a batch changes."""
    yield from changes.touched
    yield from changes.removed
