"""A dict whose cold part lies in a file, with the order and the equality of a dict."""

from __future__ import annotations

import itertools
import operator
import pickle
from collections import OrderedDict
from collections.abc import Collection, ItemsView, Iterable, Iterator, MutableMapping
from typing import Any

from ..blocks.pickling import dumps
from ..errors import UnpicklableError
from .budget import Budget
from .scratch import Row, ScratchFile
from .sizes import estimated_bytes

__all__ = ["SpillingDict"]

_ABSENT: Any = object()
_SLOT_BYTES = 320  # what the bookkeeping of a hot key takes
_ABSENT_MAX = 4096
_DEAD_MAX = 256
_ROWS = 256
_KEY_CHARS_MAX = 200
_LATE = 1 << 40
_place = operator.attrgetter("place")


class _Slot:
    """A hot key. place: in the order of insertion. stored: the file has a row at this place."""

    __slots__ = ("key", "place", "size", "stored", "value")

    def __init__(self, key: Any, value: Any, place: int, stored: bool, size: int) -> None:
        self.key = key
        self.value = value
        self.place = place
        self.stored = stored
        self.size = size


class SpillingDict(MutableMapping[Any, Any]):
    """Hot keys in memory, written back when they go; cold ones in a table of ``file``.

    Keys are found by their hash, and compared: two keys are the same where a dict says so. Iteration
    has the order of insertion. It must not be changed while it is iterated.

    Parameters
    ----------
    file: takes a table when there is no room in memory.
    budget: bounds the memory; shared with others.
    owner: named in errors.

    Every method raises StorageError when the file cannot be used, and UnpicklableError when a value
    has to move to disk and cannot: it stays where it is then.
    """

    def __init__(self, file: ScratchFile, budget: Budget, owner: str) -> None:
        self._file = file
        self._budget = budget
        self._owner = owner
        self._hot: OrderedDict[Any, _Slot] = OrderedDict()
        self._dirty: set[_Slot] = set()
        self._dead: set[int] = set()  # places of rows that are still to be removed
        self._absent: set[Any] = set()  # keys that were looked for in the file lately
        self._table = ""
        self._next = self._early = 1
        self._count = 0
        self._rows = 0  # that are not dead
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        budget.join(self)

    # -- reading -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, key: Any) -> Any:
        slot = self._slot(key)
        if slot is None:
            raise KeyError(key)
        return slot.value

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of ``key``, or ``default``."""
        slot = self._slot(key)
        return default if slot is None else slot.value

    def entry(self, key: Any) -> tuple[Any, int, int] | None:
        """Value of ``key``, its place in the order of insertion, and its size in memory."""
        slot = self._slot(key)
        return None if slot is None else (slot.value, slot.place, slot.size)

    def _slot(self, key: Any) -> _Slot | None:
        slot = self._hot.get(key)
        if slot is not None:
            self.hits += 1
            self._hot.move_to_end(key)
            return slot
        return self._load(key) if self._rows else None

    def __contains__(self, key: object) -> bool:
        return key in self._hot or self._stored_place(key) is not None

    def _load(self, key: Any) -> _Slot | None:
        if key in self._absent:
            return None
        self.misses += 1
        for place, stored, value in self._file.find_with_value(self._table, hash(key)):
            if place not in self._dead and (found := pickle.loads(stored)) == key:
                content = pickle.loads(value)
                slot = _Slot(found, content, place, True, _bytes_of(found, content))
                self._hot[found] = slot
                self._grow(slot.size)
                return slot
        self._note_absent(key)
        return None

    def _stored_place(self, key: Any) -> int | None:
        """Where the file has a key that is not hot."""
        if not self._rows or key in self._absent:
            return None
        for place, stored in self._file.find(self._table, hash(key)):
            if place not in self._dead and pickle.loads(stored) == key:
                return place
        self._note_absent(key)
        return None

    def _note_absent(self, key: Any) -> None:
        if len(self._absent) >= _ABSENT_MAX:
            self._absent.clear()
        self._absent.add(key)

    def __iter__(self) -> Iterator[Any]:
        if not self._rows:
            yield from [slot.key for slot in sorted(self._hot.values(), key=_place)]
            return
        self.flush()
        yield from map(pickle.loads, self._file.keys(self._table))

    def items(self) -> ItemsView[Any, Any]:
        """Keys and values; reading them makes no key hot."""
        return _Items(self)

    def sized(self) -> Iterator[tuple[Any, Any, int]]:
        """Keys, values and their sizes in memory, as :meth:`put` takes them; 0 of what is not there."""
        if self._rows:
            yield from ((key, value, 0) for key, value in self._pairs())
            return
        for slot in sorted(self._hot.values(), key=_place):
            yield slot.key, slot.value, slot.size

    def _pairs(self) -> Iterator[tuple[Any, Any]]:
        if not self._rows:
            for slot in sorted(self._hot.values(), key=_place):
                yield slot.key, slot.value
            return
        self.flush()
        for stored, value in self._file.items(self._table):
            key = pickle.loads(stored)
            hot = self._hot.get(key)
            yield key, pickle.loads(value) if hot is None else hot.value

    # -- writing -------------------------------------------------------------------------------

    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def put(self, key: Any, value: Any, size: int = 0) -> None:
        """Set ``key``. size: what key and value take in memory, where it is known already."""
        size = size or _bytes_of(key, value)
        slot = self._hot.get(key)
        if slot is not None:
            slot.value = value
            self._hot.move_to_end(key)
            grown, slot.size = size - slot.size, size
        else:
            place = self._stored_place(key) if self._rows else None
            if place is None:
                slot = _Slot(key, value, self._next, False, size)
                self._next += 1
                self._count += 1
                self._absent.discard(key)
            else:
                slot = _Slot(key, value, place, True, size)
            self._hot[key] = slot
            grown = size
        self._dirty.add(slot)
        self._grow(grown)

    def _grow(self, size: int) -> None:
        self.bytes += size
        self._budget.charge(size)

    def __delitem__(self, key: Any) -> None:
        slot = self._hot.pop(key, None)
        if slot is not None:
            self._dirty.discard(slot)
            self._grow(-slot.size)
            dead = slot.place if slot.stored else None
        else:
            dead = self._stored_place(key)
            if dead is None:
                raise KeyError(key)
        if dead is not None:
            self._rows -= 1
            self._dead.add(dead)
            if len(self._dead) >= _DEAD_MAX:
                self._bury()
        self._count -= 1
        self._note_absent(key)

    def discard(self, key: Any) -> None:
        """Remove ``key`` if it is there; its value is not read."""
        try:
            del self[key]
        except KeyError:
            return

    def put_back(self, key: Any, value: Any, place: int) -> None:
        """Add ``key``, which is not there, at a place where it was before."""
        if place in self._dead:
            self._bury()
        slot = self._hot[key] = _Slot(key, value, place, False, _bytes_of(key, value))
        self._count += 1
        self._absent.discard(key)
        self._dirty.add(slot)
        self._grow(slot.size)

    def leave_room(self) -> None:
        """Have :meth:`put` leave places for :meth:`put_early`; while it is empty."""
        self._next = _LATE

    def put_early(self, key: Any, value: Any) -> None:
        """Set ``key``: where it stands if that is an early place, else behind the early ones before it."""
        slot = self._hot.get(key)
        place = self._stored_place(key) if slot is None else slot.place
        if place is not None and place < _LATE:
            self.put(key, value)
            return
        if place is not None:
            del self[key]
        self.put_back(key, value, self._early)
        self._early += 1

    def walk(self) -> _PlaceWalk:
        """A walk over all that is there now, which goes on while it changes."""
        return _PlaceWalk(self)

    def clear(self) -> None:
        """Remove all."""
        if self._rows or self._dead:
            self._file.clear(self._table)
        for held in (self._hot, self._dirty, self._dead, self._absent):
            held.clear()
        self._grow(-self.bytes)
        self._count = self._rows = 0

    # -- to the file ---------------------------------------------------------------------------

    def flush(self) -> None:
        """Write all that the file does not have; what is hot stays so."""
        self._write(sorted(self._dirty, key=_place))
        self._bury()

    def evict(self, wanted: int) -> None:
        """Move the least recently used keys of about ``wanted`` bytes to the file."""
        cold: list[_Slot] = []
        freed = 0
        for slot in self._hot.values():
            cold.append(slot)
            freed += slot.size
            if freed >= wanted:
                break
        self._write([slot for slot in cold if slot in self._dirty])
        for slot in cold:
            del self._hot[slot.key]
        self.bytes -= freed

    def _write(self, slots: Iterable[_Slot]) -> None:
        rest = iter(slots)
        while group := list(itertools.islice(rest, _ROWS)):
            if not self._table:
                self._table = self._file.new_table()
            self._file.write(self._table, [self._row(slot) for slot in group])
            for slot in group:
                self._rows += not slot.stored
                slot.stored = True
            self._dirty.difference_update(group)

    def _row(self, slot: _Slot) -> Row:
        try:
            return Row(slot.place, hash(slot.key), dumps(slot.key), dumps(slot.value))
        except Exception as error:
            raise UnpicklableError(
                f"the state of key {_short(slot.key)} of step {self._owner!r} cannot be kept on disk, since "
                f"it cannot be pickled: {type(error).__name__}: {error}"
            ) from error

    def _bury(self) -> None:
        if self._dead:
            self._file.remove(self._table, self._dead)
            self._dead.clear()


class _Items(ItemsView[Any, Any]):
    """Reads rows one after the other, instead of one search for each key."""

    _mapping: SpillingDict

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping._pairs()


class _PlaceWalk:
    """Writes what the file has not, key by key, then reads the file in the order of places."""

    def __init__(self, mapping: SpillingDict) -> None:
        self._mapping = mapping
        self._last = mapping._next - 1
        self._at = 0
        # Only keys: what goes to the file by itself is not held here. The last ones to go come last.
        self._fresh = [key for key, slot in mapping._hot.items() if not slot.stored]
        self._fresh.reverse()

    def take(self, count: int) -> tuple[dict[Any, Any], int] | None:
        """The next keys, or none yet and the bytes of those that were written to the file."""
        mapping = self._mapping
        if self._fresh:
            return {}, self._write(count)
        if not mapping._table:
            return None
        part: dict[Any, Any] = {}
        rows = mapping._file.rows_after(mapping._table, self._at, self._last, count)
        for place, stored, value in rows:
            if place not in mapping._dead:
                key = pickle.loads(stored)
                hot = mapping._hot.get(key)
                part[key] = pickle.loads(value) if hot is None else hot.value
            self._at = place
        return (part, 0) if rows else None

    def _write(self, count: int) -> int:
        mapping, work = self._mapping, 0
        slots = []
        for _ in range(min(count, len(self._fresh))):
            slot = mapping._hot.get(self._fresh.pop())
            if slot is not None and not slot.stored:
                slots.append(slot)
                work += slot.size
        mapping._write(slots)
        return work

    def forget(self, keys: Collection[Any]) -> None:
        """Nothing to do: a key that is added again has a later place."""


def _bytes_of(key: Any, value: Any) -> int:
    return estimated_bytes(key) + estimated_bytes(value) + _SLOT_BYTES


def _short(key: Any) -> str:
    try:
        text = repr(key)
    except Exception as error:
        return f"<unprintable {type(key).__name__}: {type(error).__name__}>"
    return text if len(text) <= _KEY_CHARS_MAX else f"{text[:_KEY_CHARS_MAX]}…"
