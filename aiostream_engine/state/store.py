"""The state of one partition of one keyed step, in the memory of the worker that owns it.

A batch computes its changes first and applies them as a whole, so that a failing user function
leaves the partition as it was. The previous version can be brought back once, for a batch that is
run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..blocks.pickling import dumps
from ..errors import AiostreamError, CorruptionError
from .pieces import StatePayload, read_pieces
from .sweep import KeyWalk, Sweep

__all__ = ["Changes", "MemoryStore"]

_ABSENT = object()


@dataclass(slots=True)
class Changes:
    """What one batch does to a partition.

    touched: keys whose idle time starts anew, which a timeout needs to know.
    mapped: records that the step yields, where these are not the state itself.
    """

    changed: MutableMapping[Any, Any] = field(default_factory=dict)
    removed: list[Any] = field(default_factory=list)
    touched: MutableMapping[Any, int] = field(default_factory=dict)
    mapped: list[Any] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """True when the partition stays as it is."""
        return not (self.changed or self.removed or self.touched)

    def dump(self, *, more: bool = False) -> bytes:
        """The changes as a block of the changelog; more: as the first piece of one."""
        return dumps(("piece" if more else "changes", self.changed, self.removed, self.touched))

    def clear(self) -> None:
        """Free what has been applied and written; what the step yields stays."""
        self.changed.clear()
        self.touched.clear()


class MemoryStore:
    """Key -> value, with a version and the times of last touch in order, oldest first."""

    __slots__ = (
        "_early",
        "_undo",
        "_undo_touched",
        "_undo_version",
        "entries",
        "sweep",
        "touched",
        "version",
    )

    on_disk: ClassVar[bool] = False
    """True when blocks of it belong on disk too, since they need not fit in memory."""

    def __init__(self, version: int = 0) -> None:
        self.entries: MutableMapping[Any, Any] = {}
        self.touched: MutableMapping[Any, int] = {}
        self.version = version
        self._undo: MutableMapping[Any, Any] | None = None
        self._undo_touched: MutableMapping[Any, Any] = {}
        self._undo_version = -1
        self._early: dict[Any, None] = {}
        self.sweep: Sweep | None = None
        """The snapshot in slices that is under way."""

    @property
    def failure(self) -> AiostreamError | None:
        """Why it cannot be used any more."""
        return None

    @property
    def usage(self) -> tuple[int, int, int, int]:
        """Bytes in a cache and on disk; keys that were found in the cache, and those that were not."""
        return 0, 0, 0, 0

    def close(self) -> None:
        """Free what is not memory."""

    # -- a batch -------------------------------------------------------------------------------

    def changes(self) -> Changes:
        """Changes to be filled; those of the batch before are not needed any more."""
        return Changes()

    def scratch(self) -> MutableMapping[Any, Any]:
        """An empty mapping for what a step works out in one batch."""
        return {}

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
        if self.sweep is not None:
            self.sweep.forget(changes.removed)

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
        """Undo the last :meth:`apply`; a sweep is given up."""
        assert self._undo is not None
        self.sweep = None
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

    # -- blocks --------------------------------------------------------------------------------

    def changes_block(self, changes: Changes, *, more: bool = False) -> Iterable[bytes]:
        """The parts of a block of the changelog; more: other pieces come behind them."""
        yield changes.dump(more=more)

    def snapshot_block(self) -> Iterable[bytes]:
        """The parts of a block that holds the whole partition."""
        yield self.snapshot()

    def snapshot(self) -> bytes:
        """The whole partition as a block."""
        return dumps(("snapshot", self.entries, self.touched))

    def begin_sweep(self) -> Sweep:
        """Begin a snapshot in slices; another one under way is given up."""
        self.sweep = Sweep(self.version, KeyWalk(self.entries), KeyWalk(self.touched))
        return self.sweep

    def load(self, payloads: Iterable[StatePayload]) -> None:
        """Replay a chain of blocks, in order: what begins with a snapshot or a sweep, or with nothing."""
        for payload in payloads:
            for kind, *content in read_pieces(payload):
                if kind == "snapshot":
                    self._take(*content)
                elif kind in ("changes", "piece"):
                    self._replay(*content)
                    for key in content[1] if self._early else ():
                        self._early.pop(key, None)
                elif kind == "slice":
                    self._take_slice(*content)
                else:
                    raise CorruptionError(f"a state block of unknown kind {kind!r}")
        self._put_in_order()

    def _take_slice(self, entries: dict[Any, Any], touched: dict[Any, int]) -> None:
        self.entries.update(entries)
        self._early.update(dict.fromkeys(entries))
        for key, at in touched.items():
            self.touched.setdefault(key, at)  # what is there was touched since the sweep began

    def _put_in_order(self) -> None:
        """Keys of slices stand before those that came while these were written."""
        if not self._early:
            return
        entries = {key: self.entries.pop(key) for key in self._early}
        entries.update(self.entries)
        self.entries, self._early = entries, {}
        self.touched = dict(sorted(self.touched.items(), key=lambda item: item[1]))

    def _take(self, entries: dict[Any, Any], touched: dict[Any, int]) -> None:
        self.entries, self.touched = entries, touched

    @classmethod
    def restore(cls, payloads: Iterable[StatePayload], version: int) -> MemoryStore:
        """Rebuild in memory from a chain of blocks."""
        store = MemoryStore(version)
        store.load(payloads)
        return store


def chain_keys(changes: Changes) -> Iterable[Any]:
    """The keys whose time of touch a batch changes."""
    yield from changes.touched
    yield from changes.removed
