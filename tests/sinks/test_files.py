from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import stat
import time

import pytest

from aiostream_engine.errors import CorruptionError, OptionError, SinkError
from aiostream_engine.sinks.base import IdempotentSink, SinkContext
from aiostream_engine.sinks.files import JsonLinesFileSink, TextFileSink, part_name, read_committed


def files_of(directory):
    return sorted(entry.name for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False))


async def test_each_partition_of_each_batch_is_one_file_named_after_both(tmp_path, key, chunks):
    sink = TextFileSink(tmp_path / "a" / "b")
    await sink.open(SinkContext("out"))
    await sink.write(key(1, 0, 2), chunks(["x"], ["y", 3]))
    await sink.write(key(1, 1, 2), chunks([]))
    await sink.aclose()
    first, second = (tmp_path / "a" / "b" / name for name in files_of(tmp_path / "a" / "b"))
    assert first.name == "part-1700000000500-0000000001-00000.txt"
    assert second.name == "part-1700000000500-0000000001-00001.txt"
    assert first.read_text() == "x\ny\n3\n"
    assert second.read_text() == ""


async def test_json_lines_hold_plain_data_and_dataclasses(tmp_path, key, chunks):
    @dataclasses.dataclass
    class Point:
        x: int

    sink = JsonLinesFileSink(tmp_path)
    await sink.write(key(), chunks([{"a": "é\n"}, [1, None]], [Point(2)]))
    await sink.aclose()
    lines = (tmp_path / f"{part_name(key())}.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"a": "é\n"}, [1, None], {"x": 2}]


async def test_a_record_that_is_no_json_fails_the_write_unless_told_how(tmp_path, key, chunks):
    refusing = JsonLinesFileSink(tmp_path / "a")
    with pytest.raises(TypeError):
        await refusing.write(key(), chunks([1j]))
    await refusing.aclose()
    sink = JsonLinesFileSink(tmp_path / "b", encode_default=str)
    await sink.write(key(), chunks([1j]))
    await sink.aclose()
    assert (tmp_path / "b" / f"{part_name(key())}.jsonl").read_text() == '"1j"\n'


async def test_the_same_key_overwrites_the_same_file(tmp_path, key, chunks):
    """F9"""
    sink = TextFileSink(tmp_path)
    assert isinstance(sink, IdempotentSink)
    for text in ("first and longer", "second"):
        await sink.write(key(), chunks([text]))
    await sink.aclose()
    assert files_of(tmp_path) == [f"{part_name(key())}.txt"]
    assert (tmp_path / f"{part_name(key())}.txt").read_text() == "second\n"


async def test_a_later_run_that_counts_from_one_again_overwrites_nothing(tmp_path, key, chunks):
    for label in (10_000, 20_000):
        sink = TextFileSink(tmp_path)
        await sink.write(key(1)._replace(time=label), chunks([label]))
        await sink.aclose()
    assert len(files_of(tmp_path)) == 2


async def test_a_file_shows_only_when_it_is_whole(tmp_path, key):
    """F9: nothing under the final name while the records still come."""
    go_on, first_written = asyncio.Event(), asyncio.Event()

    async def records():
        yield ["a"]
        first_written.set()
        await go_on.wait()
        yield ["b"]

    sink = TextFileSink(tmp_path)
    write = asyncio.create_task(sink.write(key(), records()))
    await asyncio.wait_for(first_written.wait(), 20)
    assert [name for name in files_of(tmp_path) if not name.startswith(".")] == []
    go_on.set()
    await asyncio.wait_for(write, 20)
    await sink.aclose()
    assert files_of(tmp_path) == [f"{part_name(key())}.txt"]
    assert (tmp_path / files_of(tmp_path)[0]).read_text() == "a\nb\n"


async def test_a_write_that_fails_leaves_nothing_behind_and_the_old_file_whole(tmp_path, key, chunks):
    """F9"""

    async def broken():
        yield ["half"]
        raise ConnectionError("source gone")

    sink = TextFileSink(tmp_path)
    await sink.write(key(), chunks(["old"]))
    with pytest.raises(ConnectionError):
        await sink.write(key(), broken())
    await sink.aclose()
    assert files_of(tmp_path) == [f"{part_name(key())}.txt"]
    assert (tmp_path / files_of(tmp_path)[0]).read_text() == "old\n"


async def test_a_cancelled_write_leaves_nothing_behind(tmp_path, key):
    """F9"""
    written = asyncio.Event()

    async def endless():
        yield ["half"]
        written.set()
        await asyncio.Event().wait()

    sink = TextFileSink(tmp_path)
    write = asyncio.create_task(sink.write(key(), endless()))
    await asyncio.wait_for(written.wait(), 20)
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    await sink.aclose()
    assert files_of(tmp_path) == []


async def test_what_a_crash_left_staged_is_swept_at_the_next_start(tmp_path, key):
    """F9"""
    old, young = tmp_path / ".part-x.txt.00.staged", tmp_path / ".part-y.txt.00.staged"
    for path in (old, young, tmp_path / ".hidden"):
        path.write_text("half")
        os.utime(path, (0, 0))
    os.utime(young, (time.time(), time.time()))
    sink = TextFileSink(tmp_path)
    await sink.open(SinkContext("out"))
    await sink.aclose()
    assert files_of(tmp_path) == [".hidden", young.name]


async def test_a_reader_of_manifests_never_sees_half_a_batch(tmp_path, key, chunks):
    """F10"""
    sink = TextFileSink(tmp_path)
    await sink.write(key(1, 0, 1), chunks(["a"]))
    await sink.write(key(2, 1, 2), chunks(["c"]))
    assert [path.read_text() for path in read_committed(tmp_path)] == ["a\n"]
    await sink.write(key(2, 0, 2), chunks(["b"]))
    assert [path.read_text() for path in read_committed(tmp_path)] == ["a\n", "b\n", "c\n"]
    await sink.aclose()


async def test_a_batch_written_again_has_the_same_manifest(tmp_path, key, chunks):
    """F10"""
    for _ in range(2):
        sink = TextFileSink(tmp_path)
        for partition in (0, 1):
            await sink.write(key(1, partition, 2), chunks([partition]))
        await sink.aclose()
    (manifest,) = (tmp_path / "_batches").iterdir()
    content = json.loads(manifest.read_text())
    assert content["batch_id"] == 1
    assert [(file["records"], file["bytes"]) for file in content["files"]] == [(1, 2), (1, 2)]
    assert len(read_committed(tmp_path)) == 2


async def test_batches_that_are_written_at_the_same_time_are_kept_apart(tmp_path, key, chunks):
    """F10"""
    sink = TextFileSink(tmp_path)
    for batch_id, partition in ((1, 0), (2, 0), (1, 1), (2, 1)):
        await sink.write(key(batch_id, partition, 2), chunks([f"{batch_id}-{partition}"]))
    await sink.aclose()
    assert [path.read_text() for path in read_committed(tmp_path)] == ["1-0\n", "1-1\n", "2-0\n", "2-1\n"]


async def test_batches_that_never_get_whole_are_forgotten(tmp_path, key, chunks):
    sink = TextFileSink(tmp_path, durable=False)
    for batch_id in range(200):
        await sink.write(key(batch_id, 0, 2), chunks([]))
    await sink.aclose()
    assert len(sink._open_batches) <= 64


async def test_no_manifests_are_written_when_not_wanted(tmp_path, key, chunks):
    sink = TextFileSink(tmp_path, manifests=False, durable=False)
    await sink.write(key(), chunks([1]))
    await sink.aclose()
    assert [entry.name for entry in tmp_path.iterdir()] == [f"{part_name(key())}.txt"]


@pytest.mark.parametrize(
    "content", ["{", '{"batch_id": 1}', '{"batch_id":1,"time_ms":1,"files":[{"name":"../x"}]}']
)
def test_a_damaged_or_hostile_manifest_is_said_and_not_followed(tmp_path, content):
    """J6"""
    (tmp_path / "_batches").mkdir()
    (tmp_path / "_batches" / "0001.json").write_text(content)
    with pytest.raises(CorruptionError, match=r"0001\.json"):
        read_committed(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/x",
        "a/b",
        "a\\b",
        "~x",
        ".hidden",
        "..",
        "_batches",
        "a\0b",
        "a\nb",
        "C:x",
        "x" * 10_000,
        "",
        None,
    ],
)
async def test_a_name_that_would_leave_the_directory_is_refused(tmp_path, key, chunks, name):
    """J6"""
    sink = TextFileSink(tmp_path / "out", file_name=lambda key: name)
    if name in ("", None):
        with pytest.raises(OptionError):
            TextFileSink(tmp_path, suffix="/../x")
        return
    with pytest.raises(OptionError):
        await sink.write(key(), chunks(["x"]))
    await sink.aclose()
    assert files_of(tmp_path / "out") == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


async def test_a_link_planted_under_the_final_name_is_replaced_and_not_followed(tmp_path, key, chunks):
    """J6"""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    final = out / f"{part_name(key())}.txt"
    final.symlink_to(victim)
    sink = TextFileSink(out)
    await sink.write(key(), chunks(["x"]))
    await sink.aclose()
    assert victim.read_text() == "precious"
    assert final.read_text() == "x\n"
    assert not final.is_symlink()


async def test_a_directory_swapped_for_a_link_does_not_lead_the_sink_away(tmp_path, key, chunks):
    """J6, J14"""
    out, elsewhere, moved = tmp_path / "out", tmp_path / "elsewhere", tmp_path / "moved"
    elsewhere.mkdir()
    sink = TextFileSink(out)
    await sink.open(SinkContext("out"))
    out.rename(moved)
    out.symlink_to(elsewhere)
    await sink.write(key(), chunks(["x"]))
    await sink.aclose()
    assert files_of(elsewhere) == []
    assert files_of(moved) == [f"{part_name(key())}.txt"]


async def test_a_link_in_place_of_the_manifests_is_refused(tmp_path, key, chunks):
    """J6"""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_batches").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SinkError, match="cannot use directory"):
        await TextFileSink(tmp_path / "out").write(key(), chunks(["x"]))


async def test_a_directory_that_cannot_be_used_is_a_sink_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="'text-files' cannot use directory"):
        await TextFileSink(tmp_path / "file").open(SinkContext("out"))


async def test_files_obey_the_mask_of_the_process(tmp_path, key, chunks):
    previous = os.umask(0o077)
    try:
        sink = TextFileSink(tmp_path)
        await sink.write(key(), chunks(["x"]))
        await sink.aclose()
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / f"{part_name(key())}.txt").stat().st_mode) == 0o600


async def test_closing_twice_or_unopened_is_no_error_and_frees_descriptors(tmp_path, key, chunks):
    before = len(os.listdir("/proc/self/fd"))
    sink = TextFileSink(tmp_path)
    await sink.aclose()
    await sink.write(key(), chunks([1]))
    await sink.aclose()
    await sink.aclose()
    assert len(os.listdir("/proc/self/fd")) == before
