"""Change a keyed state as a whole: over another number of partitions, or to another form of its values."""

from __future__ import annotations

import heapq
import operator
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ConfigurationError
from ..state.store import MemoryStore
from ..types import BlockRef

__all__ = ["Change", "Lookup", "NewStore", "dealt_anew", "migrated"]

Lookup = Callable[[Any], int]
NewStore = Callable[[], MemoryStore]
Change = Callable[[Any, Any], Any]


def migrated(migrate: Callable[[int, Any, Any], Any], schema: int) -> Change:
    """``migrate(old version, key, state)`` as a function of key and state."""
    return lambda key, state: migrate(schema, key, state)


def dealt_anew(
    step: str,
    chains: Sequence[Sequence[BlockRef]],
    partitions: int,
    lookup: Lookup,
    change: Change | None = None,
    new_store: NewStore = MemoryStore,
) -> list[MemoryStore]:
    """A state's partitions over another number of partitions (scenario H7); blocking.

    change: gives the new state of a key, None to drop it (scenario H4).
    Raises ConfigurationError when what is stored cannot be loaded, or ``change`` raises.
    """
    stores = [new_store() for _ in range(partitions)]
    wholes = [_loaded(step, chain, new_store()) for chain in chains]
    for whole in wholes:
        for key, state in whole.entries.items():
            new = state if change is None else _changed(step, change, key, state)
            if new is not None or change is None:
                stores[lookup(key)].entries[key] = new
    times = [whole.touched.items() for whole in wholes]  # each has the oldest first
    for key, at in heapq.merge(*times, key=operator.itemgetter(1)):
        store = stores[lookup(key)]
        if key in store.entries:
            store.touched[key] = at
    return stores


def _loaded(step: str, chain: Sequence[BlockRef], store: MemoryStore) -> MemoryStore:
    try:
        store.load(chain)
    except (AttributeError, ImportError) as error:
        raise ConfigurationError(
            f"the state of step {step!r} cannot be loaded: {error}. Classes that it holds must be found "
            "under their old names"
        ) from error
    return store


def _changed(step: str, change: Change, key: Any, state: Any) -> Any:
    try:
        return change(key, state)
    except Exception as error:
        raise ConfigurationError(
            f"migrate of step {step!r} raised for key {key!r}: {type(error).__name__}: {error}"
        ) from error
