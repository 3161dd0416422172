"""How a journal lies on the disk.

    segment   magic, format version, epoch of its writer, number of its first record, checksum of the
              record before it, checksum of this header
    record    header (magic, kind, number, number of the last record known to be durable, sizes of
              metadata and payload, checksum of the record before, header checksum), metadata,
              payload, checksum of header, metadata and the checksum of the payload

A segment is named by its first number and its epoch. A driver never writes to a segment of another
one: it begins a new one, whose header says what it follows. What an older segment holds beyond that
is the torn end of a crash, or was written by a driver that had been replaced; it does not count.

A segment may end with zeros, written ahead of records that did not come.

``HEAD`` names the last segment that holds a durable record, so that a missing one is missed.
"""

from __future__ import annotations

import json
import os
import re
import struct
from typing import NamedTuple
from zlib import crc32

from ..errors import CorruptionError, StorageError

__all__ = ["HEAD", "JournalRef", "RecordHeader", "SegmentHeader", "SegmentName", "read_head", "segment_names"]

FORMAT_VERSION = 1
META_BYTES_MAX = 256 * 1024 * 1024
PAYLOAD_BYTES_MAX = 4 * 1024 * 1024 * 1024
HEAD = "HEAD"

_SEGMENT = struct.Struct(">8sIQQI")
_SEGMENT_MAGIC = b"aiosejnl"
_RECORD = struct.Struct(">4sBQQIQI")
RECORD_MAGIC = b"rec\x01"
CHECKSUM = struct.Struct(">I")
SEGMENT_BYTES = _SEGMENT.size + CHECKSUM.size
RECORD_BYTES = _RECORD.size + CHECKSUM.size
_NAME = re.compile(r"journal-(\d{20})-(\d{10})\.log")


class JournalRef(NamedTuple):
    """Where the payload of a record lies."""

    path: str
    offset: int
    length: int
    number: int


class SegmentName(NamedTuple):
    """First record and epoch of a segment; sorts in the order of writing."""

    first: int
    epoch: int

    @property
    def file(self) -> str:
        """The file's name."""
        return f"journal-{self.first:020d}-{self.epoch:010d}.log"


class SegmentHeader(NamedTuple):
    """What stands at the start of a segment."""

    version: int
    epoch: int
    first: int
    previous: int

    def pack(self) -> bytes:
        """As bytes, with a checksum."""
        return _with_checksum(_SEGMENT.pack(_SEGMENT_MAGIC, *self))

    @classmethod
    def unpack(cls, data: bytes) -> SegmentHeader | None:
        """From bytes; None when they are not such a header."""
        if len(data) != SEGMENT_BYTES or not _fits(data) or not data.startswith(_SEGMENT_MAGIC):
            return None
        return cls(*_SEGMENT.unpack(data[: -CHECKSUM.size])[1:])


class RecordHeader(NamedTuple):
    """What leads a record. durable: the last record that was synced when this one was written."""

    kind: int
    number: int
    durable: int
    meta_bytes: int
    payload_bytes: int
    previous: int

    def pack(self) -> bytes:
        """As bytes, with a checksum. Raises StorageError for what could not be read back."""
        if self.meta_bytes > META_BYTES_MAX or self.payload_bytes > PAYLOAD_BYTES_MAX:
            raise StorageError(
                f"a journal record of {self.meta_bytes} + {self.payload_bytes} bytes is too large: the "
                f"bounds are {META_BYTES_MAX} + {PAYLOAD_BYTES_MAX}; use more partitions"
            )
        return _with_checksum(_RECORD.pack(RECORD_MAGIC, *self))

    @classmethod
    def unpack(cls, data: bytes) -> RecordHeader | None:
        """From bytes; None when they are not such a header."""
        if len(data) != RECORD_BYTES or not _fits(data) or not data.startswith(RECORD_MAGIC):
            return None
        return cls(*_RECORD.unpack(data[: -CHECKSUM.size])[1:])

    @property
    def bytes(self) -> int:
        """Length of the whole record."""
        return RECORD_BYTES + self.meta_bytes + self.payload_bytes + CHECKSUM.size


def record_checksum(header: bytes, meta: bytes, payload_crc: int) -> int:
    """The checksum at the end of a record; that of the payload enters it, so that it can be made before."""
    return crc32(CHECKSUM.pack(payload_crc), crc32(meta, crc32(header)))


def _with_checksum(header: bytes) -> bytes:
    return header + CHECKSUM.pack(crc32(header))


def _fits(data: bytes) -> bool:
    return bool(CHECKSUM.unpack(data[-CHECKSUM.size :])[0] == crc32(data[: -CHECKSUM.size]))


def segment_names(directory: str) -> list[SegmentName]:
    """The segments that count, in order; those of a driver that had been replaced are left out."""
    found = sorted(
        SegmentName(int(match[1]), int(match[2]))
        for match in map(_NAME.fullmatch, os.listdir(directory))
        if match is not None
    )
    names: list[SegmentName] = []
    for name in found:
        if not names or name.epoch >= names[-1].epoch:
            names.append(name)
    return names


def read_head(directory: str) -> SegmentName | None:
    """The segment that ``HEAD`` names, None before the first one. Raises CorruptionError."""
    path = os.path.join(directory, HEAD)
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read(4096))
        return SegmentName(int(content["first"]), int(content["epoch"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptionError(f"{path} is damaged: {error!r}") from error


def head_bytes(name: SegmentName) -> bytes:
    """The content of ``HEAD``."""
    return json.dumps(name._asdict()).encode()
