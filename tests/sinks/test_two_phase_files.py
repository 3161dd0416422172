from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys

import pytest

from aiostream_engine.durable.lock import DirectoryInUseError
from aiostream_engine.errors import OptionError, SinkError, StorageError
from aiostream_engine.sinks.base import SinkContext, TransactionalSink
from aiostream_engine.sinks.two_phase_files import TwoPhaseFileSink, read_committed
from aiostream_engine.testing import crash_environment


@pytest.fixture
async def sink(tmp_path):
    sink = TwoPhaseFileSink(tmp_path / "out")
    await sink.open(SinkContext("out"))
    yield sink
    await sink.aclose()


def listed(sink):
    return sorted(path.name for path in sink.directory.iterdir() if path.is_file())


def staged(sink):
    return sorted(path.name for path in (sink.directory / ".staged").iterdir() if path.name != "LOCK")


def records_of(directory):
    return [json.loads(line) for path in read_committed(directory) for line in path.read_text().splitlines()]


async def stage(sink, key, chunks, batch, *partitions):
    keys = [key(batch, index, len(partitions)) for index in range(len(partitions))]
    return [await sink.stage(one, chunks(records)) for one, records in zip(keys, partitions, strict=True)]


async def test_nothing_shows_before_the_commit_and_all_of_it_after(sink, key, chunks):
    """F9, F10"""
    tokens = await stage(sink, key, chunks, 1, ["a", "b"], ["c"])
    assert (listed(sink), read_committed(sink.directory)) == ([], [])
    await sink.commit(1, key(1).time, tokens)
    assert listed(sink) == [
        "part-1700000000500-0000000001-00000.jsonl",
        "part-1700000000500-0000000001-00001.jsonl",
    ]
    assert records_of(sink.directory) == ["a", "b", "c"]
    assert staged(sink) == []
    assert isinstance(sink, TransactionalSink)


async def test_tokens_are_plain_json_and_enough_for_a_fresh_process(sink, key, chunks):
    """B3: the engine committed, the publishing is done by another process."""
    tokens = json.loads(json.dumps(await stage(sink, key, chunks, 1, ["a"], ["b"])))
    await sink.aclose()
    fresh = TwoPhaseFileSink(sink.directory)
    await fresh.open(SinkContext("out"))
    await fresh.commit(1, key(1).time, tokens)
    await fresh.aclose()
    assert records_of(sink.directory) == ["a", "b"]


async def test_a_commit_may_be_repeated_also_after_the_files_were_taken_away(sink, key, chunks):
    tokens = await stage(sink, key, chunks, 1, ["a"])
    for _ in range(2):
        await sink.commit(1, key(1).time, tokens)
    (path,) = read_committed(sink.directory)
    path.unlink()
    await sink.commit(1, key(1).time, tokens)
    assert listed(sink) == []


async def test_a_partition_that_is_staged_again_replaces_its_earlier_try(sink, key, chunks):
    """B2"""
    await stage(sink, key, chunks, 1, ["first and longer"])
    tokens = await stage(sink, key, chunks, 1, ["second"])
    await sink.commit(1, key(1).time, tokens)
    assert records_of(sink.directory) == ["second"]


async def test_an_aborted_batch_leaves_nothing(sink, key, chunks):
    """C11"""
    tokens = await stage(sink, key, chunks, 1, ["a"], ["b"])
    for _ in range(2):
        await sink.abort(1, tokens)
    assert (listed(sink), staged(sink)) == ([], [])


async def test_leftovers_go_with_the_next_commit_and_foreign_files_stay(sink, key, chunks):
    """C11: what a crash left of a batch that was run again with fewer partitions."""
    await stage(sink, key, chunks, 1, ["a"], ["b"], ["c"])
    foreign = [sink.directory / "notes.txt", sink.directory / ".staged" / "notes.txt"]
    for path in foreign:
        path.write_text("mine")
    tokens = await stage(sink, key, chunks, 1, ["a"])
    later = await stage(sink, key, chunks, 2, ["d"])
    await sink.commit(1, key(1).time, tokens)
    assert staged(sink) == ["notes.txt", later[0]["name"]]
    assert [path.read_text() for path in foreign] == ["mine", "mine"]
    await sink.commit(2, key(2).time, later)
    assert records_of(sink.directory) == ["a", "d"]


async def test_opening_keeps_what_was_staged(sink, key, chunks):
    """B3: at open nobody knows yet which batches were committed."""
    tokens = await stage(sink, key, chunks, 1, ["a"])
    await sink.aclose()
    await sink.open(SinkContext("out"))
    assert staged(sink) == [tokens[0]["name"]]


async def test_an_empty_partition_makes_no_file_and_an_empty_batch_nothing_at_all(sink, key, chunks):
    """D5"""
    tokens = await stage(sink, key, chunks, 1, [], [])
    await sink.commit(1, key(1).time, tokens)
    assert list((sink.directory / "_batches").iterdir()) == []
    tokens = await stage(sink, key, chunks, 2, [], ["a"])
    await sink.commit(2, key(2).time, tokens)
    assert len(listed(sink)) == 1


async def test_a_staged_file_that_is_gone_is_a_loss_that_is_told(sink, key, chunks):
    tokens = await stage(sink, key, chunks, 1, ["a"], ["b"])
    os.unlink(sink.directory / ".staged" / tokens[1]["name"])
    with pytest.raises(StorageError, match="part-1700000000500-0000000001-00001"):
        await sink.commit(1, key(1).time, tokens)
    assert read_committed(sink.directory) == []


async def test_a_second_writer_is_refused_and_told_who_has_the_directory(sink):
    """B7"""
    other = TwoPhaseFileSink(sink.directory)
    with pytest.raises(DirectoryInUseError, match=rf'output directory.*"pid": {os.getpid()}'):
        await other.open(SinkContext("other"))
    await other.aclose()


async def test_a_failed_partition_leaves_nothing(sink, key):
    async def records():
        yield ["a"] * 20_000
        raise LookupError("no more")

    with pytest.raises(LookupError):
        await sink.stage(key(1), records())
    assert staged(sink) == []


async def test_a_cancelled_partition_leaves_nothing(sink, key):
    first = asyncio.Event()

    async def records():
        yield ["a"] * 20_000
        first.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(sink.stage(key(1), records()))
    await asyncio.wait_for(first.wait(), 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert staged(sink) == []


async def test_large_partitions_come_whole_and_in_order(sink, key, chunks):
    parts = [list(range(start, start + 7000)) for start in range(0, 70_000, 7000)]
    token = await sink.stage(key(1), chunks(*parts))
    await sink.commit(1, key(1).time, [token])
    assert token["records"] == 70_000
    assert records_of(sink.directory) == list(range(70_000))


async def test_text_is_one_line_a_record(tmp_path, key, chunks):
    sink = TwoPhaseFileSink(tmp_path, format="text", suffix=".log", durable=False)
    token = await sink.stage(key(1), chunks(["é", 5]))
    await sink.commit(1, key(1).time, [token])
    await sink.aclose()
    (path,) = read_committed(tmp_path)
    assert (path.suffix, path.read_text()) == (".log", "é\n5\n")


async def test_a_link_in_place_of_the_staging_directory_is_not_followed(tmp_path):
    """J6"""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".staged").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SinkError, match="cannot use directory"):
        await TwoPhaseFileSink(tmp_path / "out").open(SinkContext("out"))
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", 5])
async def test_a_token_that_was_tampered_with_reaches_no_file_outside(sink, key, name):
    """J6"""
    with pytest.raises(OptionError):
        await sink.commit(1, key(1).time, [{"name": name, "records": 1, "bytes": 1}])


@pytest.mark.parametrize("options", [{"format": "csv"}, {"suffix": "/../x"}])
def test_bad_options_are_refused_at_once(tmp_path, options):
    with pytest.raises(OptionError):
        TwoPhaseFileSink(tmp_path, **options)


@pytest.mark.parametrize("call", range(1, 12))
async def test_a_file_operation_that_fails_is_an_error_after_which_all_can_be_repeated(
    tmp_path, key, chunks, monkeypatch, call
):
    """C4, C10: the N-th fsync or rename fails, for each N."""
    sink = TwoPhaseFileSink(tmp_path / "out")
    await sink.open(SinkContext("out"))
    calls = 0

    def failing(real):
        def operation(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == call:
                raise OSError(28, "No space left on device")
            return real(*args, **kwargs)

        return operation

    async def batch():
        tokens = await stage(sink, key, chunks, 1, ["a"], ["b"])
        await sink.commit(1, key(1).time, tokens)

    with monkeypatch.context() as patched:
        for name in ("fsync", "rename"):
            patched.setattr(os, name, failing(getattr(os, name)))
        failed = False
        try:
            await batch()
        except OSError:
            failed = True
    assert failed == (call <= 10)
    if failed:
        assert records_of(sink.directory) in ([], ["a", "b"])
        await batch()
    await sink.aclose()
    assert records_of(sink.directory) == ["a", "b"]
    assert {path.name for path in (tmp_path / "out" / ".staged").iterdir()} == {"LOCK"}


_PROGRAM = """
import asyncio, json, sys
from aiostream_engine.sinks.base import SinkContext, WriteKey
from aiostream_engine.sinks.two_phase_files import TwoPhaseFileSink
from aiostream_engine.types import BatchTime

async def records(text):
    yield [text]

async def main(directory, committed):
    sink = TwoPhaseFileSink(directory)
    await sink.open(SinkContext("out"))
    time = BatchTime(1_700_000_000_000)
    try:
        tokens = json.load(open(committed))
    except FileNotFoundError:
        keys = [WriteKey("out", 1, time, n, 2) for n in range(2)]
        tokens = [await sink.stage(key, records(text)) for key, text in zip(keys, "ab")]
        json.dump(tokens, open(committed, "w"))
    await sink.commit(1, time, tokens)
    await sink.aclose()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.faults
@pytest.mark.parametrize(
    ("point", "hit"),
    [("after_stage", 1), ("after_stage", 2), ("mid_publish_files", 1), ("mid_publish_files", 2)],
)
def test_a_kill_at_each_point_is_made_good_by_the_next_process(tmp_path, point, hit):
    """B1, B2, B3"""
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path / "out"), str(tmp_path / "committed")]
    environment = os.environ | crash_environment(point, hit=hit)
    assert subprocess.run(command, env=environment, timeout=50, check=False).returncode == -9
    assert read_committed(tmp_path / "out") == []
    subprocess.run(command, timeout=50, check=True)
    assert records_of(tmp_path / "out") == ["a", "b"]


def test_files_are_made_with_the_rights_that_the_process_gives(tmp_path, key, chunks):
    async def main():
        sink = TwoPhaseFileSink(tmp_path)
        token = await sink.stage(key(1), chunks(["a"]))
        await sink.commit(1, key(1).time, [token])
        await sink.aclose()

    before = os.umask(0o027)
    try:
        asyncio.run(main())
    finally:
        os.umask(before)
    (path,) = read_committed(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
