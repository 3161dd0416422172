"""An append-only log of records in segment files, chained by checksums.

    segment   magic, format version, number of its first record, checksum of the record before it
    record    header (magic, kind, number, sizes, checksum of the record before, header checksum),
              metadata, payload, checksum of metadata and payload

A record is found torn when it is the last of the last segment and incomplete, or wrong with nothing
behind it: it is cut off, since nobody was told that it is durable. Anything else that does not fit
is corruption, and nothing is read past it. Sizes are checked before anything is allocated.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from ..errors import CorruptionError, StorageError
from .crash import crash_point
from .files import Files

__all__ = ["Journal", "JournalRecord", "JournalRef", "ScanResult", "scan"]

FORMAT_VERSION = 1
SEGMENT_BYTES = 64 * 1024 * 1024
META_BYTES_MAX = 256 * 1024 * 1024
PAYLOAD_BYTES_MAX = 4 * 1024 * 1024 * 1024

_SEGMENT = struct.Struct(">8sIQII")  # magic, version, first number, previous checksum, header checksum
_SEGMENT_MAGIC = b"aiosejnl"
_RECORD = struct.Struct(
    ">4sBQIQII"
)  # magic, kind, number, sizes of metadata and payload, previous, header checksum
_RECORD_MAGIC = b"rec\x01"
_CHECKSUM = struct.Struct(">I")


class JournalRef(NamedTuple):
    """Where the payload of a record lies."""

    path: str
    offset: int
    length: int
    number: int


class JournalRecord(NamedTuple):
    """A record as read back; the payload stays in the file."""

    kind: int
    meta: bytes
    payload: JournalRef


class Journal:
    """Appends records; used by one thread at a time.

    Parameters
    ----------
    directory: where the segments are; must exist.
    number, checksum: of the last record, from :func:`scan`; 0 for a new journal.
    segment_bytes: a segment that has grown over this is followed by a new one.

    After an error the journal is broken for good: its last bytes are unknown, so that only opening
    it anew, which cuts off a torn end, may go on.
    """

    def __init__(
        self,
        directory: str,
        *,
        number: int = 0,
        checksum: int = 0,
        files: Files | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.directory = directory
        self.number = number
        self._checksum = checksum
        self._files = files or Files()
        self._segment_bytes = segment_bytes
        self._fd: int | None = None
        self._path = ""
        self._size = 0
        self._broken: OSError | None = None

    def append(self, kind: int, meta: bytes, payload: bytes | memoryview = b"") -> JournalRef:
        """Write a record; it counts once :meth:`sync` returned. Raises StorageError."""
        self._check()
        try:
            if self._fd is None or self._size >= self._segment_bytes:
                self._next_segment()
            return self._write(kind, meta, payload)
        except OSError as error:
            raise self._break(error) from error

    def _write(self, kind: int, meta: bytes, payload: bytes | memoryview) -> JournalRef:
        assert self._fd is not None
        crash_point("before_record")
        number = self.number + 1
        header = _RECORD.pack(_RECORD_MAGIC, kind, number, len(meta), len(payload), self._checksum, 0)
        header = header[:-4] + _CHECKSUM.pack(crc32(header[:-4]))
        checksum = crc32(payload, crc32(meta, crc32(header)))
        size = self._files.write(self._fd, [header, meta, payload, _CHECKSUM.pack(checksum)])
        ref = JournalRef(self._path, self._size + _RECORD.size + len(meta), len(payload), number)
        self._size += size
        self.number, self._checksum = number, checksum
        return ref

    def _next_segment(self) -> None:
        if self._fd is not None:
            self._files.sync(self._fd)
            self._files.close(self._fd)
            self._fd = None
        path = os.path.join(self.directory, f"journal-{self.number + 1:020d}.log")
        fd = self._files.create(path)
        header = _SEGMENT.pack(_SEGMENT_MAGIC, FORMAT_VERSION, self.number + 1, self._checksum, 0)
        header = header[:-4] + _CHECKSUM.pack(crc32(header[:-4]))
        self._fd, self._path = fd, path
        self._size = self._files.write(fd, [header])
        self._files.sync(fd)
        self._files.sync_directory(self.directory)

    def sync(self) -> None:
        """Make all appended records durable. Raises StorageError; then none of them counts."""
        self._check()
        crash_point("before_sync")
        if self._fd is not None:
            try:
                self._files.sync(self._fd)
            except OSError as error:
                raise self._break(error) from error

    def _check(self) -> None:
        if self._broken is not None:
            raise StorageError(f"the journal in {self.directory} is broken: {self._broken}")

    def _break(self, error: OSError) -> StorageError:
        self._broken = error
        return StorageError(f"cannot write the journal in {self.directory}: {error}")

    def drop_before(self, number: int) -> int:
        """Remove the segments of which no record is ``number`` or later; gives how many went."""
        segments = segment_paths(self.directory)
        old = [path for path, after in itertools.pairwise(segments) if first_number(after) <= number]
        for path in old:
            self._files.unlink(path)
            crash_point("mid_collect")
        return len(old)

    @property
    def bytes_written(self) -> int:
        """Bytes in the current segment."""
        return self._size

    def close(self) -> None:
        """Close the current segment."""
        if self._fd is not None:
            self._files.close(self._fd)
            self._fd = None


def segment_paths(directory: str) -> list[str]:
    """The segments of a journal, oldest first."""
    names = sorted(
        name for name in os.listdir(directory) if name.startswith("journal-") and name.endswith(".log")
    )
    return [os.path.join(directory, name) for name in names]


def first_number(path: str) -> int:
    """The number in a segment's name."""
    return int(os.path.basename(path)[len("journal-") : -len(".log")])


@dataclass(slots=True)
class _Chain:
    number: int
    checksum: int


@dataclass(slots=True)
class ScanResult:
    """What :func:`scan` ended with: the last good record, and bytes that a torn end lost."""

    number: int = 0
    checksum: int = 0
    torn_bytes: int = 0
    torn_path: str = ""
    good_size: int = 0


def scan(directory: str, result: ScanResult) -> Iterator[JournalRecord]:
    """Read all records in order; fills ``result`` at the end.

    Does not change the files: to go on writing, cut ``torn_path`` to ``good_size`` first.
    Raises CorruptionError naming file, offset and last good record.
    """
    segments = segment_paths(directory)
    chain: _Chain | None = None
    for path in segments:
        last = path is segments[-1]
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = file.read(_SEGMENT.size)
            if len(header) < _SEGMENT.size or not _segment_fits(header):
                if last and size <= _SEGMENT.size:
                    result.torn_path, result.torn_bytes, result.good_size = path, size, 0
                    break
                raise _corrupt(path, 0, chain, "its header is damaged")
            _, version, number, previous, _ = _SEGMENT.unpack(header)
            if version > FORMAT_VERSION:
                raise CorruptionError(
                    f"{path} has format {version}; this version of the engine reads up to {FORMAT_VERSION}"
                )
            if chain is None:
                chain = _Chain(number - 1, previous)
            elif (number - 1, previous) != (chain.number, chain.checksum):
                raise _corrupt(
                    path,
                    0,
                    chain,
                    "it does not follow the segment before: one is missing or from another time",
                )
            yield from _records(file, path, size, last, chain, result)
    if chain is not None:
        result.number, result.checksum = chain.number, chain.checksum


def _segment_fits(header: bytes) -> bool:
    magic, _, _, _, checksum = _SEGMENT.unpack(header)
    return bool(magic == _SEGMENT_MAGIC and checksum == crc32(header[:-4]))


def _records(
    file: object, path: str, size: int, last: bool, chain: _Chain, result: ScanResult
) -> Iterator[JournalRecord]:
    position = _SEGMENT.size
    while position < size:
        record, end, problem = _read_record(file, path, position, size, chain)
        if record is None:
            # Torn only where nothing can follow: the end of the last segment.
            if last and end >= size:
                result.torn_path, result.torn_bytes, result.good_size = path, size - position, position
                return
            raise _corrupt(path, position, chain, problem)
        position = end
        yield record


def _read_record(
    file: object, path: str, position: int, size: int, chain: _Chain
) -> tuple[JournalRecord | None, int, str]:
    """The record at ``position`` and where it ends; None with the reason when it does not fit."""
    read, seek = file.read, file.seek  # type: ignore[attr-defined]
    seek(position)
    header = read(_RECORD.size)
    if len(header) < _RECORD.size:
        return None, size, "it ends within a record header"
    magic, kind, number, meta_size, payload_size, previous, checksum = _RECORD.unpack(header)
    if magic != _RECORD_MAGIC or checksum != crc32(header[:-4]):
        # A header that cannot be trusted does not tell where the record ends; see if anything follows.
        return (
            None,
            size if not _any_record_after(file, position + 1, size) else position,
            "a record header is damaged",
        )
    end = position + _RECORD.size + meta_size + payload_size + _CHECKSUM.size
    if meta_size > META_BYTES_MAX or payload_size > PAYLOAD_BYTES_MAX:
        return None, position, f"record {number} claims {meta_size} + {payload_size} bytes"
    if (number, previous) != (chain.number + 1, chain.checksum):
        return None, position, f"record {number} does not follow record {chain.number}"
    if end > size:
        return None, size, f"record {number} is incomplete"
    meta = read(meta_size)
    checksum = crc32(meta, crc32(header))
    left = payload_size
    while left:
        part = read(min(left, 1 << 20))
        checksum = crc32(part, checksum)
        left -= len(part)
    if _CHECKSUM.unpack(read(_CHECKSUM.size))[0] != checksum:
        return None, end, f"the checksum of record {number} is wrong"
    chain.number, chain.checksum = number, checksum
    ref = JournalRef(path, position + _RECORD.size + meta_size, payload_size, number)
    return JournalRecord(kind, meta, ref), end, ""


def _any_record_after(file: object, start: int, size: int) -> bool:
    """True when a whole record header stands somewhere behind: then the damage is not at the end."""
    read, seek = file.read, file.seek  # type: ignore[attr-defined]
    seek(start)
    data = read(min(size - start, 64 << 20))
    at = data.find(_RECORD_MAGIC)
    while at >= 0 and at + _RECORD.size <= len(data):
        header = data[at : at + _RECORD.size]
        if _RECORD.unpack(header)[-1] == crc32(header[:-4]):
            return True
        at = data.find(_RECORD_MAGIC, at + 1)
    return False


def _corrupt(path: str, offset: int, chain: _Chain | None, problem: str) -> CorruptionError:
    good = f"the last good record is {chain.number}" if chain else "no record before it is readable"
    return CorruptionError(
        f"{path} is corrupt at byte {offset}: {problem}; {good}. "
        "Look with `checkpoint verify`; `checkpoint repair` gives up what follows, knowingly"
    )
