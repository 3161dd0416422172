"""The state of one partition when all of it may be more than fits in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, ClassVar

from ..errors import AiostreamError, StorageError
from .budget import Budget
from .pieces import StatePayload, pieces_of
from .scratch import ScratchFile
from .spilling import SpillingDict
from .store import Changes, MemoryStore, chain_keys
from .sweep import Sweep

__all__ = ["DiskStore"]

_PAIR_BYTES = 90  # a tuple and a number


class DiskStore(MemoryStore):
    """A :class:`MemoryStore` of which hot keys are in memory and the others in a scratch file.

    So are the changes of a batch, and what undoes them. In memory are, besides: the keys that one batch
    removes, and SQLite's own pages, a mebibyte.

    Parameters
    ----------
    directory: private, on a disk; gets a file without name that is gone with this process.
    budget: of the memory, shared by all stores of the process.
    owner: the step, named in errors.
    """

    __slots__ = ("_changed", "_failure", "_file", "_scratch", "_touched", "_undone", "_untouched")

    on_disk: ClassVar[bool] = True
    entries: SpillingDict
    touched: SpillingDict

    def __init__(self, directory: str, budget: Budget, owner: str, version: int = 0) -> None:
        super().__init__(version)
        self._file = ScratchFile(directory, owner)
        parts = [SpillingDict(self._file, budget, owner) for _ in range(7)]
        self.entries, self.touched = parts[:2]
        self._changed, self._touched, self._undone, self._untouched, self._scratch = parts[2:]
        self._failure: AiostreamError | None = None

    @property
    def failure(self) -> AiostreamError | None:
        """Why it cannot be used any more: it is to be rebuilt from its chain."""
        return self._failure or self._file.broken

    @property
    def usage(self) -> tuple[int, int, int, int]:
        """Bytes in the cache and on disk; keys that were found in the cache, and those that were not."""
        parts = (self.entries, self.touched, self._changed, self._touched, self._undone, self._untouched)
        cached = sum(part.bytes for part in parts) + self._scratch.bytes
        return cached, self._file.size, self.entries.hits, self.entries.misses

    def close(self) -> None:
        """Give the room on disk back at once, whoever still refers to the store."""
        self._file.close()

    # -- a batch -------------------------------------------------------------------------------

    def changes(self) -> Changes:
        """Changes that can be more than fits in memory."""
        self._changed.clear()
        self._touched.clear()
        return Changes(self._changed, [], self._touched)

    def scratch(self) -> MutableMapping[Any, Any]:
        """An empty mapping that can be more than fits in memory; there is one, for one batch."""
        self._scratch.clear()
        return self._scratch

    def apply(self, changes: Changes, version: int) -> None:
        """Make ``changes`` true; when it raises, the store cannot be used any more."""
        try:
            self._note(changes)
            self._replay(changes.changed, changes.removed, changes.touched)
        except BaseException as error:
            self._fail(error)
            raise
        self.version = version
        self._scratch.clear()
        if self.sweep is not None:
            self.sweep.forget(changes.removed)

    def _note(self, changes: Changes) -> None:
        """Keep what undoes ``changes``: of each key its value and its place, () where it was not there."""
        self._undone.clear()
        self._untouched.clear()
        for key in itertools.chain(changes.changed, changes.removed):
            _note_entry(self._undone, self.entries, key)
        if changes.touched or self.touched:
            for key in chain_keys(changes):
                _note_entry(self._untouched, self.touched, key)
        self._undo, self._undo_version = self._undone, self.version

    def _replay(self, changed: Mapping[Any, Any], removed: Iterable[Any], touched: Mapping[Any, int]) -> None:
        entries, times = self.entries, self.touched
        for key, value, size in _sized(changed):
            entries.put(key, value, size)
        for key, at, size in _sized(touched):
            times.discard(key)  # re-inserting moves it to the young end
            times.put(key, at, size)
        for key in removed:
            entries.discard(key)
            times.discard(key)

    def rollback(self) -> None:
        """Undo the last :meth:`apply`, give a sweep up; when it raises, the store cannot be used any more."""
        self.sweep = None
        try:
            for mapping, undo in ((self.entries, self._undone), (self.touched, self._untouched)):
                for key, before in undo.items():
                    mapping.discard(key)
                    if before:
                        mapping.put_back(key, *before)
        except BaseException as error:
            self._fail(error)
            raise
        self.version, self._undo = self._undo_version, None

    def _fail(self, error: BaseException) -> None:
        self.version, self._undo = -1, None
        if isinstance(error, AiostreamError):
            self._failure = error
        else:
            self._failure = StorageError(f"a batch was cut short by {type(error).__name__}: {error}")

    # -- blocks --------------------------------------------------------------------------------

    def changes_block(self, changes: Changes, *, more: bool = False) -> Iterable[bytes]:
        """The parts of a block of the changelog; read from the store while they are consumed."""
        return pieces_of(changes.changed.items(), changes.removed, changes.touched.items())

    def snapshot_block(self) -> Iterable[bytes]:
        """The parts of a block that holds the whole partition; read while they are consumed."""
        return pieces_of(self.entries.items(), (), self.touched.items())

    def snapshot(self) -> bytes:
        """The whole partition as a block, in memory."""
        return b"".join(self.snapshot_block())

    def begin_sweep(self) -> Sweep:
        """Begin a snapshot in slices; another one under way is given up."""
        self.sweep = Sweep(self.version, self.entries.walk(), self.touched.walk())
        return self.sweep

    def load(self, payloads: Iterable[StatePayload]) -> None:
        """Replay a chain of blocks into a new store."""
        self.entries.leave_room()
        self.touched.leave_room()
        super().load(payloads)

    def _take(self, entries: dict[Any, Any], touched: dict[Any, int]) -> None:
        self._replay(entries, (), touched)

    def _take_slice(self, entries: dict[Any, Any], touched: dict[Any, int]) -> None:
        for key, value in entries.items():
            self.entries.put_early(key, value)
        for key, at in touched.items():
            if key not in self.touched:  # what is there was touched since the sweep began
                self.touched.put_early(key, at)


def _note_entry(undo: SpillingDict, mapping: SpillingDict, key: Any) -> None:
    found = mapping.entry(key)
    if found is None:
        undo.put(key, ())
    else:
        value, place, size = found
        undo.put(key, (value, place), size + _PAIR_BYTES)


def _sized(mapping: Mapping[Any, Any]) -> Iterable[tuple[Any, Any, int]]:
    if isinstance(mapping, SpillingDict):
        return mapping.sized()
    return ((key, value, 0) for key, value in mapping.items())
