"""Giving up the end of a journal, and setting a directory aside."""

from __future__ import annotations

import errno
import os

import pytest

from aiostream_engine.durable.checkpoint_directory import CheckpointDirectory
from aiostream_engine.durable.files import Files
from aiostream_engine.durable.journal import Journal
from aiostream_engine.durable.journal_reader import ScanResult, scan
from aiostream_engine.durable.repair import JournalEnd, end_after, remove_after, set_aside


def write(directory, records, *, epoch=1, number=0, checksum=0):
    """One record a group, each in a segment of its own when it is large."""
    journal = Journal(str(directory), epoch=epoch, number=number, checksum=checksum, segment_bytes=200)
    for payload in records:
        journal.begin()
        journal.append(1, b"meta", payload)
        journal.sync()
    journal.close()


def numbers(directory):
    return [record.payload.number for record in scan(str(directory), ScanResult())]


def files_of(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()}


@pytest.fixture
def journal(tmp_path):
    directory = tmp_path / "journal"
    directory.mkdir()
    write(directory, [b"x" * 60] * 9)
    assert len(list(directory.glob("*.log"))) == 5
    return directory


def test_the_end_of_each_record_is_found(journal):
    found = [end_after(str(journal), number)[0] for number in range(12)]
    assert [end.number for end in found] == [*range(10), 9, 9]
    assert found[0] == JournalEnd(0)
    assert found[9] == end_after(str(journal))[0]
    assert [len(end.segments) for end in found[1:10]] == [1, 1, 2, 2, 3, 3, 4, 4, 5]


@pytest.mark.parametrize("number", range(10))
def test_what_stands_behind_is_gone_and_a_driver_can_go_on_from_there(journal, tmp_path, number):
    end, _, _ = end_after(str(journal), number)
    remove_after(str(journal), end, str(tmp_path / "backup"))
    assert numbers(journal) == list(range(1, number + 1))
    result = ScanResult()
    list(scan(str(journal), result))
    write(journal, [b"new"], epoch=2, number=result.number, checksum=result.checksum)
    assert numbers(journal) == list(range(1, number + 2))


@pytest.mark.parametrize("number", range(10))
def test_what_was_removed_is_kept_and_can_be_put_together_again(journal, tmp_path, number):
    before = files_of(journal)
    end, _, _ = end_after(str(journal), number)
    removed = remove_after(str(journal), end, str(tmp_path / "backup"))
    backup = files_of(tmp_path / "backup")
    restored = files_of(journal)
    for name, content in backup.items():
        whole, _, offset = name.partition(".from-")
        restored[whole] = restored[whole][: int(offset)] + content if offset else content
    assert restored == before
    assert removed == sum(len(content) for name, content in backup.items() if name != "HEAD")


def test_records_of_a_driver_that_was_replaced_do_not_come_back(journal, tmp_path):
    """B8: behind the cut there may be what never counted."""
    end, result, _ = end_after(str(journal), 4)
    records = iter(scan(str(journal), result := ScanResult()))
    for _ in range(4):
        next(records)
    write(journal, [b"y" * 60] * 2, epoch=2, number=result.number, checksum=result.checksum)
    assert numbers(journal) == [1, 2, 3, 4, 5, 6]
    end, _, _ = end_after(str(journal), 3)
    remove_after(str(journal), end, str(tmp_path / "backup"))
    assert numbers(journal) == [1, 2, 3]


def test_damage_ends_where_the_last_good_record_does(journal):
    """C6"""
    path = sorted(journal.glob("*.log"))[1]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    end, _, damage = end_after(str(journal))
    assert end.number == 3
    assert path.name in damage


class FailingFiles(Files):
    """The n-th change fails."""

    def __init__(self, call: int) -> None:
        self.left = call

    def _count(self):
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.EIO, "broken")

    def rename(self, source, target):
        self._count()
        super().rename(source, target)

    def sync_directory(self, path):
        self._count()
        super().sync_directory(path)

    def truncate(self, fd, size):
        self._count()
        super().truncate(fd, size)


@pytest.mark.parametrize("call", range(1, 11))
def test_a_repair_that_was_cut_short_can_be_repeated(journal, tmp_path, call):
    """C4"""
    end, _, _ = end_after(str(journal), 4)
    try:
        remove_after(str(journal), end, str(tmp_path / "first"), FailingFiles(call))
    except OSError:
        end, _, _ = end_after(str(journal), 4)
        assert end.number == 4
        remove_after(str(journal), end, str(tmp_path / "second"))
    assert numbers(journal) == [1, 2, 3, 4]


def test_a_directory_that_was_set_aside_begins_anew_and_its_epoch_still_rises(tmp_path):
    """B9: a driver that was paused meanwhile still finds out."""
    first = CheckpointDirectory(str(tmp_path / "checkpoint"))
    write(first.journal_path, [b"x"])
    first.close()
    set_aside(str(tmp_path / "checkpoint"), str(tmp_path / "aside"))
    assert sorted(os.listdir(tmp_path / "checkpoint")) == ["EPOCH", "LOCK"]
    second = CheckpointDirectory(str(tmp_path / "checkpoint"))
    assert (second.epoch, os.listdir(second.journal_path)) == (first.epoch + 1, [])
    second.close()
    assert numbers(tmp_path / "aside" / "journal") == [1]
    moved = CheckpointDirectory(str(tmp_path / "aside"))
    moved.close()
