"""Change a keyed state as a whole: over another number of partitions, or to another form of its values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..blocks.storage import read_bytes
from ..errors import ConfigurationError
from ..state.store import MemoryStore
from ..types import BlockRef

__all__ = ["Lookup", "dealt_anew", "migrated"]

Lookup = Callable[[Any], int]
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
) -> list[bytes]:
    """A state's partitions as snapshots over another number of partitions (scenario H7); blocking.

    change: gives the new state of a key, None to drop it (scenario H4).
    Raises ConfigurationError when what is stored cannot be loaded, or ``change`` raises.
    """
    stores = [MemoryStore() for _ in range(partitions)]
    for chain in chains:
        whole = _loaded(step, chain)
        for key, state in whole.entries.items():
            new = state if change is None else _changed(step, change, key, state)
            if new is None and change is not None:
                continue
            store = stores[lookup(key)]
            store.entries[key] = new
            if key in whole.touched:
                store.touched[key] = whole.touched[key]
    for store in stores:
        store.touched = dict(sorted(store.touched.items(), key=lambda item: item[1]))
    return [store.snapshot() for store in stores]


def _loaded(step: str, chain: Sequence[BlockRef]) -> MemoryStore:
    try:
        return MemoryStore.restore((read_bytes(block) for block in chain), 0)
    except (AttributeError, ImportError) as error:
        raise ConfigurationError(
            f"the state of step {step!r} cannot be loaded: {error}. Classes that it holds must be found "
            "under their old names"
        ) from error


def _changed(step: str, change: Change, key: Any, state: Any) -> Any:
    try:
        return change(key, state)
    except Exception as error:
        raise ConfigurationError(
            f"migrate of step {step!r} raised for key {key!r}: {type(error).__name__}: {error}"
        ) from error
