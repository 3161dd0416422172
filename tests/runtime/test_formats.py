"""Checkpoint directories of every format that was ever released are opened by this version."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from aiostream_engine.blocks.formats import read_chunks
from aiostream_engine.blocks.storage import read_bytes
from aiostream_engine.durable.seal import Seal
from aiostream_engine.runtime.recovery import recover
from aiostream_engine.state.store import MemoryStore
from tests.faults.world import KEY, World, script
from tests.runtime.make_format_fixtures import BATCHES, FIXTURES

FORMATS = sorted({path.name.split("-")[1] for path in FIXTURES.iterdir()})


def copied(name: str, target: Path) -> Path:
    """A fixture with the modes that a checkpoint directory needs, which git does not keep."""
    shutil.copytree(FIXTURES / name, target)
    for path in [target, *target.rglob("*")]:
        os.chmod(path, 0o700 if path.is_dir() else 0o600)
    return target


def test_there_is_a_fixture_of_each_format() -> None:
    assert FORMATS == ["1"]


@pytest.mark.parametrize("number", FORMATS)
async def test_a_stream_goes_on_from_a_directory_of_an_earlier_version(tmp_path: Path, number: str) -> None:
    """The upgrade promise: committed batches count, a batch that was begun is finished, state is there."""
    items = script(BATCHES)
    whole = World(str(tmp_path / "whole"), items)
    assert await whole.run() is None
    expected = whole.outputs()
    # The outside has all, and refuses a repetition with other content.
    world = World(
        str(copied(f"format-{number}-stream", tmp_path / "cp")), items, outside=whole.outside, time_s=4.0
    )
    assert await world.run() is None
    assert world.outside.rewritten > 0
    assert world.outputs() == expected


@pytest.mark.parametrize("number", FORMATS)
def test_each_kind_of_record_is_understood(tmp_path: Path, number: str) -> None:
    """H5: whatever a later version writes, it reads this."""
    directory = copied(f"format-{number}-records", tmp_path / "cp")
    found = recover(str(directory / "journal"), Seal(KEY))
    assert (found.batch, found.time, found.zero_ms, found.interval_ms) == (1, 1000, 0, 1000)
    assert found.commit["fired"] == {"totals": 1000}
    assert found.commit["tokens"] == {"sink": [["t", 1]]}
    (pending,) = found.pending
    (block,) = pending.inputs["input"].blocks
    assert (block.format, block.path, block.offset, block.length) == ("file-lines", "/data/lines", 10, 20)
    assert block.args == ("utf-8", "strict", None)
    assert (pending.time, pending.layout.parallelism) == (2000, 2)
    position = found.positions["input"]
    assert (position.whole, position.changes) == ({"at": 1}, [{"add": 2}])
    assert [list(read_chunks(block)) for block in found.leftovers["mail"]] == [[["second letter"]]]
    parts = {name: found.kept[name][1000] for name in ("a", "b", "c")}
    assert (
        list(read_chunks(parts["a"][0].blocks[0]))
        == list(read_chunks(parts["b"][0].blocks[0]))
        == [["first letter"]]
    )
    assert list(read_chunks(parts["c"][1].blocks[0])) == [["kept"]]
    states = found.states["state of s"]
    assert (states.partitions, states.schema, sorted(states.chains)) == (2, 1, [0, 1])
    store = MemoryStore.restore([read_bytes(block) for block in states.chains[0].blocks], 1)
    assert store.entries == {"a": 1}
