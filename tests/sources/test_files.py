from __future__ import annotations

import asyncio
import gzip
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine.clock import SystemClock
from aiostream_engine.errors import ConfigurationError, CorruptionError, OptionError, SourceError
from aiostream_engine.sources import files
from aiostream_engine.sources.files import FileSource
from aiostream_engine.testing import ManualClock
from aiostream_engine.types import BatchTime

from .harness import Harness, records_of, until


def text_source(path: Path | str, **options: Any) -> FileSource:
    return FileSource(path, **{"list_interval_s": 0.0, **options})


def names_in(harness: Harness) -> list[str]:
    return [os.path.basename(name) for name in harness.batches[-1].metadata.get("files", [])]


def put(path: Path, text: str, mtime: float | None = None) -> Path:
    """A file that appears whole, as a careful producer makes it."""
    hidden = path.parent / f".{path.name}"
    hidden.write_text(text)
    if mtime is not None:
        os.utime(hidden, (mtime, mtime))
    return hidden.rename(path)


async def test_lines_of_new_files_come_once(harness: Harness, tmp_path: Path) -> None:
    put(tmp_path / "a.txt", "one\ntwo\n")
    source = text_source(tmp_path)
    await harness.start(source)
    assert await harness.cut(source) == ["one", "two"]
    assert await harness.cut(source) == []
    put(tmp_path / "b.txt", "three")
    assert await harness.cut(source) == ["three"]
    assert await harness.cut(source) == []


async def test_an_old_file_that_is_moved_in_late_is_read(harness: Harness, tmp_path: Path) -> None:
    """SRC-9: the original model loses it."""
    source = text_source(tmp_path)
    await harness.start(source)
    put(tmp_path / "new", "new\n")
    assert await harness.cut(source) == ["new"]
    put(tmp_path / "old", "old\n", mtime=1000.0)
    put(tmp_path / "future", "future\n", mtime=4e9)
    assert await harness.cut(source) == ["old", "future"]


async def test_a_renamed_file_is_not_read_again(harness: Harness, tmp_path: Path) -> None:
    """E12"""
    path = put(tmp_path / "log", "a\n")
    source = text_source(tmp_path)
    await harness.start(source)
    assert await harness.cut(source) == ["a"]
    path.rename(tmp_path / "log.1")
    put(tmp_path / "log", "b\n")
    assert await harness.cut(source) == ["b"]


async def test_a_file_that_replaces_another_is_read(harness: Harness, tmp_path: Path) -> None:
    """E12"""
    path = put(tmp_path / "data", "first\n")
    source = text_source(tmp_path)
    await harness.start(source)
    assert await harness.cut(source) == ["first"]
    for number in range(10):
        put(path, f"{number}th\n")
        assert await harness.cut(source) == [f"{number}th"]


async def test_a_new_file_with_the_number_of_a_removed_one_is_read(harness: Harness, tmp_path: Path) -> None:
    """E12: many file systems give an inode number anew at once."""
    path = tmp_path / "data"
    path.write_text("first\n")
    source = text_source(tmp_path)
    await harness.start(source)
    assert await harness.cut(source) == ["first"]
    # The same file rewritten in place has the same number for certain.
    path.write_text("other, and longer\n")
    assert await harness.cut(source) == ["other, and longer"]


async def test_a_number_that_was_gone_names_another_file(harness: Harness, tmp_path: Path) -> None:
    """E12"""
    outside = tmp_path / ".outside"
    path = put(tmp_path / "data", "same beginning\n")
    source = text_source(tmp_path)
    await harness.start(source)
    assert await harness.cut(source) == ["same beginning"]
    path.rename(outside)
    assert await harness.cut(source) == []
    outside.rename(path)
    assert await harness.cut(source) == [], "it only came back"
    path.rename(outside)
    assert await harness.cut(source) == []
    with outside.open("a") as file:
        file.write("and more\n")
    outside.rename(path)
    assert await harness.cut(source) == ["same beginning", "and more"]


async def test_what_is_appended_later_is_not_read_but_counted_and_told(
    harness: Harness, tmp_path: Path
) -> None:
    """E12, SRC-10"""
    path = put(tmp_path / "data", "a\n")
    source = text_source(tmp_path)
    await harness.start(source)
    assert await harness.cut(source) == ["a"]
    with path.open("a") as file:
        file.write("b\n")
    assert await harness.cut(source) == []
    assert source.counters["files_changed"] == 1
    assert "changed after it was read" in harness.events_of("error")[-1].last_error
    assert await harness.cut(source) == []
    assert source.counters["files_changed"] == 1, "one change is one event"


async def test_a_truncated_file_is_counted_and_told(harness: Harness, tmp_path: Path) -> None:
    """E12"""
    path = put(tmp_path / "data", "a\nb\n")
    source = text_source(tmp_path)
    await harness.start(source)
    assert await harness.cut(source) == ["a", "b"]
    os.truncate(path, 2)
    assert await harness.cut(source) == []
    assert source.counters["files_shrunk"] == 1
    assert harness.events_of("error")


async def test_a_file_that_shrinks_between_batch_and_reading_fails_loudly(
    harness: Harness, tmp_path: Path
) -> None:
    """E12"""
    path = put(tmp_path / "data", "a\nb\n")
    source = text_source(tmp_path)
    await harness.start(source)
    batch = await source.cut(BatchTime(1000))
    os.truncate(path, 2)
    with pytest.raises(CorruptionError, match="shorter"):
        records_of(batch.blocks)


async def test_a_file_still_being_written_waits_until_it_is_settled(harness: Harness, tmp_path: Path) -> None:
    """E12"""
    clock = ManualClock(epoch_s=0.0)  # far behind the times of the files, as another host's may be
    path = tmp_path / "data"
    path.write_text("half")
    source = text_source(tmp_path, settled_for_s=5.0)
    await harness.start(source, clock=clock)
    assert await harness.cut(source) == []
    await clock.advance(4.0)
    path.write_text("half, and the rest\n")
    assert await harness.cut(source) == []
    await clock.advance(4.0)
    assert await harness.cut(source) == []
    await clock.advance(2.0)
    assert await harness.cut(source) == ["half, and the rest"]


async def test_an_old_file_needs_no_settling(harness: Harness, tmp_path: Path) -> None:
    put(tmp_path / "data", "a\n", mtime=SystemClock().time() - 60)
    source = text_source(tmp_path, settled_for_s=30.0)
    await harness.start(source)
    assert await harness.cut(source) == ["a"]


async def test_an_empty_file_is_read_when_something_is_in_it(harness: Harness, tmp_path: Path) -> None:
    """SRC-14"""
    path = tmp_path / "data"
    path.touch()
    source = text_source(tmp_path)
    await harness.start(source)
    assert await harness.cut(source) == []
    path.write_text("a\n")
    assert await harness.cut(source) == ["a"]


async def test_new_files_only_leaves_out_what_is_there(harness: Harness, tmp_path: Path) -> None:
    put(tmp_path / "before", "before\n")
    source = text_source(tmp_path, new_files_only=True)
    await harness.start(source)
    assert await harness.cut(source) == []
    put(tmp_path / "after", "after\n", mtime=1000.0)
    assert await harness.cut(source) == ["after"]


async def test_order_is_by_time_or_by_name(harness: Harness, tmp_path: Path) -> None:
    for name, mtime in (("a", 300.0), ("b", 100.0), ("c", 200.0), ("d", 100.0)):
        put(tmp_path / name, f"{name}\n", mtime)
    by_time, by_name = text_source(tmp_path), text_source(tmp_path, order="name")
    await harness.start(by_time)
    await harness.start(by_name)
    assert await harness.cut(by_time) == ["b", "d", "c", "a"]
    assert await harness.cut(by_name) == ["a", "b", "c", "d"]


async def test_a_batch_is_bounded_in_files_and_in_bytes(harness: Harness, tmp_path: Path) -> None:
    for number in range(10):
        put(tmp_path / f"{number}", f"{number}" * 99 + "\n", mtime=1000.0 + number)
    by_files = text_source(tmp_path, files_per_batch_max=4)
    by_bytes = text_source(tmp_path, bytes_per_batch_max=350)
    await harness.start(by_files)
    await harness.start(by_bytes)
    assert [len(await harness.cut(by_files)) for _ in range(4)] == [4, 4, 2, 0]
    assert [len(await harness.cut(by_bytes)) for _ in range(5)] == [3, 3, 3, 1, 0]


async def test_a_file_over_the_bound_of_a_batch_comes_alone(harness: Harness, tmp_path: Path) -> None:
    put(tmp_path / "large", "x" * 1000 + "\n", mtime=1000.0)
    put(tmp_path / "small", "y\n", mtime=2000.0)
    source = text_source(tmp_path, bytes_per_batch_max=10)
    await harness.start(source)
    assert await harness.cut(source) == ["x" * 1000]
    assert await harness.cut(source) == ["y"]


async def test_hidden_and_unfinished_names_are_left_out(harness: Harness, tmp_path: Path) -> None:
    """SRC-8"""
    for name in (".hidden", "a.tmp", "b.part", "c~", "d"):
        (tmp_path / name).write_text(f"{name}\n")
    source = text_source(tmp_path)
    await harness.start(source)
    assert await harness.cut(source) == ["d"]
    (tmp_path / "a.tmp").rename(tmp_path / "a")
    assert await harness.cut(source) == ["a.tmp"]


async def test_a_filter_sees_the_path_and_is_asked_again(harness: Harness, tmp_path: Path) -> None:
    put(tmp_path / "a.csv", "a\n")
    put(tmp_path / "b.txt", "b\n")
    allowed = {".csv"}
    source = text_source(tmp_path, filter=lambda path: Path(path).suffix in allowed)
    await harness.start(source)
    assert await harness.cut(source) == ["a"]
    allowed.add(".txt")
    assert await harness.cut(source) == ["b"]


async def test_a_filter_that_raises_fails_the_source_with_its_cause(harness: Harness, tmp_path: Path) -> None:
    put(tmp_path / "a", "a\n")
    source = text_source(tmp_path, filter=lambda path: 1 / 0)
    await harness.start(source)
    with pytest.raises(SourceError, match="ZeroDivisionError"):
        await harness.cut(source)
    assert not source.finished


async def test_globs_match_directories_and_files(harness: Harness, tmp_path: Path) -> None:
    """SRC-7"""
    for name in ("2024/a.txt", "2024/b.csv", "2025/c.txt", "2025/deep/d.txt", "other/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        put(tmp_path / name, f"{Path(name).stem}\n")

    async def lines(pattern: str, **options: Any) -> list[str]:
        source = text_source(f"{tmp_path}/{pattern}", order="name", **options)
        await harness.start(source)
        return await harness.cut(source)

    assert await lines("20*") == ["a", "b", "c"]
    assert await lines("20*/*.txt") == ["a", "c"]
    assert await lines("20*", recursive=True) == ["a", "b", "c", "d"]
    assert await lines("**/*.txt") == ["a", "c", "d", "e"]
    assert await lines("**") == ["a", "b", "c", "d", "e"]
    assert await lines("2024/[a-b].*") == ["a", "b"]
    assert await lines("", recursive=True) == ["a", "b", "c", "d", "e"]


async def test_loops_of_links_fifos_and_devices_do_no_harm(harness: Harness, tmp_path: Path) -> None:
    """E13"""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "device").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "fifo")
    put(tmp_path / "sub" / "real", "real\n")
    (tmp_path / "link").symlink_to(tmp_path / "sub" / "real")
    async with asyncio.timeout(20):
        for path in (tmp_path, f"{tmp_path}/**"):
            source = text_source(path, recursive=True)
            await harness.start(source)
            assert await harness.cut(source) == ["real"], "a link and its file are one file"


async def test_a_directory_of_too_many_files_fails_with_a_remedy(harness: Harness, tmp_path: Path) -> None:
    """E13"""
    for number in range(20):
        (tmp_path / str(number)).write_text("a\n")
    source = text_source(tmp_path, entries_max=10)
    await harness.start(source)
    with pytest.raises(SourceError, match="entries_max"):
        await harness.cut(source)


async def test_many_files_are_taken_in_bounded_steps(harness: Harness, tmp_path: Path) -> None:
    """E13"""
    for number in range(3000):
        (tmp_path / f"{number:05d}").write_text(f"{number}\n")
    source = text_source(tmp_path, order="name", files_per_batch_max=1000)
    await harness.start(source)
    records = [await harness.cut(source) for _ in range(4)]
    assert [len(batch) for batch in records] == [1000, 1000, 1000, 0]
    assert [int(record) for batch in records for record in batch] == list(range(3000))


async def test_a_missing_directory_fails_the_start(harness: Harness, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not a directory"):
        await harness.start(text_source(tmp_path / "nowhere"))


async def test_a_directory_may_come_and_go(harness: Harness, tmp_path: Path) -> None:
    """SRC-11"""
    path = tmp_path / "later"
    source = text_source(path, must_exist=False)
    await harness.start(source)
    assert await harness.cut(source) == []
    assert await harness.cut(source) == []
    assert len(harness.events_of("error")) == 1, "one trouble is one event"
    path.mkdir()
    put(path / "a", "a\n")
    assert await harness.cut(source) == ["a"]
    (path / "a").unlink()
    path.rmdir()
    assert await harness.cut(source) == []
    assert source.counters["listings_failed"] >= 3


async def test_a_file_that_vanishes_before_its_batch_is_skipped_and_counted(
    harness: Harness, tmp_path: Path
) -> None:
    """SRC-11"""
    put(tmp_path / "stays", "stays\n", mtime=1000.0)
    goes = put(tmp_path / "goes", "goes\n", mtime=2000.0)
    source = text_source(tmp_path, files_per_batch_max=1, list_interval_s=3600.0)
    source._files_per_batch_max = 2  # list both ...
    await harness.start(source)
    await source._list_for_batch()
    assert source.pending
    goes.unlink()  # ... and lose one before it is taken
    assert await harness.cut(source) == ["stays"]
    assert source.counters["files_vanished"] == 1
    assert "gone" in harness.events_of("error")[-1].last_error


async def test_a_listing_that_hangs_does_not_hold_up_the_batches_or_the_stop(
    harness: Harness, tmp_path: Path
) -> None:
    """E4"""
    put(tmp_path / "a", "a\n")
    let_go = threading.Event()
    source = text_source(tmp_path, filter=lambda path: let_go.wait(30), list_timeout_s=0.05)
    await harness.start(source)
    try:
        assert await harness.cut(source) == []
        assert source.counters["listings_slow"] == 1
        assert await harness.cut(source) == []
    finally:
        let_go.set()
    assert await harness.collect(source, 1) == ["a"]


async def test_a_directory_that_takes_long_to_list_is_listed_less_often(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SRC-12"""
    monkeypatch.setattr(files, "_QUICK_S", 0.0)  # every listing takes long
    clock = ManualClock()
    put(tmp_path / "a", "a\n")
    source = text_source(tmp_path, list_interval_s=0.0)
    await harness.start(source, clock=clock)
    assert await harness.cut(source) == ["a"]
    listings = source.counters["listings"]
    for _ in range(10):
        await harness.cut(source)
    assert source.counters["listings"] == listings
    put(tmp_path / "b", "b\n")
    await clock.advance(100.0)
    await until(lambda: source.pending)
    assert await harness.cut(source) == ["b"]


async def test_large_files_are_split_so_that_all_workers_have_work(harness: Harness, tmp_path: Path) -> None:
    lines = [f"{number:07d} {'x' * (number % 50)}" for number in range(200_000)]
    put(tmp_path / "large", "\n".join(lines) + "\n")
    source = text_source(tmp_path)
    await harness.start(source, parallelism=4)
    assert await harness.cut(source) == lines
    assert len(harness.batches[-1].blocks) >= 4
    small = text_source(tmp_path, split_bytes=1000)
    await harness.start(small)
    assert await harness.cut(small) == lines
    assert all(block.length <= 1000 for block in harness.batches[-1].blocks)


async def test_compressed_files_are_inflated_in_one_part(harness: Harness, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.gz", "wt") as file:
        file.write("one\ntwo\n" * 10)
    source = text_source(tmp_path, split_bytes=4)
    await harness.start(source)
    assert await harness.cut(source) == ["one", "two"] * 10
    assert len(harness.batches[-1].blocks) == 1


async def test_fixed_records_are_split_between_records(harness: Harness, tmp_path: Path) -> None:
    """SRC-6"""
    records = [number.to_bytes(3, "big") for number in range(1000)]
    (tmp_path / "plain").write_bytes(b"".join(records))
    (tmp_path / "zipped.gz").write_bytes(gzip.compress(b"".join(records)))
    source = text_source(tmp_path, kind="fixed", record_bytes=3, split_bytes=100, order="name")
    await harness.start(source)
    assert await harness.cut(source) == records * 2
    assert len(harness.batches[-1].blocks) > 10


async def test_a_file_that_ends_within_a_record_fails_with_its_name(harness: Harness, tmp_path: Path) -> None:
    """SRC-6"""
    (tmp_path / "odd").write_bytes(b"1234567")
    source = text_source(tmp_path, kind="fixed", record_bytes=3)
    await harness.start(source)
    with pytest.raises(CorruptionError, match=r"odd.*record_bytes=3"):
        await harness.cut(source)


async def test_whole_files_come_with_their_path(harness: Harness, tmp_path: Path) -> None:
    put(tmp_path / "a", "one\ntwo\n")
    (tmp_path / "empty").touch()
    text, data = (
        text_source(tmp_path, kind="whole", order="name"),
        text_source(tmp_path, kind="whole", encoding=None, order="name"),
    )
    await harness.start(text)
    await harness.start(data)
    paths = [str(tmp_path / name) for name in ("a", "empty")]
    assert await harness.cut(text) == list(zip(paths, ["one\ntwo\n", ""], strict=True))
    assert await harness.cut(data) == list(zip(paths, [b"one\ntwo\n", b""], strict=True))


async def test_a_reader_is_left_to_the_engine_with_the_paths(harness: Harness, tmp_path: Path) -> None:
    put(tmp_path / "a", "a\n")
    source = text_source(tmp_path, kind="path", reader=lambda path: [path])
    assert source.reader is not None
    await harness.start(source)
    assert await harness.cut(source) == [str(tmp_path / "a")]


async def test_strict_text_is_handed_over_undecoded(harness: Harness, tmp_path: Path) -> None:
    """E10"""
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfgood\r\nb\xffd\n")
    source = text_source(tmp_path, errors="strict")
    assert (source.format, source.decode_strictly) == ("file-bytes-lines", "utf-8")
    await harness.start(source)
    assert await harness.cut(source) == [b"good", b"b\xffd"]


async def test_a_position_restores_what_was_read_even_through_json(harness: Harness, tmp_path: Path) -> None:
    put(tmp_path / "a", "a\n", mtime=1000.0)
    put(tmp_path / "b", "b\n", mtime=2000.0)
    first = text_source(tmp_path, files_per_batch_max=1)
    await harness.start(first)
    assert await harness.cut(first) == ["a"]
    position = json.loads(json.dumps(harness.batches[-1].position()))
    (tmp_path / "a").rename(tmp_path / "a.renamed")
    second = text_source(tmp_path, new_files_only=True)
    second.restore(position)
    await harness.start(second)
    assert await harness.cut(second) == ["b"], "the position says where to go on, not the start"


async def test_what_idle_batches_add_to_the_position_is_nothing(harness: Harness, tmp_path: Path) -> None:
    """D5: an idle batch costs nothing."""
    put(tmp_path / "a", "a\n")
    source = text_source(tmp_path)
    await harness.start(source)
    for _ in range(3):
        await harness.cut(source)
    assert [bool(batch.position_change) for batch in harness.batches] == [True, False, False]
    assert harness.batches[-1].position() is harness.batches[-2].position()


@pytest.mark.parametrize(
    "position", [None, {}, {"version": 1}, {"version": 2, "files": []}, {"version": 1, "files": [["x"]]}]
)
def test_what_is_no_position_is_refused(tmp_path: Path, position: Any) -> None:
    with pytest.raises(ConfigurationError):
        FileSource(tmp_path).restore(position)


async def test_gone_files_are_forgotten_first_at_the_bound(harness: Harness, tmp_path: Path) -> None:
    source = text_source(tmp_path, remembered_files_max=3)
    await harness.start(source)
    for number in range(10):
        path = put(tmp_path / f"{number}", f"{number}\n")
        assert await harness.cut(source) == [str(number)]
        path.unlink()
        assert await harness.cut(source) == []
        assert len(source._memory) <= 3


async def test_more_present_files_than_can_be_remembered_fail_rather_than_be_read_twice(
    harness: Harness, tmp_path: Path
) -> None:
    source = text_source(tmp_path, remembered_files_max=2, files_per_batch_max=2)
    await harness.start(source)
    for number in range(3):
        put(tmp_path / f"{number}", f"{number}\n", mtime=1000.0 + number)
    assert await harness.cut(source) == ["0", "1"]
    with pytest.raises(SourceError, match="remembered_files_max"):
        await harness.cut(source)


async def test_without_following_it_finishes_with_what_is_there(harness: Harness, tmp_path: Path) -> None:
    """E3"""
    for number in range(5):
        put(tmp_path / f"{number}", f"{number}\n", mtime=1000.0 + number)
    source = text_source(tmp_path, follow=False, files_per_batch_max=2)
    await harness.start(source)
    assert await harness.drain(source) == ["0", "1", "2", "3", "4"]
    put(tmp_path / "late", "late\n")
    assert await harness.cut(source) == []


async def test_new_files_are_noticed_between_batches(harness: Harness, tmp_path: Path) -> None:
    source = text_source(tmp_path, list_interval_s=0.01)
    await harness.start(source)
    assert not source.pending
    put(tmp_path / "a", "a\n")
    await until(lambda: source.pending)
    assert await harness.cut(source) == ["a"]


async def test_a_batch_tells_its_files(harness: Harness, tmp_path: Path) -> None:
    """SRC-13"""
    put(tmp_path / "a", "a\n")
    source = text_source(tmp_path)
    await harness.start(source)
    await harness.cut(source)
    batch = harness.batches[-1]
    assert (batch.records, batch.bytes, names_in(harness)) == (-1, 2, ["a"])
    assert str(tmp_path / "a") in batch.metadata["description"]
    await harness.cut(source)
    assert harness.batches[-1].records == 0


async def test_after_stop_nothing_more_is_looked_for(harness: Harness, tmp_path: Path) -> None:
    source = text_source(tmp_path)
    await harness.start(source)
    await source.stop()
    put(tmp_path / "a", "a\n")
    assert await harness.cut(source) == []
    assert source.finished
    assert len(harness.events_of("stopped")) == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"kind": "nonsense"}, "kind"),
        ({"kind": "fixed"}, "record_bytes"),
        ({"record_bytes": 3}, "record_bytes"),
        ({"kind": "path"}, "reader"),
        ({"reader": list}, "reader"),
        ({"order": "size"}, "order"),
        ({"encoding": "utf-16"}, "line end"),
        ({"kind": "whole", "encoding": "nonsense"}, "nonsense"),
        ({"files_per_batch_max": 0}, "files_per_batch_max"),
        ({"split_bytes": 0}, "split_bytes"),
    ],
)
def test_bad_options_are_named(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        FileSource(tmp_path, **options)
