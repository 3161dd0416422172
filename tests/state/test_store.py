"""The state of one partition: applied as a whole, undone as a whole, rebuilt from its chain."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiostream_engine.errors import CorruptionError
from aiostream_engine.state.store import Changes, MemoryStore


def content(store: MemoryStore) -> Any:
    return dict(store.entries), list(store.touched.items()), store.version


def changes(
    changed: dict[Any, Any] | None = None, removed: Any = (), touched: dict[Any, int] | None = None
) -> Changes:
    return Changes(changed or {}, list(removed), touched or {})


def test_a_batch_changes_adds_and_removes() -> None:
    store = MemoryStore()
    store.apply(changes({"a": 1, "b": 2}), 1)
    store.apply(changes({"a": 3, "c": 4}, ["b"]), 2)
    assert (store.entries, store.version) == ({"a": 3, "c": 4}, 2)


def test_the_oldest_touch_comes_first() -> None:
    store = MemoryStore()
    store.apply(changes({"a": 1, "b": 1}, touched={"a": 10, "b": 10}), 1)
    store.apply(changes({"c": 1}, touched={"a": 20, "c": 20}), 2)
    assert list(store.touched.items()) == [("b", 10), ("a", 20), ("c", 20)]


def test_the_last_batch_can_be_undone_once() -> None:
    store = MemoryStore()
    store.apply(changes({"a": 1, "b": 2}, touched={"a": 10, "b": 10}), 1)
    before = content(store)
    store.apply(changes({"a": 9, "c": 3}, ["b"], {"a": 20, "c": 20}), 2)
    assert store.can_roll_back_to(1)
    assert not store.can_roll_back_to(0)
    store.rollback()
    assert content(store) == before
    assert not store.can_roll_back_to(0)


def test_undoing_a_batch_that_only_removed_idle_keys_brings_their_times_back() -> None:
    store = MemoryStore()
    store.apply(changes({"a": 1, "b": 2}, touched={"a": 10, "b": 20}), 1)
    before = content(store)
    store.apply(changes(removed=["a"]), 2)
    store.rollback()
    assert content(store) == before


def test_a_chain_of_changes_rebuilds_the_store() -> None:
    store = MemoryStore()
    chain = []
    for version, batch in enumerate(
        [
            changes({"a": 1, "b": 2}, touched={"a": 10, "b": 10}),
            changes({"a": 5}, ["b"], {"a": 20}),
            changes({"c": 1}, touched={"c": 30}),
        ],
        1,
    ):
        store.apply(batch, version)
        chain.append(batch.dump())
    assert content(MemoryStore.restore(chain, 3)) == content(store)
    assert content(MemoryStore.restore([store.snapshot()], 3)) == content(store)


def test_a_snapshot_stands_for_the_chain_before_it() -> None:
    store = MemoryStore()
    store.apply(changes({"a": 1}, touched={"a": 10}), 1)
    snapshot = store.snapshot()
    later = changes({"b": 2}, touched={"b": 20})
    store.apply(later, 2)
    assert content(MemoryStore.restore([snapshot, memoryview(later.dump())], 2)) == content(store)


def test_a_block_of_another_kind_is_refused() -> None:
    with pytest.raises(CorruptionError, match="unknown kind 'mystery'"):
        MemoryStore.restore([pickle.dumps(("mystery", {}))], 1)


batches = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 5), st.integers(), max_size=3),
        st.lists(st.integers(0, 5), max_size=3, unique=True),
        st.lists(st.integers(0, 5), max_size=3, unique=True),
    ),
    max_size=8,
)


@given(batches=batches)
def test_undoing_and_running_again_is_as_running_once(batches: list[Any]) -> None:
    once, twice, chain = MemoryStore(), MemoryStore(), []
    for version, (changed, removed, touched) in enumerate(batches, 1):
        batch = changes(changed, [k for k in removed if k not in changed], dict.fromkeys(touched, version))
        once.apply(batch, version)
        twice.apply(batch, version)
        twice.rollback()
        twice.apply(batch, version)
        chain.append(batch.dump())
    assert content(twice) == content(once)
    assert content(MemoryStore.restore(chain, len(batches))) == content(once)
