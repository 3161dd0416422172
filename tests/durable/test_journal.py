"""A journal gives back what was durable, leaves out what a crash tore, and refuses what was damaged."""

from __future__ import annotations

import errno
import os
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiostream_engine.durable.journal import AHEAD_BYTES, SMALL_GROUP_BYTES, DiskFullError, Journal
from aiostream_engine.durable.journal_format import (
    HEAD,
    META_BYTES_MAX,
    RECORD_BYTES,
    SEGMENT_BYTES,
    RecordHeader,
    SegmentHeader,
)
from aiostream_engine.errors import CorruptionError, StorageError
from aiostream_engine.testing.fault_files import FaultFiles
from tests.durable.journals import Record, read, segment, write

A: Record = (1, b'{"a":1}', b"payload of a")
B: Record = (2, b'{"b":2}', b"")
C: Record = (3, b"{}", bytes(range(256)))


def test_records_come_back_in_order_with_their_payloads(tmp_path: Path) -> None:
    write(tmp_path, [[A], [B, C]])
    records, result = read(tmp_path)
    assert records == [A, B, C]
    assert (result.number, result.torn_bytes, result.epoch) == (3, 0, 1)


def test_an_empty_directory_is_an_empty_journal(tmp_path: Path) -> None:
    assert read(tmp_path)[0] == []


def test_each_driver_begins_a_segment_of_its_own_and_the_chain_goes_on(tmp_path: Path) -> None:
    for epoch in (1, 2, 5):
        write(tmp_path, [[A], [B]], epoch=epoch)
    records, result = read(tmp_path)
    assert records == [A, B] * 3
    assert [path.name for path in sorted(tmp_path.glob("*.log"))] == result.segments
    assert len(result.segments) == 3


def test_a_segment_that_is_full_is_followed_by_another(tmp_path: Path) -> None:
    journal = write(tmp_path, [[C]] * 10, segment_bytes=600)
    assert journal.segments > 3
    assert read(tmp_path)[0] == [C] * 10
    assert journal.bytes == sum(path.stat().st_size for path in tmp_path.glob("*.log"))


@pytest.mark.parametrize("groups", [1, 2])
def test_cut_at_any_byte_the_last_group_loses_its_tail_and_nothing_else(tmp_path: Path, groups: int) -> None:
    """C5: starts, leaves out the torn record and says so."""
    source = tmp_path / "source"
    source.mkdir()
    write(source, [[A]] * groups + [[B, C]])
    whole = segment(source).read_bytes()
    before = read(source)[1]
    first_bytes = len(whole) - _bytes(B) - _bytes(C)
    for size in range(first_bytes, len(whole)):
        segment(source).write_bytes(whole[:size])
        records, result = read(source)
        expected = [A] * groups + ([B] if size >= first_bytes + _bytes(B) else [])
        assert records == expected, size
        good = first_bytes + (_bytes(B) if size >= first_bytes + _bytes(B) else 0)
        assert result.torn_bytes == len(whole[good:size].rstrip(b"\0"))
        assert result.number < before.number


def _bytes(record: Record) -> int:
    return RECORD_BYTES + len(record[1]) + len(record[2]) + 4


def test_after_a_torn_end_the_next_driver_goes_on_behind_what_counts(tmp_path: Path) -> None:
    """C5, B4: also when it dies before it has written anything, and again."""
    write(tmp_path, [[A], [B]])
    with open(segment(tmp_path), "r+b") as file:
        file.truncate(segment(tmp_path).stat().st_size - 3)
    write(tmp_path, [], epoch=2)
    write(tmp_path, [[C]], epoch=3)
    assert read(tmp_path)[0] == [A, C]


@pytest.mark.parametrize("index", [0, 1], ids=["a middle group", "the last group"])
def test_a_flipped_bit_is_found_in_every_byte(tmp_path: Path, index: int) -> None:
    """C6: in the middle it is corruption, named with its place; at the very end it is a torn record."""
    write(tmp_path, [[A], [C]])
    path = segment(tmp_path)
    whole = path.read_bytes()
    start = SEGMENT_BYTES + index * _bytes(A)
    for position in range(start, start + _bytes((A, C)[index])):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        if index == 0:
            with pytest.raises(
                CorruptionError, match=rf"{path.name} is corrupt at byte {start}: .*good record is 0"
            ):
                read(tmp_path)
        else:
            records, result = read(tmp_path)
            assert records == [A], position
            assert result.torn_bytes == _bytes(C)


def test_a_flipped_bit_in_a_header_of_a_segment_is_found(tmp_path: Path) -> None:
    """C6: also in the only segment, since HEAD says that it held durable records."""
    write(tmp_path, [[A]])
    path = segment(tmp_path)
    whole = path.read_bytes()
    for position in range(SEGMENT_BYTES):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(CorruptionError, match=path.name):
            read(tmp_path)


def test_damage_in_an_older_segment_is_corruption_even_at_its_end(tmp_path: Path) -> None:
    """C6, C8."""
    write(tmp_path, [[A]])
    write(tmp_path, [[B]], epoch=2)
    path = segment(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptionError, match="is incomplete"):
        read(tmp_path)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 5000 + b"\1",
        b"rec\x01" * 300,
        os.urandom(2999) + b"\1",  # zeros at the end would be room that was not used
        RecordHeader(1, 2, 0, 1, 4 * 1024**3, 0).pack(),
        RecordHeader(1, 2, 0, META_BYTES_MAX, 0, 0).pack() + b"x",
    ],
    ids=["zeros", "magics", "noise", "a header that does not follow", "a header with a large size"],
)
def test_garbage_behind_a_good_end_is_left_out(tmp_path: Path, garbage: bytes) -> None:
    """C7."""
    write(tmp_path, [[A]])
    with open(segment(tmp_path), "ab") as file:
        file.write(garbage)
    records, result = read(tmp_path)
    assert (records, result.torn_bytes) == ([A], len(garbage))


@pytest.mark.parametrize("size", [1, RECORD_BYTES, 3 * 1024 * 1024])
def test_zeros_behind_a_good_end_are_room_that_was_not_used(tmp_path: Path, size: int) -> None:
    """C5: so a killed driver leaves its segment; nothing of it is torn."""
    write(tmp_path, [[A]])
    with open(segment(tmp_path), "ab") as file:
        file.write(bytes(size))
    records, result = read(tmp_path)
    assert (records, result.torn_bytes, result.torn_path) == ([A], 0, "")
    write(tmp_path, [[B]], epoch=2)
    assert read(tmp_path)[0] == [A, B]


def test_zeros_in_place_of_a_durable_record_are_corruption(tmp_path: Path) -> None:
    """C6."""
    write(tmp_path, [[A], [B], [C]])
    data = bytearray(segment(tmp_path).read_bytes())
    data[SEGMENT_BYTES + _bytes(A) : -_bytes(C)] = bytes(_bytes(B))
    segment(tmp_path).write_bytes(data)
    with pytest.raises(CorruptionError, match="good record is 1"):
        read(tmp_path)


def test_room_is_made_ahead_of_small_groups_and_given_back_at_the_end(tmp_path: Path) -> None:
    """A sync of what is there already costs half of one of a file that grows."""
    files = FaultFiles(tmp_path)
    journal = Journal(str(tmp_path), epoch=1, files=files, segment_bytes=2 * AHEAD_BYTES[0])
    for _ in range(20):
        _group(journal, C)
    assert files.operations.count("fill") == 1
    assert segment(tmp_path).stat().st_size == SEGMENT_BYTES + AHEAD_BYTES[0]
    journal.close()
    assert segment(tmp_path).stat().st_size == SEGMENT_BYTES + 20 * _bytes(C)
    assert read(tmp_path)[0] == [C] * 20


def test_no_room_is_made_ahead_of_large_groups(tmp_path: Path) -> None:
    """Zeros would take as long as the records."""
    large = (1, b"", bytes(SMALL_GROUP_BYTES + 1))
    files = FaultFiles(tmp_path)
    journal = Journal(str(tmp_path), epoch=1, files=files)
    for _ in range(24):
        _group(journal, large)
    assert files.operations.count("fill") == 1, "before the first one, whose size nobody knows"
    for _ in range(3):
        _group(journal, A)
    assert files.operations.count("fill") == 2, "when they are small again"
    journal.close()
    assert len(read(tmp_path)[0]) == 24 + 3


def test_when_there_is_no_room_ahead_the_records_take_what_there_is(tmp_path: Path) -> None:
    """C1."""
    files = FaultFiles(tmp_path, tear=True)
    files.fail(errno.ENOSPC, fails=100, only={"fill"})
    journal = Journal(str(tmp_path), epoch=1, files=files)
    for _ in range(5):
        _group(journal, A)
    assert files.operations.count("fill") == 1, "it is not tried again and again"
    assert segment(tmp_path).stat().st_size == SEGMENT_BYTES + 5 * _bytes(A)
    journal.close()
    assert read(tmp_path)[0] == [A] * 5


def test_an_error_of_the_disk_while_room_is_made_breaks_the_journal(tmp_path: Path) -> None:
    """C2."""
    files = FaultFiles(tmp_path)
    files.fail(errno.EIO, only={"fill"})
    journal = Journal(str(tmp_path), epoch=1, files=files)
    with pytest.raises(StorageError, match="Input/output error"):
        journal.begin()
    assert journal.broken
    journal.close()


def test_a_huge_length_allocates_nothing(tmp_path: Path) -> None:
    """C7: a header whose checksum fits and that claims more than the bound."""
    write(tmp_path, [[A]])
    _, result = read(tmp_path)
    good = RecordHeader(1, 2, 1, 7, 7, result.checksum).pack()
    huge = good[:21] + struct.pack(">I", 0xFFFFFFF0) + good[25:-4]
    from zlib import crc32

    with open(segment(tmp_path), "ab") as file:
        file.write(huge + struct.pack(">I", crc32(huge)))
    records, result = read(tmp_path)
    assert records == [A]
    assert result.torn_bytes == RECORD_BYTES


def test_a_record_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    """C7."""
    journal = Journal(str(tmp_path), epoch=1)
    journal.begin()
    with pytest.raises(StorageError, match="too large"):
        journal.append(1, bytearray(META_BYTES_MAX + 1))  # type: ignore[arg-type]
    journal.close()


@pytest.mark.parametrize("index", [0, 1, 2], ids=["the oldest", "a middle one", "the newest"])
def test_a_missing_segment_is_missed(tmp_path: Path, index: int) -> None:
    """C8: never silently an older state. The oldest one is missed by who needs what stood there."""
    for epoch in (1, 2, 3):
        write(tmp_path, [[A], [B]], epoch=epoch)
    name = segment(tmp_path, index).name
    segment(tmp_path, index).unlink()
    if index == 0:
        assert len(read(tmp_path)[0]) == 4  # as after its removal when nothing needed it
        return
    with pytest.raises(CorruptionError, match="missing") as caught:
        read(tmp_path)
    if index == 2:
        assert name in str(caught.value)


def test_without_head_removed_segments_are_missed(tmp_path: Path) -> None:
    """C8."""
    for epoch in (1, 2):
        write(tmp_path, [[A]], epoch=epoch)
    segment(tmp_path, 0).unlink()
    (tmp_path / HEAD).unlink()
    with pytest.raises(CorruptionError, match="HEAD is missing"):
        read(tmp_path)


def test_a_damaged_head_is_refused(tmp_path: Path) -> None:
    """C8."""
    write(tmp_path, [[A]])
    (tmp_path / HEAD).write_bytes(b'{"first":')
    with pytest.raises(CorruptionError, match="HEAD is damaged"):
        read(tmp_path)


def test_an_old_copy_of_a_segment_does_not_fit(tmp_path: Path) -> None:
    """C9."""
    write(tmp_path, [[A]])
    old = segment(tmp_path).read_bytes()
    segment(tmp_path).unlink()
    (tmp_path / HEAD).unlink()
    write(tmp_path, [[B]])
    write(tmp_path, [[C]], epoch=2)
    segment(tmp_path, 0).write_bytes(old)
    with pytest.raises(CorruptionError, match="does not follow the segment before"):
        read(tmp_path)


def test_an_old_copy_of_all_segments_does_not_fit_the_head(tmp_path: Path) -> None:
    """C9: the last segment, which HEAD names, is not in the copy."""
    journal, copy = tmp_path / "journal", tmp_path / "copy"
    journal.mkdir()
    write(journal, [[A]])
    shutil.copytree(journal, copy)
    write(journal, [[B]], epoch=2)
    for path in journal.glob("*.log"):
        path.unlink()
    for path in copy.glob("*.log"):
        shutil.copy(path, journal)
    with pytest.raises(CorruptionError, match="missing"):
        read(journal)


def test_an_old_head_does_not_fit_the_segments(tmp_path: Path) -> None:
    """C9."""
    write(tmp_path, [[A]])
    old = (tmp_path / HEAD).read_bytes()
    for epoch in (2, 3):
        write(tmp_path, [[B]], epoch=epoch)
    (tmp_path / HEAD).write_bytes(old)
    with pytest.raises(CorruptionError, match="HEAD is older than the journal"):
        read(tmp_path)


def test_a_segment_of_a_later_format_is_refused(tmp_path: Path) -> None:
    """H5."""
    write(tmp_path, [[A]])
    path = segment(tmp_path)
    header = SegmentHeader.unpack(path.read_bytes()[:SEGMENT_BYTES])
    assert header is not None
    path.write_bytes(header._replace(version=2).pack() + path.read_bytes()[SEGMENT_BYTES:])
    with pytest.raises(CorruptionError, match="has format 2; this version of the engine reads up to 1"):
        read(tmp_path)


def test_no_segment_is_ever_written_over(tmp_path: Path) -> None:
    """B8: the exclusive creation of a segment tells that somebody else was there."""
    (tmp_path / "journal-00000000000000000001-0000000001.log").write_bytes(b"")
    journal = Journal(str(tmp_path), epoch=1)
    with pytest.raises(StorageError, match="File exists"):
        journal.begin()
    assert journal.broken


def test_what_a_replaced_driver_writes_later_does_not_count(tmp_path: Path) -> None:
    """B8, B9: the segment of its successor says what it follows."""
    old = Journal(str(tmp_path), epoch=1, segment_bytes=400)
    _group(old, A)
    write(tmp_path, [[B]], epoch=2)
    for _ in range(4):  # into its own segment, and into new ones
        _group(old, C)
    old.close()
    records, result = read(tmp_path)
    assert records == [A, B]
    assert result.epoch == 2
    write(tmp_path, [[A]], epoch=3)
    assert read(tmp_path)[0] == [A, B, A]


def _group(journal: Journal, record: Record) -> None:
    journal.begin()
    journal.append(*record)
    journal.sync()


def test_segments_that_nobody_needs_are_removed_one_by_one(tmp_path: Path) -> None:
    """C14."""
    files = FaultFiles(tmp_path)
    journal = Journal(str(tmp_path), epoch=1, files=files, segment_bytes=1)
    for _ in range(5):
        _group(journal, A)
    assert journal.drop_before(3) == 2
    assert files.operations[-4:] == ["unlink", "sync_directory"] * 2
    assert journal.drop_before(100) == 2, "the last one always stays"
    journal.close()
    assert read(tmp_path)[0] == [A]


# -- failing -----------------------------------------------------------------------------------------


def test_after_a_failed_sync_nothing_is_written_any_more(tmp_path: Path) -> None:
    """C3: the descriptor of a failed sync is never synced again."""
    files = FaultFiles(tmp_path)
    journal = Journal(str(tmp_path), epoch=1, files=files)
    _group(journal, A)
    journal.begin()
    journal.append(*B)
    files.fail(errno.EIO)
    with pytest.raises(StorageError, match=r"cannot write the journal.*Input/output error"):
        journal.sync()
    syncs = files.operations.count("sync")
    for call in (journal.begin, journal.sync, lambda: journal.append(*C)):
        with pytest.raises(StorageError, match="is broken"):
            call()
    assert files.operations.count("sync") == syncs
    journal.close()


@pytest.mark.parametrize("tear", [False, True])
def test_a_full_disk_takes_a_group_back_and_lets_it_be_written_later(tmp_path: Path, tear: bool) -> None:
    """C1, C2: no part of the record is left."""
    files = FaultFiles(tmp_path, tear=tear)
    journal = Journal(str(tmp_path), epoch=1, files=files)
    _group(journal, A)
    journal.begin()
    journal.append(*B)
    files.fail(errno.ENOSPC)
    with pytest.raises(DiskFullError, match="No space left"):
        journal.append(*C)
    assert segment(tmp_path).stat().st_size == SEGMENT_BYTES + _bytes(A)
    _group(journal, C)
    journal.close()
    assert read(tmp_path)[0] == [A, C]


@pytest.mark.parametrize("operation", range(1, 5), ids=["create", "write", "sync", "sync_directory"])
def test_a_full_disk_at_a_new_segment_leaves_no_segment(tmp_path: Path, operation: int) -> None:
    """C1: but for a sync that failed there is nothing to be forgotten by the kernel: the file is new."""
    files = FaultFiles(tmp_path)
    journal = Journal(str(tmp_path), epoch=1, files=files, segment_bytes=1)
    _group(journal, A)
    files.fail(errno.ENOSPC, after=operation)
    with pytest.raises(DiskFullError):
        journal.begin()
    assert len(list(tmp_path.glob("*.log"))) == 1
    _group(journal, B)
    journal.close()
    assert read(tmp_path)[0] == [A, B]


def test_a_full_disk_at_the_head_takes_the_group_back(tmp_path: Path) -> None:
    """C2."""
    files = FaultFiles(tmp_path, only={"rename"}, error=errno.ENOSPC, fail_at=1)
    journal = Journal(str(tmp_path), epoch=1, files=files)
    journal.begin()
    journal.append(*A)
    with pytest.raises(DiskFullError):
        journal.sync()
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []
    _group(journal, B)
    journal.close()
    assert read(tmp_path)[0] == [B]


@pytest.mark.parametrize("error", [errno.EIO, errno.EXDEV, errno.EROFS])
def test_a_head_that_cannot_be_replaced_breaks_the_journal(tmp_path: Path, error: int) -> None:
    """C10."""
    files = FaultFiles(tmp_path, only={"rename"}, error=error, fail_at=1)
    journal = Journal(str(tmp_path), epoch=1, files=files)
    journal.begin()
    journal.append(*A)
    with pytest.raises(StorageError, match="injected into rename"):
        journal.sync()
    assert journal.broken
    journal.close()


@pytest.mark.parametrize("operation", ["create", "write", "sync", "rename", "sync_directory"])
def test_a_disk_that_is_full_while_the_head_is_replaced_leaves_a_journal_that_can_be_read(
    tmp_path: Path, operation: str
) -> None:
    """C2, C10: a head that names a segment is not left behind with a group that was taken back."""
    files = FaultFiles(tmp_path)
    journal = Journal(str(tmp_path), epoch=1, files=files)
    journal.begin()
    journal.append(*A)
    of_segment = 1 if operation == "sync" else 0  # before the head
    files.fail(errno.ENOSPC, after=of_segment, only={operation})
    with pytest.raises(StorageError):
        journal.sync()
    journal.close()
    records, _ = read(tmp_path)
    assert records == ([A] if journal.broken else [])


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_after_a_loss_of_power_all_that_was_durable_is_there(
    tmp_path_factory: object, data: st.DataObject
) -> None:
    """B10: whatever part of the rest is there, in whatever order; what is there is a prefix."""
    directory = tmp_path_factory.mktemp("journal")  # type: ignore[attr-defined]
    seed = data.draw(st.integers(0, 2**32))
    cut_at = data.draw(st.integers(1, 60))
    sizes = data.draw(
        st.lists(st.lists(st.integers(0, 1500), min_size=1, max_size=4), min_size=1, max_size=8)
    )
    groups = [
        [(1, b"%d" % index, bytes([index]) * size) for size in sizes] for index, sizes in enumerate(sizes)
    ]
    files = FaultFiles(directory, cut_at=cut_at)
    durable: list[Record] = []
    begun: list[Record] = []
    journal = Journal(str(directory), epoch=1, files=files, segment_bytes=2500)
    try:
        for group in groups:
            begun = [*durable, *group]
            journal.begin()
            for record in group:
                journal.append(*record)
            journal.sync()
            durable = begun
    except StorageError:
        pass
    finally:
        journal._fd = None  # the descriptors are closed by the kernel
        for fd in list(files._open):
            os.close(fd)
    files.power_cut(seed)
    records, _ = read(directory)
    assert records[: len(durable)] == durable
    assert records == begun[: len(records)]
    write(directory, [[C]], epoch=2)
    assert read(directory)[0] == [*records, C]
