"""What a stateful step does with its partition in one batch, one class a step.

A specification is picklable and comparable by content. ``update`` reads the store, never writes
it, and gives the :class:`Changes`; ``output`` says what the step yields afterwards.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from ..blocks.pickling import dumps
from ..operators.copies import IMMUTABLE, copies_of
from ..operators.function import Fn
from ..operators.structure import ErrorPolicy
from .guard import GIVEN_UP, Guard
from .handle import _ABSENT, State
from .store import Changes, MemoryStore

__all__ = [
    "ExpiringInverseWindow",
    "FilteredInverseWindow",
    "InverseWindow",
    "MapWithState",
    "Snapshot",
    "StateFailure",
    "StateSpecification",
    "UpdateState",
]


class StateFailure(Exception):
    """Says which record, or which key with its values, was in hand when something raised (the cause)."""

    def __init__(self, record: Any) -> None:
        super().__init__(record)
        self.record = record


class StateSpecification(Protocol):
    """The face of a stateful step towards a worker."""

    @property
    def mapped(self) -> bool:
        """True when the step yields records of its own, which cannot be read from the state again."""

    def update(self, store: MemoryStore, inputs: Sequence[Iterable[Any]], time: int) -> Changes:
        """The changes of one batch; ``time`` is its label in epoch milliseconds.

        :class:`UpdateState` and :class:`MapWithState` take a :class:`~.guard.Guard` besides.
        """

    def output(self, store: MemoryStore, changes: Changes | None) -> Iterable[Any]:
        """What the step yields; ``changes`` is None when the batch had been applied before."""


def _grouped(records: Iterable[Any]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    record: Any = None
    try:
        for record in records:
            key, value = record
            if key in groups:
                groups[key].append(value)
            else:
                groups[key] = [value]
    except (TypeError, ValueError) as error:  # no pair, or a key that cannot be hashed
        raise StateFailure(record) from error
    return groups


@dataclass(frozen=True, slots=True)
class UpdateState:
    """updateStateByKey (rows UST-1 … UST-9): every key, every batch; yields the whole state.

    fn gets ``(values, old)``, led by time and key when asked for; None removes the key.
    Inputs: new pairs, then in the first batch the initial pairs.
    policy: about a key on which ``fn`` raised. It keeps the state that it had before the batch, and its new
    values are given up: the record is ``(key, [values])``.
    """

    fn: Fn
    with_time: bool = False
    with_key: bool = False
    policy: ErrorPolicy | None = None

    @property
    def mapped(self) -> bool:
        return False

    def update(
        self, store: MemoryStore, inputs: Sequence[Iterable[Any]], time: int, guard: Guard | None = None
    ) -> Changes:
        groups = _grouped(inputs[0])
        changes = store.changes()
        old: Iterable[tuple[Any, Any]] = store.entries.items()
        if len(inputs) > 1:
            initial = store.scratch()
            for key, value in inputs[1]:
                initial[key] = value
            old = _over(initial, store, changes)
        if guard is None:
            self._visit(old, groups, changes, time)
        else:
            self._visit_guarded(old, groups, changes, time, guard)
        return changes

    def _visit(
        self, old: Iterable[tuple[Any, Any]], groups: dict[Any, list[Any]], changes: Changes, time: int
    ) -> None:
        call = self._caller(time)
        changed, removed, take = changes.changed, changes.removed, groups.pop
        key = value = new = None
        try:
            for key, value in old:
                new = call(key, take(key, []), value)
                if new is None:
                    removed.append(key)
                elif not _is_unchanged(new, value):
                    changed[key] = new
            for key, value in groups.items():
                new = call(key, value, None)
                if new is not None:
                    changed[key] = new
        except Exception as error:
            raise StateFailure((key, value)) from error

    def _visit_guarded(
        self,
        old: Iterable[tuple[Any, Any]],
        groups: dict[Any, list[Any]],
        changes: Changes,
        time: int,
        guard: Guard,
    ) -> None:
        """:meth:`_visit`, where ``fn`` works on copies: what it changed before it raised changes nothing."""
        call = self._caller(time)
        record: Any = None
        try:
            for key, values, value, known in _visits(old, groups):
                record = key, values
                attempt = partial(_on_copies, call, key, values, copies_of(value))
                new = guard(record, attempt, counts=bool(values))
                if new is GIVEN_UP:
                    continue
                if new is None:
                    if known:
                        changes.removed.append(key)
                elif not _is_unchanged(new, value):
                    changes.changed[key] = new
        except Exception as error:
            raise StateFailure(record) from error

    def _caller(self, time: int) -> Callable[[Any, list[Any], Any], Any]:
        fn = self.fn.call
        if self.with_time and self.with_key:
            return lambda key, values, old: fn(time, key, values, old)
        if self.with_time:
            return lambda key, values, old: fn(time, values, old)
        if self.with_key:
            return fn
        return lambda key, values, old: fn(values, old)

    def output(self, store: MemoryStore, changes: Changes | None) -> Iterable[Any]:
        return store.entries.items()


def _is_unchanged(new: Any, value: Any) -> bool:
    """True when nothing is to be logged; False also of what may have been changed in place.

    To find that out by pickling it before and after takes longer than to log it.
    """
    kind = type(new)
    if kind is tuple:
        return new is value and IMMUTABLE.issuperset(map(type, new))
    return kind in IMMUTABLE and kind is type(value) and bool(new == value)


def _visits(
    old: Iterable[tuple[Any, Any]], groups: dict[Any, list[Any]]
) -> Iterator[tuple[Any, list[Any], Any, bool]]:
    """(key, its new values, its state, whether it has one), each key once."""
    for key, value in old:
        yield key, groups.pop(key, []), value, True
    for key, values in groups.items():
        yield key, values, None, False


def _on_copies(
    call: Callable[[Any, list[Any], Any], Any], key: Any, values: list[Any], copy: Callable[[], Any]
) -> Any:
    return call(key, list(values), copy())


def _over(
    initial: MutableMapping[Any, Any], store: MemoryStore, changes: Changes
) -> Iterator[tuple[Any, Any]]:
    """The pairs of a state over initial ones, which become a change where the state has no such key."""
    for key, value in initial.items():
        if key not in store.entries:
            changes.changed[key] = value
            yield key, value
    yield from store.entries.items()


@dataclass(frozen=True, slots=True)
class MapWithState:
    """mapWithState (rows MWS-1 … MWS-8): one call a record, only touched keys cost.

    fn gets ``(key, value, state)``, led by the time when asked for; its results are yielded, with
    a time only those that are not None. Idle keys are found every batch, not every tenth.
    policy: about a record on which ``fn`` raised. Its key keeps the state that it had before, and is not
    touched; a key that times out goes all the same, and what is given up is ``(key, None, state)``.
    """

    fn: Fn
    timeout_ms: int | None = None
    with_time: bool = False
    policy: ErrorPolicy | None = None

    @property
    def mapped(self) -> bool:
        return True

    def update(
        self, store: MemoryStore, inputs: Sequence[Iterable[Any]], time: int, guard: Guard | None = None
    ) -> Changes:
        changes = store.changes()
        if len(inputs) > 1:
            for key, value in inputs[1]:
                if key not in store.entries:
                    changes.changed[key] = value
                    changes.touched[key] = time
        if self.timeout_ms is not None and len(store.touched) < len(store.entries):
            # The state was kept without a timeout before: for these keys the time begins now.
            changes.touched.update((key, time) for key in store.entries if key not in store.touched)
        call = self._call if guard is None else partial(self._guarded_call, guard)
        state: State[Any] = State()
        gone: set[Any] = set()
        record: Any = None
        try:
            for record in inputs[0]:
                key, value = record
                self._one(store, changes, gone, state, key, value, time, call)
            if self.timeout_ms is not None:
                for key in self._idle(store, changes, gone, time - self.timeout_ms):
                    record = key, None
                    state._bind(_own(store.entries[key]), timing_out=True)
                    call(changes, key, None, state, time)
                    gone.add(key)
        except Exception as error:
            raise StateFailure(record) from error
        changes.removed.extend(gone)
        if self.timeout_ms is None:
            changes.touched.clear()
        return changes

    def _one(
        self,
        store: MemoryStore,
        changes: Changes,
        gone: set[Any],
        state: State[Any],
        key: Any,
        value: Any,
        time: int,
        call: Callable[[Changes, Any, Any, State[Any], int], None],
    ) -> None:
        if key in changes.changed:
            state._bind(changes.changed[key])
        elif key in gone:
            state._bind(_ABSENT)
        else:
            state._bind(_own(store.entries.get(key, _ABSENT)))
        call(changes, key, value, state, time)
        if state._removed:
            changes.changed.pop(key, None)
            if self.timeout_ms is not None:
                changes.touched.pop(key, None)
            if key in store.entries:
                gone.add(key)
        elif state._changed:
            changes.changed[key] = state._value
            gone.discard(key)
        if self.timeout_ms is not None and state.exists():
            changes.touched[key] = time

    def _call(self, changes: Changes, key: Any, value: Any, state: State[Any], time: int) -> None:
        if not self.with_time:
            changes.mapped.append(self.fn.call(key, value, state))
            return
        result = self.fn.call(time, key, value, state)
        if result is not None:
            changes.mapped.append(result)

    def _guarded_call(
        self, guard: Guard, changes: Changes, key: Any, value: Any, state: State[Any], time: int
    ) -> None:
        """:meth:`_call` on a copy of the state; a call that is given up leaves a handle without a change."""
        timing_out = state.is_timing_out()
        copy = copies_of(state._value) if state.exists() else lambda: _ABSENT

        def attempt() -> None:
            state._bind(copy(), timing_out)
            self._call(changes, key, value, state, time)

        record = (key, None, copy()) if timing_out else (key, value)
        if guard(record, attempt) is GIVEN_UP:
            state._bind(_ABSENT)

    @staticmethod
    def _idle(store: MemoryStore, changes: Changes, gone: set[Any], before: int) -> Iterator[Any]:
        """Keys last touched before ``before``; the oldest come first, so the search stops early."""
        for key, at in store.touched.items():
            if at >= before:
                break
            if key not in changes.touched and key in store.entries and key not in gone:
                yield key

    def output(self, store: MemoryStore, changes: Changes | None) -> Iterable[Any]:
        return changes.mapped if changes is not None else ()


@dataclass(frozen=True, slots=True)
class InverseWindow:
    """reduceByKeyAndWindow with an inverse (rows WIN-14 … WIN-19), kept as state.

    A slide costs the keys that enter and leave, not the length of the window. Keys stay for ever.
    Inputs: reduced pairs of entering batches, reduced pairs of leaving batches. Of a tumbling window
    all leaves, which the state itself says: it need not be told.
    """

    reduce: Fn
    inverse: Fn
    tumbling: bool = False

    @property
    def mapped(self) -> bool:
        return False

    def update(self, store: MemoryStore, inputs: Sequence[Iterable[Any]], time: int) -> Changes:
        changes = store.changes()
        changed, entries = changes.changed, store.entries
        reduce, inverse = self.reduce.call, self.inverse.call
        key = value = None
        try:
            if self.tumbling:
                for key, value in entries.items():
                    changed[key] = inverse(value, value)
            for key, value in inputs[1]:
                now = changed[key] if key in changed else entries.get(key, _ABSENT)
                changed[key] = inverse(_there(key, now), value)
            for key, value in inputs[0]:
                now = changed[key] if key in changed else entries.get(key, _ABSENT)
                changed[key] = value if now is _ABSENT else reduce(now, value)
        except Exception as error:
            raise StateFailure((key, value)) from error
        return changes

    def output(self, store: MemoryStore, changes: Changes | None) -> Iterable[Any]:
        return store.entries.items()


@dataclass(frozen=True, slots=True)
class FilteredInverseWindow:
    """:class:`InverseWindow` that shows the pairs that ``keep`` accepts.

    The state of a key is ``(value, batches of the window that have it, shown)``: a key that is not
    shown is forgotten when its last batch has left, not before, so that any filter may be used.
    """

    reduce: Fn
    inverse: Fn
    keep: Fn
    tumbling: bool = False

    @property
    def mapped(self) -> bool:
        return False

    def update(self, store: MemoryStore, inputs: Sequence[Iterable[Any]], time: int) -> Changes:
        changes = store.changes()
        entries, now = store.entries, store.scratch()
        reduce, inverse, keep = self.reduce.call, self.inverse.call, self.keep.call
        key = value = None
        try:
            if self.tumbling:
                for key, (value, _, _) in entries.items():
                    now[key] = inverse(value, value), 0
            for key, value in inputs[1]:
                state = _there(key, now[key] if key in now else entries.get(key, _ABSENT))
                now[key] = inverse(state[0], value), state[1] - 1
            for key, value in inputs[0]:
                state = now[key] if key in now else entries.get(key)
                now[key] = (value, 1) if state is None else (reduce(state[0], value), state[1] + 1)
            for key, (value, batches) in now.items():
                shown = bool(keep((key, value)))
                if shown or batches > 0:
                    changes.changed[key] = (value, batches, shown)
                else:
                    changes.removed.append(key)
        except Exception as error:
            raise StateFailure((key, value)) from error
        return changes

    def output(self, store: MemoryStore, changes: Changes | None) -> Iterable[Any]:
        return _shown(store)


@dataclass(frozen=True, slots=True)
class ExpiringInverseWindow:
    """:class:`InverseWindow` that forgets at once the pairs that ``keep`` refuses (row WIN-18).

    A key that comes again begins anew, and what leaves of a key that was forgotten counts for nothing:
    right only for a filter that accepts every key of the window, such as "the count is not 0".
    """

    reduce: Fn
    inverse: Fn
    keep: Fn

    @property
    def mapped(self) -> bool:
        return False

    def update(self, store: MemoryStore, inputs: Sequence[Iterable[Any]], time: int) -> Changes:
        entries, now = store.entries, dict[Any, Any]()
        changes = Changes()
        reduce, inverse, keep = self.reduce.call, self.inverse.call, self.keep.call
        key = value = None
        try:
            for key, value in inputs[1]:
                if key in now or key in entries:
                    now[key] = inverse(now[key] if key in now else entries[key], value)
            for key, value in inputs[0]:
                old = now[key] if key in now else entries.get(key, _ABSENT)
                now[key] = value if old is _ABSENT else reduce(old, value)
            for key, value in now.items():
                if keep((key, value)):
                    changes.changed[key] = value
                elif key in entries:
                    changes.removed.append(key)
        except Exception as error:
            raise StateFailure((key, value)) from error
        return changes

    def output(self, store: MemoryStore, changes: Changes | None) -> Iterable[Any]:
        return store.entries.items()


def _own(value: Any) -> Any:
    """A copy of a value that can change in place: what a batch does must be undone when it is run again."""
    if value is _ABSENT or type(value) in IMMUTABLE:
        return value
    return pickle.loads(dumps(value))


def _there(key: Any, state: Any) -> Any:
    if state is _ABSENT:
        raise KeyError(f"{key!r} leaves the window but is not in it: its hash or equality changed")
    return state


def _shown(store: MemoryStore) -> Iterable[Any]:
    return ((key, value) for key, (value, _, shown) in store.entries.items() if shown)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All pairs of a state that another step keeps (row MWS-4); changes nothing.

    filtered: of a :class:`FilteredInverseWindow`.
    """

    filtered: bool = False

    @property
    def mapped(self) -> bool:
        return False

    def update(self, store: MemoryStore, inputs: Sequence[Iterable[Any]], time: int) -> Changes:
        return Changes()

    def output(self, store: MemoryStore, changes: Changes | None) -> Iterable[Any]:
        return _shown(store) if self.filtered else store.entries.items()
