"""Which version of a state a worker holds, and when it says that it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiostream_engine.blocks.storage import BlockWriter, read_bytes
from aiostream_engine.errors import StorageError
from aiostream_engine.executors.base import StateDirective
from aiostream_engine.executors.keyed_state import block_on_disk, held_store
from aiostream_engine.executors.task import StateMissing, TaskEnvironment
from aiostream_engine.state.disk_store import DiskStore
from aiostream_engine.state.store import Changes, MemoryStore
from aiostream_engine.types import BlockRef


@pytest.fixture
def environment(tmp_path: Path) -> TaskEnvironment:
    return TaskEnvironment(BlockWriter(str(tmp_path), str(tmp_path), "b"))


def directive(base: int, target: int, restore: Any = None, memory_bytes_max: int = 0) -> StateDirective:
    return StateDirective("counts", 0, base, target, restore, memory_bytes_max=memory_bytes_max)


def held(environment: TaskEnvironment, wanted: StateDirective, *, mapped: bool = False) -> MemoryStore:
    return held_store(environment, wanted, "counts", mapped=mapped)


def advanced(store: MemoryStore, version: int) -> MemoryStore:
    changes = store.changes()
    changes.changed["key"] = version
    store.apply(changes, version)
    return store


@pytest.mark.parametrize("memory_bytes_max", [0, 100_000])
def test_a_state_begins_empty_and_stays(environment: TaskEnvironment, memory_bytes_max: int) -> None:
    store = held(environment, directive(0, 1, None, memory_bytes_max))
    assert isinstance(store, DiskStore) == bool(memory_bytes_max)
    assert (len(store.entries), store.version) == (0, 0)
    advanced(store, 1)
    assert held(environment, directive(1, 2, None, memory_bytes_max)) is store


def test_a_batch_that_is_run_again_is_undone_if_its_records_are_not_in_the_state(
    environment: TaskEnvironment,
) -> None:
    store = advanced(advanced(held(environment, directive(0, 1)), 1), 2)
    assert held(environment, directive(1, 2)).version == 2
    assert held(environment, directive(1, 2), mapped=True).version == 1
    assert store.entries["key"] == 1


def test_a_batch_whose_block_was_lost_is_run_again_from_the_chain(environment: TaskEnvironment) -> None:
    """Its task failed behind the state: without a block the changes would be in no chain."""
    wanted = directive(1, 2)._replace(changelog=True)
    first = advanced(advanced(held(environment, directive(0, 1)), 1), 2)
    with pytest.raises(StateMissing):
        held(environment, wanted)
    chain = (BlockRef("pickle", Changes({"key": 1}).dump()),)
    store = held(environment, wanted._replace(restore=chain))
    assert (dict(store.entries), store.version) == ({"key": 1}, 1)
    assert store is not first


def test_a_first_batch_whose_block_was_lost_begins_from_nothing(environment: TaskEnvironment) -> None:
    advanced(held(environment, directive(0, 1)), 1)
    store = held(environment, directive(0, 1)._replace(changelog=True))
    assert (len(store.entries), store.version) == (0, 0)


def test_a_version_that_is_not_held_is_asked_for_and_loaded(environment: TaskEnvironment) -> None:
    with pytest.raises(StateMissing):
        held(environment, directive(4, 5))
    chain = (BlockRef("pickle", Changes({"key": 3}).dump()), BlockRef("pickle", Changes({"other": 4}).dump()))
    store = held(environment, directive(4, 5, chain))
    assert (dict(store.entries), store.version) == ({"key": 3, "other": 4}, 4)


def test_a_store_that_failed_is_asked_for_and_never_passes_for_an_empty_one(
    environment: TaskEnvironment,
) -> None:
    store = advanced(held(environment, directive(0, 1, None, 100_000)), 1)
    store.close()
    assert isinstance(store, DiskStore)
    with pytest.raises(StateMissing):
        held(environment, directive(1, 2, None, 100_000))
    with pytest.raises(StorageError, match="'counts'"):
        held(environment, directive(1, 2, (), 100_000))
    chain = (BlockRef("pickle", Changes({"key": 1}).dump()),)
    assert dict(held(environment, directive(1, 2, chain, 100_000)).entries.items()) == {"key": 1}


def test_a_block_on_disk_is_written_as_it_comes_and_a_tiny_one_needs_no_file(tmp_path: Path) -> None:
    writer = BlockWriter(str(tmp_path / "nowhere"), str(tmp_path), "b")
    assert block_on_disk(writer, [b"a", b"b"]) == BlockRef("pickle", b"ab")
    block = block_on_disk(writer, (bytes([number]) * 3000 for number in range(9)))
    assert (block.data, block.length, Path(block.path).parent) == (None, 27_000, tmp_path)
    assert bytes(read_bytes(block)) == b"".join(bytes([number]) * 3000 for number in range(9))


def test_a_block_whose_parts_cannot_be_made_leaves_no_file(tmp_path: Path) -> None:
    def parts() -> Any:
        yield bytes(10_000)
        raise TypeError("not this one")

    with pytest.raises(TypeError, match="not this one"):
        block_on_disk(BlockWriter(str(tmp_path), str(tmp_path), "b"), parts())
    assert list(tmp_path.iterdir()) == []
