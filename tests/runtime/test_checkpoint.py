"""The journal of one driver: what is written once, kept as long as it is needed, and found by recovery."""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine.blocks.formats import read_chunks
from aiostream_engine.config import CheckpointConfig
from aiostream_engine.durable.files import Files
from aiostream_engine.durable.journal import Journal
from aiostream_engine.durable.journal_reader import ScanResult, scan
from aiostream_engine.durable.lock import DirectoryInUseError
from aiostream_engine.durable.repair import end_after
from aiostream_engine.durable.seal import SEAL_BYTES, Seal, digest_of
from aiostream_engine.errors import ConfigurationError, CorruptionError, StorageError
from aiostream_engine.runtime import checkpoint, checkpointing, records
from aiostream_engine.runtime.checkpoint import CheckpointWriter
from aiostream_engine.runtime.checkpointing import CheckpointSession
from aiostream_engine.runtime.records import (
    FrozenBatch,
    FrozenInput,
    KeptBlock,
    Kind,
    Position,
    StateChange,
    seal_record,
)
from aiostream_engine.runtime.recovered import Recovered
from aiostream_engine.runtime.recovery import recover
from aiostream_engine.state.store import Changes
from aiostream_engine.testing import FaultFiles
from aiostream_engine.types import BlockRef

KEY = b"a key for tests"
Open = Callable[..., Any]


@pytest.fixture
async def open_writer(tmp_path: Path) -> AsyncIterator[Open]:
    sessions: list[CheckpointSession] = []

    async def start(files: Files | None = None, **options: Any) -> CheckpointWriter:
        config = CheckpointConfig(str(tmp_path / "cp"), key=KEY, **options)
        session = await CheckpointSession.open(config, files)
        sessions.append(session)
        await session.writer.opened(0, 1000)
        return session.writer

    yield start
    for session in sessions:
        await session.aclose()


def pickled(*records: Any) -> BlockRef:
    data = pickle.dumps(list(records))
    return BlockRef("pickle", data, "", 0, len(data), len(records))


def batch(number: int, *blocks: BlockRef, name: str = "input", **positions: Position) -> FrozenBatch:
    head = {"batch": number, "time": number * 1000, "missed": 0, "parallelism": 2, "steps": {}}
    plain = {"records": -1, "bytes": 0, "metadata": {}}
    return FrozenBatch(number, head, {name: FrozenInput(blocks, plain)}, positions)


async def commit(writer: CheckpointWriter, number: int, **parts: Any) -> None:
    content = {
        "zero_ms": 0,
        "interval_ms": 1000,
        "fired": {},
        "horizons": parts.get("horizons", {}),
        "tokens": parts.get("tokens", {}),
    }
    await writer.commit(number, number * 1000, parts.get("states", []), parts.get("kept", []), content)
    await writer.collect_garbage()


def recovered(tmp_path: Path) -> Recovered:
    """What the next driver would find."""
    return recover(str(tmp_path / "cp" / "journal"), Seal(KEY), settle=False)


def shorten(path: Path, size: int) -> None:
    """Cut bytes off the last record of a segment, and the room behind it."""
    os.truncate(path, end_after(str(path.parent))[0].offset - size)


def records_of(*blocks: BlockRef) -> list[Any]:
    return [record for block in blocks for chunk in read_chunks(block) for record in chunk]


# -- receivers ---------------------------------------------------------------------------------------


async def test_logged_blocks_without_a_batch_are_given_to_the_next_one(
    tmp_path: Path, open_writer: Open
) -> None:
    """E21, B1: a record is there after its acknowledgement; small blocks have no path, and are told apart."""
    writer = await open_writer()
    for number in range(3):
        await writer.log_blocks("mail", [pickled(number), pickled(f"{number} again")])
    assert records_of(*recovered(tmp_path).leftovers["mail"]) == [0, "0 again", 1, "1 again", 2, "2 again"]


async def test_a_logged_block_is_written_once(tmp_path: Path, open_writer: Open) -> None:
    """E21: the intent names the record that is there; equal blocks are different ones."""
    writer = await open_writer()
    first, second = pickled("same"), pickled("same")
    await writer.log_blocks("input", [first])
    await writer.log_blocks("input", [second])
    before = writer.statistics.records
    await writer.intent(batch(1, first, second, pickled("not logged")))
    assert writer.statistics.records - before == 2
    found = recovered(tmp_path)
    assert found.leftovers == {}
    assert records_of(*found.pending[0].inputs["input"].blocks) == ["same", "same", "not logged"]


async def test_a_block_that_is_cut_while_it_is_being_logged_is_not_doubled(
    tmp_path: Path, open_writer: Open
) -> None:
    """E21: the cut came between the queueing of the block and its sync."""
    writer = await open_writer()
    block = pickled("hasty")
    log = asyncio.create_task(writer.log_blocks("input", [block]))
    await asyncio.sleep(0)
    await writer.intent(batch(1, block))
    await log
    found = recovered(tmp_path)
    assert found.leftovers == {}
    assert records_of(*found.pending[0].inputs["input"].blocks) == ["hasty"]


async def test_blocks_count_only_with_the_intent_that_wrote_them(tmp_path: Path, open_writer: Open) -> None:
    """B1, B5: a source that can replay gives them again."""
    writer = await open_writer()
    await writer.intent(batch(1, pickled("a"), pickled("b")))
    (path,) = (tmp_path / "cp" / "journal").glob("*.log")
    records = list(scan(str(path.parent), ScanResult()))
    assert [record.kind for record in records] == [Kind.OPEN, Kind.BLOCK, Kind.BLOCK, Kind.INTENT]
    shorten(path, 5)  # the crash came before the intent was whole
    found = recovered(tmp_path)
    assert (found.pending, found.leftovers) == ([], {})


async def test_what_waits_together_is_synced_together(open_writer: Open) -> None:
    """C14: group commit."""
    writer = await open_writer()
    before = writer.statistics.syncs
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(writer.log_blocks("mail", [pickled(number)]))
    assert writer.statistics.syncs - before <= 2


# -- batches -----------------------------------------------------------------------------------------


async def test_a_batch_is_pending_from_its_intent_to_its_commit(tmp_path: Path, open_writer: Open) -> None:
    """B1, B5, B13."""
    writer = await open_writer()
    await writer.intent(batch(1, pickled("one")))
    await writer.intent(batch(2, pickled("two")))
    assert [intent.batch for intent in recovered(tmp_path).pending] == [1, 2]
    await commit(writer, 1, tokens={"sink": [1, "x"]})
    found = recovered(tmp_path)
    assert [(intent.batch, intent.time) for intent in found.pending] == [(2, 2000)]
    assert (found.batch, found.time, found.last_time) == (1, 1000, 2000)
    assert found.commit["tokens"] == {"sink": [1, "x"]}
    assert records_of(*found.pending[0].inputs["input"].blocks) == ["two"]


async def test_changes_of_a_batch_without_a_commit_do_not_count(tmp_path: Path, open_writer: Open) -> None:
    """H1."""
    writer = await open_writer()
    await commit(writer, 1, states=[change(1, first=True, a=1)])
    await commit(writer, 2, states=[change(2, a=2)])
    (path,) = (tmp_path / "cp" / "journal").glob("*.log")
    shorten(path, 1)  # the STATE of batch 2 is whole, its COMMIT is not
    found = recovered(tmp_path)
    assert found.batch == 1
    assert found.states["state of s"].chains[0].version == 1


def change(
    version: int, *, first: bool = False, partitions: int = 1, partition: int = 0, **entries: Any
) -> StateChange:
    data = Changes(changed=entries).dump()
    block = BlockRef("pickle", data, "", 0, len(data))
    return StateChange("state of s", partition, partitions, version, first, block, version * 1000)


async def test_a_chain_begins_anew_with_a_snapshot_or_another_number_of_partitions(
    tmp_path: Path, open_writer: Open
) -> None:
    """H7."""
    writer = await open_writer()
    two = {"partitions": 2}
    await commit(writer, 1, states=[change(1, first=True, **two), change(1, first=True, partition=1, **two)])
    await commit(writer, 2, states=[change(2, **two), change(2, partition=1, **two)])
    await commit(writer, 3, states=[change(3, first=True, **two)])
    found = recovered(tmp_path).states["state of s"]
    assert {index: len(chain.records) for index, chain in found.chains.items()} == {0: 1, 1: 2}
    await commit(writer, 4, states=[change(1, first=True, partitions=1)])
    found = recovered(tmp_path).states["state of s"]
    assert (found.partitions, list(found.chains)) == (1, [0])
    assert list(writer.live.chains) == [("state of s", 0)]


async def test_what_is_no_plain_data_fails_its_call_and_not_the_journal(
    tmp_path: Path, open_writer: Open
) -> None:
    """A token or a position would come back as something else."""
    writer = await open_writer()
    with pytest.raises(ConfigurationError, match="must be plain data"):
        await commit(writer, 1, tokens={"sink": [Path("x")]})
    with pytest.raises(ConfigurationError, match="position of input 'input' must be plain data"):
        await writer.intent(batch(1, input=Position({1, 2}, False)))
    await writer.intent(batch(1, pickled("fine")))
    assert len(recovered(tmp_path).pending) == 1


async def test_positions_are_put_together_from_their_changes(tmp_path: Path, open_writer: Open) -> None:
    """B5: those of pending batches count, since these are run again as they were."""
    writer = await open_writer()
    await writer.intent(batch(1, input=Position({"at": 1}, False), other=Position([1], False)))
    await commit(writer, 1)
    await writer.intent(batch(2, input=Position({"add": 2}, True)))
    await writer.intent(batch(3, input=Position({"add": 3}, True), other=Position([3], False)))
    found = recovered(tmp_path).positions
    assert (found["input"].whole, found["input"].changes) == ({"at": 1}, [{"add": 2}, {"add": 3}])
    assert (found["other"].whole, found["other"].changes) == ([3], [])


# -- forgetting --------------------------------------------------------------------------------------


async def test_segments_go_when_nothing_needs_them(tmp_path: Path, open_writer: Open) -> None:
    """C14: any number of batches leaves a bounded number of files."""
    writer = await open_writer(segment_bytes=2000)
    for number in range(1, 200):
        await writer.intent(batch(number, pickled(number), input=Position(number, False)))
        await commit(writer, number)
    assert len(list((tmp_path / "cp" / "journal").glob("*.log"))) <= 3
    assert recovered(tmp_path).batch == 199


@pytest.mark.parametrize("holder", ["logged", "pending", "kept"])
async def test_a_block_stays_as_long_as_it_is_needed(tmp_path: Path, open_writer: Open, holder: str) -> None:
    """C14, B13: by a batch to come, by one that was begun long ago, by a window."""
    writer = await open_writer(segment_bytes=1000)
    block = pickled("needed")
    if holder == "logged":
        await writer.log_blocks("mail", [block])
    else:
        await writer.intent(batch(1, block))
    if holder == "kept":
        kept = KeptBlock(("w",), 0, 1, None, block)
        await commit(writer, 1, kept=[kept], horizons={"w": 0})
        assert writer.statistics.bytes < 2000, "its bytes are not written again"
    number = 1
    for number in range(2, 60):
        await writer.log_blocks("other", [other := pickled(number)])
        await writer.intent(batch(number, other, name="other"))
        if holder != "pending":
            await commit_any(writer, number, holder)
    found = recovered(tmp_path)
    if holder == "logged":
        assert records_of(*found.leftovers["mail"]) == ["needed"]
    elif holder == "pending":
        assert records_of(*found.pending[0].inputs["input"].blocks) == ["needed"]
    else:
        assert records_of(*found.kept["w"][1000][0].blocks) == ["needed"]
        await commit(writer, number + 1, horizons={"w": 1000})
        assert recovered(tmp_path).kept["w"] == {}
        await commit(writer, number + 2, horizons={"w": 1000})  # says that it is not needed
        assert len(list((tmp_path / "cp" / "journal").glob("*.log"))) <= 3


async def commit_any(writer: CheckpointWriter, number: int, holder: str) -> None:
    horizons = {"w": 0} if holder == "kept" else {}
    await commit(writer, number if holder == "kept" else number - 1, horizons=horizons)


async def test_a_state_that_is_idle_does_not_hold_the_journal(tmp_path: Path, open_writer: Open) -> None:
    """C14: it is said to be overdue, so that it is written again at the end."""
    writer = await open_writer(segment_bytes=1000)
    await commit(writer, 1, states=[change(1, first=True, a=1)])
    rewritten = 0
    for number in range(2, 300):
        await writer.intent(batch(number, input=Position(number, False)))
        states = [change(1, first=True, a=1) for _ in writer.overdue_chains()]
        rewritten += len(states)
        await commit(writer, number, states=states)
    assert 1 <= rewritten < 60
    assert len(list((tmp_path / "cp" / "journal").glob("*.log"))) < 12
    assert recovered(tmp_path).states["state of s"].chains[0].version == 1


# -- a disk that hangs -------------------------------------------------------------------------------


class Hanging(Files):
    """A sync that does not return until it is told to."""

    def __init__(self) -> None:
        self.hangs = False
        self.go_on = threading.Event()

    def sync(self, fd: int) -> None:
        if self.hangs:
            self.go_on.wait(30)
        super().sync(fd)


async def test_a_disk_that_hangs_does_not_hang_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """C17, I1."""
    monkeypatch.setattr(checkpoint, "CLOSE_TIMEOUT_S", 0.2)
    files = Hanging()
    session = await CheckpointSession.open(CheckpointConfig(str(tmp_path / "cp"), key=KEY), files)
    await session.writer.opened(0, 1000)
    files.hangs = True
    write = asyncio.create_task(session.writer.intent(batch(1)))
    try:
        await asyncio.wait_for(session.aclose(), 10)
        assert "does not answer" in caplog.text
        with pytest.raises(StorageError, match="did not answer"):
            await write
    finally:
        files.go_on.set()


async def test_a_start_that_is_cancelled_while_it_reads_keeps_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3, I4: the thread goes on for a while."""
    reading, go_on = threading.Event(), threading.Event()

    def slow(*args: Any, **options: Any) -> Recovered:
        reading.set()
        go_on.wait(30)
        return recover(*args, **options)

    config = CheckpointConfig(str(tmp_path / "cp"), key=KEY)
    with monkeypatch.context() as patch:
        patch.setattr(checkpointing, "recover", slow)
        start = asyncio.create_task(CheckpointSession.open(config))
        await asyncio.to_thread(reading.wait)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        go_on.set()
    async with asyncio.timeout(20):
        while True:
            try:
                session = await CheckpointSession.open(config)
            except DirectoryInUseError:
                await asyncio.sleep(0.01)
            else:
                break
    await session.aclose()


async def test_after_a_failure_all_writers_are_told_at_once(tmp_path: Path, open_writer: Open) -> None:
    """C3, B11: also those that come later."""
    files = FaultFiles(tmp_path / "cp")
    writer = await open_writer(files)
    files.fail(errno.EIO, fails=1)
    with pytest.raises(StorageError):
        await writer.intent(batch(1))
    for _ in range(2):
        with pytest.raises(StorageError):
            await writer.log_blocks("mail", [pickled(1)])
    assert recovered(tmp_path).pending == []


async def test_a_full_disk_is_told_as_a_problem_and_ends_with_the_stop(
    tmp_path: Path, open_writer: Open
) -> None:
    """C1, G8: nobody is told that anything is durable meanwhile; a stop does not wait for room."""
    files = FaultFiles(tmp_path / "cp")
    writer = await open_writer(files)
    files.fail(errno.ENOSPC, fails=10**6, only={"write"})
    log = asyncio.create_task(writer.log_blocks("mail", [pickled(1)]))
    while writer.problem is None:
        await asyncio.sleep(0.001)
    assert "No space left" in writer.problem
    assert not log.done()
    files.heal()
    await asyncio.wait_for(log, 10)
    assert writer.problem is None
    files.fail(errno.ENOSPC, fails=10**6, only={"write"})
    log = asyncio.create_task(writer.log_blocks("mail", [pickled(2)]))
    await asyncio.sleep(0)
    await asyncio.wait_for(writer.aclose(), 10)
    with pytest.raises(StorageError, match="No space left"):
        await log
    assert records_of(*recovered(tmp_path).leftovers["mail"]) == [1]


# -- crafted content ---------------------------------------------------------------------------------


class Evil:
    """Does its evil when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def forge(tmp_path: Path, alter: Callable[[int, bytes, bytes], tuple[bytes, bytes]]) -> None:
    """Write the journal again with altered records; all checksums fit, only the key is not known."""
    directory = tmp_path / "cp" / "journal"
    records = []
    for record in scan(str(directory), ScanResult()):
        ref = record.payload
        with open(ref.path, "rb") as file:
            file.seek(ref.offset)
            records.append((record.kind, *alter(record.kind, record.meta, file.read(ref.length))))
    for path in list(directory.iterdir()):
        path.unlink()
    journal = Journal(str(directory), epoch=1)
    journal.begin()
    for kind, meta, payload in records:
        journal.append(kind, meta, payload)
    journal.sync()
    journal.close()


@pytest.mark.parametrize("kind", [Kind.BLOCK, Kind.STATE, Kind.KEPT])
@pytest.mark.parametrize("resealed", [False, True], ids=["with the old seal", "sealed with another key"])
async def test_crafted_user_data_is_refused_before_it_is_unpickled(
    tmp_path: Path, open_writer: Open, kind: Kind, resealed: bool
) -> None:
    """J7."""
    writer = await open_writer()
    kept = KeptBlock(("w",), 0, 1, None, pickled("kept"))
    await writer.log_blocks("mail", [pickled("mail")])
    await commit(writer, 1, states=[change(1, first=True, a=1)], kept=[kept], horizons={"w": 0})
    await writer.aclose()
    evil = pickle.dumps([Evil(tmp_path / "evil")])

    def alter(number: int, meta: bytes, payload: bytes) -> tuple[bytes, bytes]:
        if number != kind:
            return meta, payload
        if resealed:
            return seal_record(Seal(b"a guess"), kind, 0, meta[SEAL_BYTES:], digest_of(evil)), evil
        return meta, evil

    recovered(tmp_path)
    forge(tmp_path, alter)
    with pytest.raises(CorruptionError, match="was not written with this key, or was changed"):
        recovered(tmp_path)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"format":"bytes-lines"', b'"format":"pickle"'),
        (
            b'"blocks":[2]',
            b'"blocks":[{"format":"file-pickles","args":[],"records":1,"file":["/tmp/x",0,9]}]',
        ),
        (b'"batch":1', b'"batch":2'),
        (b'"fired":{}', b'"fired":{"w":1}'),
    ],
    ids=["the form of a block", "the place of a block", "a number", "a commit"],
)
async def test_crafted_control_data_is_refused(
    tmp_path: Path, open_writer: Open, old: bytes, new: bytes
) -> None:
    """J7: bytes that came from the network must not become a pickle by a change of their description."""
    writer = await open_writer()
    await writer.intent(batch(1, BlockRef("bytes-lines", pickle.dumps([Evil(tmp_path / "evil")]))))
    await commit(writer, 1)
    await writer.intent(batch(2, BlockRef("bytes-lines", b"line\n")))
    await writer.aclose()
    changed: list[bool] = []

    def alter(kind: int, meta: bytes, payload: bytes) -> tuple[bytes, bytes]:
        altered = meta[:SEAL_BYTES] + meta[SEAL_BYTES:].replace(old, new)
        changed.append(altered != meta)
        return altered, payload

    forge(tmp_path, alter)
    assert any(changed)
    with pytest.raises(CorruptionError, match="was not written with this key, or was changed"):
        recovered(tmp_path)


async def test_another_key_is_refused_with_a_hint(tmp_path: Path, open_writer: Open) -> None:
    """J7."""
    await open_writer()
    with pytest.raises(CorruptionError, match="AIOSTREAM_CHECKPOINT_KEY"):
        recover(str(tmp_path / "cp" / "journal"), Seal(b"another"), settle=False)


# -- another Python ----------------------------------------------------------------------------------


async def test_code_of_another_python_is_refused_before_it_is_loaded(
    tmp_path: Path, open_writer: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H6: plain data is read by any version; classes of the program's own file are stored with their code."""
    own = type("Own", (), {"__module__": "__main__"})
    writer = await open_writer()
    await commit(writer, 1, states=[change(1, first=True, a=[1, "x", 2.5, None])])
    monkeypatch.setattr(records, "PYTHON", "3.99")
    assert recovered(tmp_path).batch == 1
    monkeypatch.undo()
    await commit(writer, 2, states=[change(2, a=own())])
    assert recovered(tmp_path).batch == 2
    monkeypatch.setattr(records, "PYTHON", "3.99")
    with pytest.raises(ConfigurationError, match=r"by Python 3\.\d+; this is 3\.99"):
        recovered(tmp_path)
