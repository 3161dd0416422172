"""A batch that takes, changes and shows nothing waits for no disk; lost, it is like one that was not cut."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiostream_engine as ase
from aiostream_engine.config import CheckpointConfig, SchedulerConfig
from aiostream_engine.durable.seal import Seal
from aiostream_engine.errors import BlocksReleasedError, StorageError
from aiostream_engine.runtime import checkpoint, commit
from aiostream_engine.runtime.checkpoint import CheckpointWriter
from aiostream_engine.runtime.checkpointing import CheckpointSession
from aiostream_engine.runtime.records import FrozenBatch, FrozenInput, Position
from aiostream_engine.runtime.recovery import recover
from aiostream_engine.testing import FaultFiles, use_files
from aiostream_engine.types import BlockRef

KEY = b"the key of these tests"
CONTENT: dict[str, Any] = {"zero_ms": 0, "interval_ms": 1000, "fired": {}, "horizons": {}, "tokens": {}}
DEADLINE_S = 30


def frozen(number: int, *blocks: BlockRef, **positions: Position) -> FrozenBatch:
    head = {"batch": number, "time": number * 1000, "missed": 0, "parallelism": 2, "steps": {}}
    return FrozenBatch(
        number, head, {"input": FrozenInput(blocks, {"records": 0, "bytes": 0, "metadata": {}})}, positions
    )


async def idle(writer: CheckpointWriter, *numbers: int) -> None:
    for number in numbers:
        await writer.idle(frozen(number), number * 1000, CONTENT)


async def opened(tmp_path: Path) -> CheckpointWriter:
    session = await CheckpointSession.open(CheckpointConfig(str(tmp_path / "cp"), key=KEY))
    await session.writer.opened(0, 1000)
    return session.writer


def last_batch(directory: Path) -> int:
    """What the next driver would begin behind."""
    return recover(str(directory / "journal"), Seal(KEY), settle=False).batch


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


# -- the writer --------------------------------------------------------------------------------------


async def test_idle_batches_are_written_before_what_comes_next_with_one_sync(tmp_path: Path) -> None:
    """B1: no later batch can be true without them."""
    writer = await opened(tmp_path)
    before = writer.statistics.syncs
    await idle(writer, 1, 2, 3)
    assert last_batch(tmp_path / "cp") == 0
    await writer.intent(frozen(4))
    assert writer.statistics.syncs - before == 1
    found = recover(str(tmp_path / "cp" / "journal"), Seal(KEY), settle=False)
    assert (found.batch, [pending.batch for pending in found.pending]) == (3, [4])
    await writer.aclose()


async def test_idle_batches_are_written_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "IDLE_S", 0.01)
    writer = await opened(tmp_path)
    await idle(writer, 1)
    await until(lambda: last_batch(tmp_path / "cp") == 1)
    await idle(writer, 2)
    await until(lambda: last_batch(tmp_path / "cp") == 2)
    await writer.aclose()


async def test_so_many_idle_batches_wait_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "IDLE_BATCHES_MAX", 3)
    writer = await opened(tmp_path)
    await idle(writer, 1, 2, 3)
    assert last_batch(tmp_path / "cp") == 0
    await idle(writer, 4)
    assert last_batch(tmp_path / "cp") == 4
    await writer.aclose()


async def test_the_end_writes_idle_batches(tmp_path: Path) -> None:
    writer = await opened(tmp_path)
    await idle(writer, 1, 2)
    await writer.aclose()
    assert last_batch(tmp_path / "cp") == 2
    with pytest.raises(StorageError, match="is closed"):
        await idle(writer, 3)


async def test_no_batch_is_frozen_behind_one_that_could_not_be(tmp_path: Path) -> None:
    """B1: recovery would miss it"""
    writer = await opened(tmp_path)
    gone = BlockRef("lines", None, str(tmp_path / "gone"), 0, 2, 1)
    failed, refused = await asyncio.gather(
        writer.intent(frozen(1, gone)), writer.intent(frozen(2)), return_exceptions=True
    )
    assert isinstance(failed, BlocksReleasedError)
    assert isinstance(refused, StorageError)
    with pytest.raises(StorageError, match="batch 1 could not be written"):
        await writer.intent(frozen(3))
    await idle(writer, 4)
    await writer.aclose()
    found = recover(str(tmp_path / "cp" / "journal"), Seal(KEY), settle=False)
    assert (found.batch, list(found.pending)) == (0, [])


def test_what_moves_a_position_or_holds_a_block_is_not_idle() -> None:
    block = BlockRef("lines", b"a\n", "", 0, 2, 1)
    assert frozen(1).is_idle
    assert not frozen(1, block).is_idle
    assert not frozen(1, input=Position({"at": 1}, False)).is_idle
    again = FrozenBatch(1, {}, {"input": FrozenInput((), {"recipe": [1, 2]})}, {})
    assert not again.is_idle


# -- a stream ----------------------------------------------------------------------------------------


class Stream:
    """Lines of files, by a stream with a checkpoint directory of which the operations are seen."""

    def __init__(self, tmp_path: Path, directory: str = "cp", **options: Any) -> None:
        self.lines = tmp_path / "in"
        self.lines.mkdir(exist_ok=True)
        config = CheckpointConfig(str(tmp_path / directory), key=KEY)
        self.files = FaultFiles(tmp_path / directory)
        self.ssc = ase.StreamingContext(0.01, "local", checkpoint=config, **options)
        use_files(self.ssc, self.files)
        self.input = self.ssc.text_file_stream(str(self.lines), name="lines")
        self.batches: list[list[Any]] = []

    def write(self, name: str) -> None:
        (self.lines / f".{name}").write_text(f"{name}\n")
        (self.lines / f".{name}").rename(self.lines / name)

    async def idle_for(self, batches: int) -> None:
        enough = len(self.batches) + batches
        await until(lambda: len(self.batches) >= enough)

    @property
    def records(self) -> list[Any]:
        return [record for batch in self.batches for record in batch]


def collecting(stream: Stream) -> None:
    async def collect(rdd: Any) -> None:
        stream.batches.append(await rdd.collect())

    stream.input.map(str.upper).foreach_rdd(collect)


async def test_an_idle_stream_waits_for_no_disk_and_a_crash_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B1, B5: the next driver begins behind the last batch that had something, and gives the rest once."""
    monkeypatch.setattr(checkpoint, "IDLE_S", 1000.0)
    first = Stream(tmp_path)
    collecting(first)
    async with first.ssc:
        await first.ssc.start()
        first.write("a")
        await until(lambda: first.records == ["A"])
        await first.idle_for(5)
        operations = len(first.files.operations)
        await first.idle_for(30)
        assert len(first.files.operations) == operations
        shutil.copytree(tmp_path / "cp", tmp_path / "killed")
        first.write("b")
        await until(lambda: first.records == ["A", "B"])
    whole = recover(str(tmp_path / "cp" / "journal"), Seal(KEY), settle=False)
    assert 0 < last_batch(tmp_path / "killed") < whole.batch - 30
    (tmp_path / "killed").chmod(0o700)
    second = Stream(tmp_path, "killed")
    collecting(second)
    async with second.ssc:
        await second.ssc.start()
        await until(lambda: bool(second.records))
        await second.idle_for(5)
    assert second.records == ["B"]


async def test_what_is_seen_of_a_batch_without_input_is_frozen_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B13: records that come from elsewhere."""
    steps: list[str] = []
    monkeypatch.setattr(commit, "crash_point", steps.append)
    stream = Stream(tmp_path)
    numbers = stream.input.transform(lambda rdd: rdd.context.parallelize([1, 2]))

    async def see(rdd: Any) -> None:
        steps.append("see")
        stream.batches.append(await rdd.collect())

    numbers.foreach_rdd(see)
    async with stream.ssc:
        await stream.ssc.start()
        await stream.idle_for(5)
    assert stream.batches[0] == [1, 2]
    assert [step for step in steps if step in ("after_intent", "see", "before_commit")][:9] == [
        "after_intent",
        "see",
        "before_commit",
    ] * 3


async def test_batches_in_flight_together_stay_in_order(tmp_path: Path) -> None:
    """B13: one with records, cut behind idle ones that are not over, freezes them."""
    scheduler = SchedulerConfig(concurrent_batches=3, batches_in_flight_max=4)
    stream = Stream(tmp_path, scheduler=scheduler)

    async def collect(rdd: Any) -> None:
        await asyncio.sleep(0.004 * (len(stream.batches) % 7))
        stream.batches.append(await rdd.collect())

    stream.input.foreach_rdd(collect)
    async with stream.ssc:
        await stream.ssc.start()
        for number in range(8):
            stream.write(f"file {number}")
            await stream.idle_for(number % 4)
        await until(lambda: len(stream.records) == 8)
        await stream.idle_for(3)
    assert sorted(stream.records) == [f"file {number}" for number in range(8)]
    assert last_batch(tmp_path / "cp") >= 3
