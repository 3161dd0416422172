"""Values that the driver and its workers share: broadcasts, read-only, and accumulators, add-only."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ..blocks.pickling import dumps
from ..blocks.storage import read_bytes
from ..errors import LifecycleError, UnpicklableError
from ..types import BlockRef
from .task import current_environment

__all__ = ["Accumulator", "Broadcast"]

T = TypeVar("T")
_ids = itertools.count(1)

BROADCASTS_CACHED_MAX = 128


class Broadcast(Generic[T]):
    """A value that each worker loads once and keeps (row RDD-1).

    Made by ``EngineContext.broadcast``. Functions refer to ``.value``; what travels with them is a
    reference of a few bytes.
    """

    def __init__(self, value: T, ref: BlockRef, on_drop: Callable[[int, bool], None]) -> None:
        self.id = next(_ids)
        self._value: T | None = value
        self._ref = ref
        self._on_drop = on_drop
        self._destroyed = False

    @property
    def value(self) -> T:
        """The value. Raises LifecycleError after :meth:`destroy`."""
        if self._destroyed:
            raise LifecycleError(f"broadcast {self.id} was destroyed")
        return self._value  # type: ignore[return-value]

    def unpersist(self) -> None:
        """Drop the workers' copies; they are loaded again when used."""
        self._on_drop(self.id, False)

    def destroy(self) -> None:
        """Drop all copies for good; using it afterwards is an error."""
        if not self._destroyed:
            self._destroyed = True
            self._value = None
            self._on_drop(self.id, True)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._destroyed:
            raise LifecycleError(f"broadcast {self.id} was destroyed")
        return _WorkerBroadcast, (self.id, self._ref)


class _WorkerBroadcast:
    """A broadcast as a task sees it; loads at first use, and keeps the most recent ones."""

    def __init__(self, id: int, ref: BlockRef) -> None:
        self.id = id
        self._ref = ref

    @property
    def value(self) -> Any:
        environment = current_environment()
        if environment is None:
            return pickle.loads(read_bytes(self._ref))
        kept = environment.broadcast_values
        if self.id not in kept:
            kept[self.id] = pickle.loads(read_bytes(self._ref))
            if len(kept) > BROADCASTS_CACHED_MAX:
                kept.popitem(last=False)
        kept.move_to_end(self.id)
        return kept[self.id]

    def __reduce__(self) -> tuple[Any, ...]:
        return _WorkerBroadcast, (self.id, self._ref)


def broadcast_payload(value: Any) -> bytes:
    """The value as bytes; raises UnpicklableError."""
    try:
        return dumps(value)
    except Exception as error:
        raise UnpicklableError(f"the broadcast value cannot be pickled: {error}") from error


class Accumulator(Generic[T]):
    """A sum to which tasks add and that the driver reads (row RDD-2).

    Each task counts once, however often it had to be tried. Made by ``EngineContext.accumulator``.
    """

    def __init__(self, start: T, add: Callable[[T, Any], T], name: str = "") -> None:
        self.id = next(_ids)
        self.name = name
        self._add = add
        self._value: T = _copy(start)

    @property
    def value(self) -> T:
        """The sum of all finished tasks; only the driver may read it."""
        if current_environment() is not None:
            raise LifecycleError("an accumulator cannot be read inside of a task, only added to")
        return self._value

    def add(self, term: Any) -> None:
        """Add ``term``, in a task or in the driver."""
        environment = current_environment()
        if environment is None:
            self._value = self._add(self._value, term)
        else:
            _add_in_task(self.id, self._add, term)

    def __iadd__(self, term: Any) -> Accumulator[T]:
        self.add(term)
        return self

    def merge(self, partial: Any) -> None:
        """Add what one task summed up; called by the engine once a task."""
        self._value = self._add(self._value, partial)

    def __reduce__(self) -> tuple[Any, ...]:
        return _WorkerAccumulator, (self.id, self._add)


class _WorkerAccumulator:
    """An accumulator as a task sees it."""

    def __init__(self, id: int, add: Callable[[Any, Any], Any]) -> None:
        self.id = id
        self._add = add

    @property
    def value(self) -> Any:
        raise LifecycleError("an accumulator cannot be read inside of a task, only added to")

    def add(self, term: Any) -> None:
        _add_in_task(self.id, self._add, term)

    def __iadd__(self, term: Any) -> _WorkerAccumulator:
        self.add(term)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _WorkerAccumulator, (self.id, self._add)


def _add_in_task(id: int, add: Callable[[Any, Any], Any], term: Any) -> None:
    """Sum up the terms of one task; what the accumulator starts from is the driver's alone."""
    environment = current_environment()
    if environment is not None:
        sums = environment.accumulators
        # ``add`` may change its first argument, which must not be a record or a constant of the user.
        sums[id] = add(sums[id], term) if id in sums else _copy(term)


def _copy(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bytes | tuple) else pickle.loads(dumps(value))
