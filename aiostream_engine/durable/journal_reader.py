"""Read a journal back, and tell the torn end of a crash from corruption.

What a crash or a loss of power leaves at the end was never said to be durable: it is left out. Each
record says up to which one all was durable when it was written; so where a record does not fit and a
later one says that it had been durable, it is corruption, and nothing is read past it. Zeros up to the
end of the file are room for records that did not come. Sizes are checked before anything is allocated.
Nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from ..errors import CorruptionError
from .files import Files
from .journal_format import (
    CHECKSUM,
    FORMAT_VERSION,
    HEAD,
    META_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    RECORD_BYTES,
    RECORD_MAGIC,
    SEGMENT_BYTES,
    JournalRef,
    RecordHeader,
    SegmentHeader,
    SegmentName,
    head_bytes,
    read_head,
    record_checksum,
    segment_names,
)

__all__ = ["JournalRecord", "ScanResult", "make_durable", "scan"]

_PART_BYTES = 1 << 20


class JournalRecord(NamedTuple):
    """A record as read back; the payload stays in the file."""

    kind: int
    meta: bytes
    payload: JournalRef


@dataclass(slots=True)
class ScanResult:
    """What :func:`scan` ended with.

    number, checksum: of the last record that counts.
    torn_bytes, torn_path, torn_offset: what is left out at the end, 0 and "" for nothing.
    segments: names of the segments that were read.
    last, epoch: the last one with a record that counts, and the driver that wrote it.
    """

    number: int = 0
    checksum: int = 0
    torn_bytes: int = 0
    torn_path: str = ""
    torn_offset: int = 0
    segments: list[str] = field(default_factory=list)
    last: SegmentName | None = None
    epoch: int = 0


class _Misfit(Exception):
    """What stands at a place is no record that follows the one before."""


def scan(directory: str, result: ScanResult) -> Iterator[JournalRecord]:
    """Read all records that count, in order; fills ``result`` on the way.

    Raises CorruptionError naming file, offset and last good record.
    """
    names, head = segment_names(directory), read_head(directory)
    _check_head(directory, head, names)
    beyond = 0
    for index, name in enumerate(names):
        limit = names[index + 1].first - 1 if index + 1 < len(names) else None
        if limit is not None and limit < name.first:
            continue  # the next segment follows what was there before this one
        reader = _SegmentReader(os.path.join(directory, name.file), name, limit, result)
        yield from reader.records()
        if reader.count:
            result.last, result.epoch = name, name.epoch
            beyond += head is None or name > head
        elif name == head:
            raise reader.corrupt(0, "its first record, which was durable, is gone")
    if beyond > 1:
        raise CorruptionError(
            f"{os.path.join(directory, HEAD)} is older than the journal: a part of the directory is from "
            "another time"
        )


def _check_head(directory: str, head: SegmentName | None, names: list[SegmentName]) -> None:
    if head is not None and not os.path.exists(os.path.join(directory, head.file)):
        raise CorruptionError(
            f"{os.path.join(directory, head.file)} is missing: it held records that were durable. Put it back"
        )
    if head is None and names and names[0].first > 1:
        raise CorruptionError(
            f"{os.path.join(directory, names[0].file)} is the first segment, but not the first of the "
            f"journal, and {HEAD} is missing: put the missing files back"
        )


class _SegmentReader:
    """One segment. limit: number of the last record in it that counts, None for the last segment."""

    def __init__(self, path: str, name: SegmentName, limit: int | None, result: ScanResult) -> None:
        self.path = path
        self.count = 0
        self._name = name
        self._limit = limit
        self._result = result

    def records(self) -> Iterator[JournalRecord]:
        with open(self.path, "rb") as file:
            self._file, self._size = file, os.fstat(file.fileno()).st_size
            problem = self._enter()
            if problem:
                self._end_at(0, problem)
                return
            position = SEGMENT_BYTES
            while position < self._size and self._result.number != self._limit:
                try:
                    record, position = self._record(position)
                except _Misfit as misfit:
                    self._end_at(position, str(misfit))
                    return
                self.count += 1
                yield record
        if self._limit is not None and self._result.number != self._limit:
            raise self.corrupt(self._size, f"it ends before record {self._limit}")

    def _enter(self) -> str:
        """Check the header; gives what is wrong with it when the segment may be one that was just begun."""
        header = SegmentHeader.unpack(self._file.read(SEGMENT_BYTES))
        if header is None:
            return "its header is damaged"
        if header.version > FORMAT_VERSION:
            raise CorruptionError(
                f"{self.path} has format {header.version}; this version of the engine reads up to "
                f"{FORMAT_VERSION}"
            )
        result = self._result
        if not result.segments:
            result.number, result.checksum = header.first - 1, header.previous
        elif (header.first - 1, header.previous) != (result.number, result.checksum):
            raise self.corrupt(
                0, "it does not follow the segment before: one is missing or from another time"
            )
        result.segments.append(self._name.file)
        return ""

    def _end_at(self, position: int, problem: str) -> None:
        """What stands here does not fit: the torn end of a crash, or corruption."""
        if self._limit is not None or self._was_durable(position):
            raise self.corrupt(position, problem)
        torn_bytes = self._end_of_data(position) - position
        if torn_bytes:
            self._result.torn_path, self._result.torn_offset = self.path, position
            self._result.torn_bytes = torn_bytes

    def _record(self, position: int) -> tuple[JournalRecord, int]:
        result = self._result
        self._file.seek(position)
        data = self._file.read(RECORD_BYTES)
        if len(data) < RECORD_BYTES:
            raise _Misfit("it ends within a record header")
        header = RecordHeader.unpack(data)
        if header is None:
            raise _Misfit("a record header is damaged")
        if header.meta_bytes > META_BYTES_MAX or header.payload_bytes > PAYLOAD_BYTES_MAX:
            raise _Misfit(f"record {header.number} claims {header.meta_bytes} + {header.payload_bytes} bytes")
        if (header.number, header.previous) != (result.number + 1, result.checksum):
            raise _Misfit(f"record {header.number} does not follow record {result.number}")
        end = position + header.bytes
        if end > self._size:
            raise _Misfit(f"record {header.number} is incomplete")
        meta = self._file.read(header.meta_bytes)
        checksum = record_checksum(data, meta, self._crc(header.payload_bytes))
        if self._file.read(CHECKSUM.size) != CHECKSUM.pack(checksum):
            raise _Misfit(f"the checksum of record {header.number} is wrong")
        result.number, result.checksum = header.number, checksum
        payload = position + RECORD_BYTES + header.meta_bytes
        ref = JournalRef(self.path, payload, header.payload_bytes, header.number)
        return JournalRecord(header.kind, meta, ref), end

    def _crc(self, left: int) -> int:
        checksum = 0
        while left:
            part = self._file.read(min(left, _PART_BYTES))
            if not part:
                raise _Misfit("it became shorter while it was read")
            checksum = crc32(part, checksum)
            left -= len(part)
        return checksum

    def _was_durable(self, position: int) -> bool:
        """True when a record behind ``position`` says that the one which should be there was durable."""
        missing = self._result.number + 1
        start, carried = position, b""
        self._file.seek(start)
        while part := self._file.read(_PART_BYTES):
            data = carried + part
            at = data.find(RECORD_MAGIC)
            while 0 <= at <= len(data) - RECORD_BYTES:
                header = RecordHeader.unpack(data[at : at + RECORD_BYTES])
                if header is not None and header.number > missing and header.durable >= missing:
                    return True
                at = data.find(RECORD_MAGIC, at + 1)
            carried = data[-(RECORD_BYTES - 1) :]
        return False

    def _end_of_data(self, position: int) -> int:
        """Where the zeros begin that were written ahead of records, at ``position`` or later."""
        end = position
        self._file.seek(position)
        while part := self._file.read(_PART_BYTES):
            position += len(part)
            if data := part.rstrip(b"\0"):
                end = position - len(part) + len(data)
        return end

    def corrupt(self, offset: int, problem: str) -> CorruptionError:
        """The error for what does not fit at ``offset``."""
        good = f"the last good record is {self._result.number}" if self._result.segments else "none is good"
        return CorruptionError(
            f"{self.path} is corrupt at byte {offset}: {problem}; {good}. "
            "Look with `checkpoint verify`; `checkpoint repair` gives up what follows, knowingly"
        )


def make_durable(directory: str, result: ScanResult, files: Files) -> None:
    """Sync what :func:`scan` read: a process that was killed may have left it to the kernel.

    Without it a loss of power, after a restart that believed what it had read, would take it back.
    """
    if result.last is None:
        return
    files.sync_path(os.path.join(directory, result.last.file))
    files.sync_directory(directory)
    if read_head(directory) != result.last:
        files.replace(os.path.join(directory, HEAD), head_bytes(result.last))
