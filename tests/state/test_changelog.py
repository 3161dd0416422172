"""What a batch writes of a partition, and what comes back of a chain that a sweep made short."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from aiostream_engine.state import sweep
from aiostream_engine.state.budget import Budget
from aiostream_engine.state.changelog import LogBlock, log_block
from aiostream_engine.state.disk_store import DiskStore
from aiostream_engine.state.store import MemoryStore


def on_disk() -> DiskStore:
    return DiskStore(tempfile.gettempdir(), Budget(2000), "counts")


@pytest.fixture(params=[MemoryStore, on_disk], ids=["memory", "disk"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryStore]:
    monkeypatch.setattr(sweep, "_KEYS", (1, 1))
    store = request.param()
    yield store
    store.close()


class Chain:
    """The blocks of a store, as the driver keeps them."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.blocks: list[tuple[int, bytes]] = []

    def batch(self, changed: dict[Any, Any], removed: tuple[Any, ...] = (), sweep_bytes: int = 0) -> LogBlock:
        store = self.store
        changes = store.changes()
        changes.changed.update(changed)
        changes.touched.update(dict.fromkeys(changed, store.version))
        changes.removed.extend(removed)
        store.apply(changes, store.version + 1)
        block = log_block(store, changes, sweep_bytes, store.sweep.began if store.sweep else 0)
        assert block is not None
        self.blocks.append((store.version, b"".join(block.parts)))
        if block.is_snapshot:
            self.blocks = self.blocks[-1:]
        elif block.sweep is not None and block.sweep.done:
            began = block.sweep.began
            self.blocks = [item for item in self.blocks if item[0] >= began]
        return block

    def restored(self) -> tuple[list[Any], list[Any]]:
        store = MemoryStore.restore([block for _, block in self.blocks], self.store.version)
        return list(store.entries.items()), list(store.touched.items())

    def restored_on_disk(self) -> tuple[list[Any], list[Any]]:
        store = on_disk()
        store.load([block for _, block in self.blocks])
        found = list(store.entries.items()), list(store.touched.items())
        store.close()
        return found


def test_what_changes_while_it_is_swept_stands_where_it_stood(store: MemoryStore) -> None:
    """A key that went and came again is the youngest, one that only changed is not; as in a dict."""
    chain = Chain(store)
    chain.batch(dict.fromkeys("abcdefgh", "first"))
    chain.batch({"b": "second"}, ("a",), sweep_bytes=1)
    chain.batch({"h": "third", "new": "third"}, ("e", "f"), sweep_bytes=1)
    chain.batch({"e": "fourth"}, sweep_bytes=1)
    chain.batch({"c": "fifth"}, ("b",), sweep_bytes=1)
    for _ in range(20):
        if chain.batch({"new": "last"}, sweep_bytes=1).swept[2]:
            break
    assert chain.blocks[0][0] == 2
    expected = [
        ("c", "fifth"),
        ("d", "first"),
        ("g", "first"),
        ("h", "third"),
        ("new", "last"),
        ("e", "fourth"),
    ]
    assert list(store.entries.items()) == expected
    times = list(store.touched.items())
    assert chain.restored() == chain.restored_on_disk() == (expected, times)


def test_a_chain_with_half_a_sweep_is_the_state_as_well(store: MemoryStore) -> None:
    chain = Chain(store)
    chain.batch(dict.fromkeys("abcdefgh", "first"))
    for sweep_bytes in (1, 1, 0, 1, 1):  # the one in the middle gives it up
        chain.batch({"c": sweep_bytes, "new": 1}, sweep_bytes=sweep_bytes)
        expected = list(store.entries.items()), list(store.touched.items())
        assert chain.restored() == chain.restored_on_disk() == expected
    assert len(chain.blocks) == 6


def test_a_slice_takes_no_more_than_was_asked_for_and_a_piece(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "PIECE_BYTES", 1000)
    monkeypatch.setattr(sweep, "_KEYS", (1, 4096))
    chain = Chain(store)
    chain.batch({number: f"{number:0100}" for number in range(2000)})
    slices = 0
    while not (block := chain.batch({5: "y"}, sweep_bytes=10_000)).swept[2]:
        slices += 1
        assert block.swept[1] <= 12_000
        assert len(chain.blocks[-1][1]) < 15_000
    assert slices > 10
    assert sum(len(content) for _, content in chain.blocks) < 2.5 * 2000 * 100


def test_a_small_state_is_written_at_once(store: MemoryStore) -> None:
    chain = Chain(store)
    chain.batch(dict.fromkeys("abcdefgh", "first"))
    assert chain.batch({"c": "second"}, sweep_bytes=100_000).is_snapshot
    assert len(chain.blocks) == 1
    assert chain.restored()[0] == list(store.entries.items())


def test_a_batch_that_changes_most_keys_writes_the_state_instead(store: MemoryStore) -> None:
    chain = Chain(store)
    chain.batch(dict.fromkeys("abcdefgh", "first"))
    assert chain.batch(dict.fromkeys("abcde", "second"), sweep_bytes=1).is_snapshot
    assert len(chain.blocks) == 1
    assert chain.restored()[0] == list(store.entries.items())


def test_a_state_that_became_empty_is_swept(store: MemoryStore) -> None:
    chain = Chain(store)
    chain.batch(dict.fromkeys("abcdefgh", "first"))
    chain.batch({}, ("a", "b"), sweep_bytes=1)
    block = chain.batch({}, tuple("cdefgh"), sweep_bytes=0)
    for _ in range(3):
        block = chain.batch({}, ("a",), sweep_bytes=1)
    assert block.is_snapshot
    assert chain.restored() == ([], [])


def test_nothing_is_written_of_a_batch_without_changes(store: MemoryStore) -> None:
    assert log_block(store, store.changes()) is None


def test_an_undone_batch_gives_its_sweep_up(store: MemoryStore) -> None:
    chain = Chain(store)
    chain.batch(dict.fromkeys("abcdefgh", "first"))
    chain.batch({"c": "second"}, sweep_bytes=1)
    store.rollback()
    chain.blocks.pop()
    assert chain.batch({"c": "third"}, sweep_bytes=1).swept[0] == store.version
