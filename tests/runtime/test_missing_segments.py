"""A journal without its oldest part never makes a source begin anew in silence."""

from __future__ import annotations

import pytest

from aiostream_engine.durable.checkpoint_directory import CheckpointDirectory
from aiostream_engine.durable.journal_reader import ScanResult, scan
from aiostream_engine.durable.seal import Seal
from aiostream_engine.errors import CorruptionError
from aiostream_engine.runtime.checkpoint import CheckpointWriter
from aiostream_engine.runtime.records import FrozenBatch, FrozenInput, Kind, Position
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


async def decided(writer, number):
    """A batch that is made true by a transaction outside."""
    await begun(writer, number)
    await writer.confirm(await prepared(writer, number))
    await writer.collect_garbage()


async def begun(writer, number):
    head = {"batch": number, "time": 100 * number, "missed": 0, "parallelism": 1, "steps": {}}
    inputs = {"lines": FrozenInput((), {"records": 0, "bytes": 0, "metadata": {}})}
    await writer.intent(FrozenBatch(number, head, inputs, {"lines": Position(number, False)}))


async def prepared(writer, number):
    content = {"zero_ms": 0, "interval_ms": 100, "fired": {}, "horizons": {}, "tokens": {}}
    content["commit_point"] = "outside"
    return await writer.prepare(number, 100 * number, [], [], content)


async def confirmed_by_the_next_driver(path, later):
    """Batch 1 is prepared by a driver, and confirmed by the next, which runs ``later`` more batches."""
    directory = CheckpointDirectory(str(path))
    writer = CheckpointWriter(directory, 0, 0, SEAL)
    await writer.opened(0, 100)
    await begun(writer, 1)
    await prepared(writer, 1)
    await writer.aclose()
    journal = path / "journal"
    found = recover(str(journal), SEAL, settle=False)
    writer = CheckpointWriter(directory, found.number, found.checksum, SEAL, found.live)
    await writer.confirm_found(1, 100, found.prepared.number)
    await writer.opened(0, 100)
    for number in range(2, 2 + later):
        await decided(writer, number)
    await writer.aclose()
    return journal


@pytest.mark.parametrize("later", [2, 5])
async def test_a_commit_in_front_may_name_what_was_prepared_in_a_segment_that_is_gone(tmp_path, later):
    """C8: what it made true is in the commits after it, which need nothing of it."""
    journal = await confirmed_by_the_next_driver(tmp_path / "checkpoint", later)
    kinds = [record.kind for record in scan(str(journal), ScanResult())]
    assert kinds[0] == Kind.COMMIT, "this is not the case"
    found = recover(str(journal), SEAL, settle=False)
    assert (found.batch, found.positions["lines"].whole, found.pending) == (1 + later, 1 + later, [])


async def test_a_commit_in_front_is_corruption_where_no_later_one_says_what_it_said(tmp_path):
    """C8: what was prepared is gone, and the commit alone tells no state."""
    journal = await confirmed_by_the_next_driver(tmp_path / "checkpoint", 0)
    sorted(journal.glob("*.log"))[0].unlink()
    assert next(record.kind for record in scan(str(journal), ScanResult())) == Kind.COMMIT
    with pytest.raises(CorruptionError, match=r"begins with record \d+, but record \d+ is still needed"):
        recover(str(journal), SEAL, settle=False)
