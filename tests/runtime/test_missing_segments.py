"""A journal without its oldest part never makes a source begin anew in silence."""

from __future__ import annotations

import pytest

from aiostream_engine.durable.checkpoint_directory import CheckpointDirectory
from aiostream_engine.durable.journal_reader import ScanResult, scan
from aiostream_engine.durable.seal import Seal
from aiostream_engine.errors import CorruptionError
from aiostream_engine.runtime.checkpoint import CheckpointWriter
from aiostream_engine.runtime.records import FrozenBatch, FrozenInput, Position
from aiostream_engine.runtime.recovery import recover

SEAL = Seal(b"a key for this test")


async def write(path, positions):
    """A journal of one segment a batch. positions: of each batch."""
    directory = CheckpointDirectory(str(path))
    writer = CheckpointWriter(directory, 0, 0, SEAL, segment_bytes=1)
    await writer.opened(0, 100)
    for number, position in enumerate(positions, 1):
        head = {"batch": number, "time": 100 * number, "missed": 0, "parallelism": 1, "steps": {}}
        inputs = {"lines": FrozenInput((), {"records": 0, "bytes": 0, "metadata": {}})}
        moved = {"lines": position} if position is not None else {}
        await writer.intent(FrozenBatch(number, head, inputs, moved))
        content = {"zero_ms": 0, "interval_ms": 100, "fired": {}, "horizons": {}, "tokens": {}}
        await writer.commit(number, 100 * number, [], [], content)
        await writer.collect_garbage()
    await writer.aclose()
    return path / "journal"


def without_oldest(journal):
    """Remove the segments up to the one that holds the whole position."""
    segments = sorted(journal.glob("*.log"))
    for path in segments:
        found = b'"whole"' in path.read_bytes()
        path.unlink()
        if found:
            return
    raise AssertionError("no position there")


def numbers(journal):
    return [record.payload.number for record in scan(str(journal), ScanResult())]


@pytest.mark.parametrize("later", [[None, None], [Position(6, True), None], [None, Position(6, True)]])
async def test_a_position_whose_segment_is_gone_is_corruption(tmp_path, later):
    """C8: whether it was moved since, or nothing in the journal speaks of it any more."""
    journal = await write(tmp_path / "checkpoint", [Position(5, False), *later])
    assert recover(str(journal), SEAL, settle=False).positions["lines"].whole == 5
    without_oldest(journal)
    with pytest.raises(CorruptionError, match=r"begins with record \d+, but record \d+ is still needed"):
        recover(str(journal), SEAL, settle=False)


async def test_what_is_not_needed_any_more_is_removed_and_not_missed(tmp_path):
    journal = await write(tmp_path / "checkpoint", [Position(5, False), None, Position(7, False), None, None])
    assert min(numbers(journal)) > 2
    assert recover(str(journal), SEAL, settle=False).positions["lines"].whole == 7
