"""The headers of record batches: what the loop looks at, while the records stay bytes.

A fetch response is a row of record batches, of which the last may be cut short. A batch has a
fixed header of 61 bytes in front of records that are compressed together. Dropping what must not
be seen (control batches, aborted transactions) and knowing which offsets the rest covers takes
the headers alone. Pure: no client, no event loop.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import CorruptionError, SourceError

__all__ = ["HEADER_BYTES", "BatchHeader", "Piece", "headers", "slice_batches"]

HEADER_BYTES = 61
PIECE_BYTES = 1024 * 1024

_HEADER = struct.Struct(">qi4xb4xhi16xq6xi")
_OVERHEAD = 12  # base offset and length, which the length does not count
_MAGIC_AT = 16
_TRANSACTIONAL = 0x10
_CONTROL = 0x20


class BatchHeader(NamedTuple):
    """Where a batch lies and which offsets it covers; ``last`` is the offset of its last record,
    also when compaction has removed that."""

    at: int
    size: int
    base: int
    last: int
    records: int
    attributes: int
    producer: int

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & _CONTROL)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & _TRANSACTIONAL)


def headers(data: bytes | memoryview) -> Iterator[BatchHeader]:
    """The whole batches in ``data``; one that is cut short at the end is left out.

    Raises CorruptionError for what is no batch, SourceError for the formats before Kafka 0.11.
    """
    at, end = 0, len(data)
    while end - at > _MAGIC_AT:
        if data[at + _MAGIC_AT] != 2:
            raise SourceError(
                f"a batch in message format {data[at + _MAGIC_AT]}, of before Kafka 0.11: read it with "
                "lane='client'"
            )
        if end - at < HEADER_BYTES:
            return
        base, length, _, attributes, delta, producer, records = _HEADER.unpack_from(data, at)
        size = length + _OVERHEAD
        if size < HEADER_BYTES or delta < 0 or records < 0:
            raise CorruptionError(f"offset {base} begins no record batch: length {length}, {records} records")
        if at + size > end:
            return
        yield BatchHeader(at, size, base, base + delta, records, attributes, producer)
        at += size


@dataclass(slots=True)
class Piece:
    """Some batches of one partition, and the range of offsets that they stand for.

    The range is half-open, without gaps to the pieces beside it: it includes offsets of batches
    that were left out. Of the first and last batch records outside of the range do not count.

    views: the bytes, as they lie in the response, until they are stored.
    data, path, offset, length: where they lie then.
    records: how many are in the range at most; exactly that many when ``exact``.
    bases, starts: base offset of each batch, and where it begins in the bytes.
    leg: grows when a reader goes on at another offset than the next one.
    """

    start: int
    stop: int
    records: int = 0
    exact: bool = True
    length: int = 0
    views: list[memoryview] = field(default_factory=list)
    data: bytes | None = None
    path: str = ""
    offset: int = 0
    bases: array[int] = field(default_factory=lambda: array("q"))
    starts: array[int] = field(default_factory=lambda: array("q"))
    leg: int = 0

    def _add(self, data: memoryview, header: BatchHeader, run_end: int) -> None:
        """Append a batch; ``run_end`` is where the one before it in this piece ends in ``data``."""
        view = data[header.at : header.at + header.size]
        if self.views and run_end == header.at:
            begin = header.at - len(self.views[-1])
            self.views[-1] = data[begin : header.at + header.size]
        else:
            self.views.append(view)
        self.bases.append(header.base)
        self.starts.append(self.length)
        self.length += header.size
        self._count(header)

    def _count(self, header: BatchHeader) -> None:
        if header.base >= self.start:
            self.records += header.records
        elif header.records == header.last - header.base + 1:
            self.records += header.last - self.start + 1
        else:  # some of the offsets before the range may be empty
            self.records += min(header.records, header.last - self.start + 1)
            self.exact = False

    def split(self, at: int) -> tuple[Piece, Piece]:
        """The parts before and from offset ``at``, which lies inside; a batch that it cuts is in both."""
        dense = self.exact and self.records == self.stop - self.start
        share = (at - self.start) / (self.stop - self.start)
        estimate = min(round(self.records * share), at - self.start)
        first = self._part(self.start, at, 0, bisect_left(self.bases, at))
        second = self._part(at, self.stop, max(0, bisect_right(self.bases, at) - 1), len(self.bases))
        first.records = at - self.start if dense else (estimate if first.bases else 0)
        second.records = self.stop - at if dense else (self.records - first.records if second.bases else 0)
        first.exact = dense or not first.bases
        second.exact = dense or not second.bases
        return first, second

    def _part(self, start: int, stop: int, begin: int, end: int) -> Piece:
        if begin >= end:
            return Piece(start, stop, leg=self.leg)
        first = self.starts[begin]
        last = self.starts[end] if end < len(self.starts) else self.length
        starts = array("q", (position - first for position in self.starts[begin:end]))
        return Piece(
            start,
            stop,
            length=last - first,
            data=None if self.data is None else self.data[first:last],
            path=self.path,
            offset=self.offset + first,
            bases=self.bases[begin:end],
            starts=starts,
            leg=self.leg,
        )


def slice_batches(
    data: memoryview,
    position: int,
    aborted: Sequence[tuple[int, int]] = (),
    *,
    piece_bytes: int = PIECE_BYTES,
) -> list[Piece]:
    """The pieces of a fetch response of one partition, from offset ``position`` on; [] without a whole batch.

    aborted: (producer, first offset) of transactions that do not count; of these none is in the pieces.
    piece_bytes: a piece ends with the first batch that brings it to this size.
    Raises as :func:`headers`.
    """
    pieces: list[Piece] = []
    piece = Piece(position, position)
    run_end = -1
    drop = _Aborted(aborted)
    for header in headers(data):
        if header.last < piece.start:
            continue
        if not drop.includes(header) and header.records:
            piece._add(data, header, run_end)
            run_end = header.at + header.size
        piece.stop = header.last + 1
        if piece.length >= piece_bytes:
            pieces.append(piece)
            piece, run_end = Piece(piece.stop, piece.stop), -1
    if piece.stop > piece.start:
        pieces.append(piece)
    return pieces


class _Aborted:
    """Tells batches of aborted transactions, and control batches, from those that are to be read."""

    def __init__(self, aborted: Sequence[tuple[int, int]]) -> None:
        self._coming = sorted(aborted, key=lambda item: item[1], reverse=True)
        self._open: set[int] = set()

    def includes(self, header: BatchHeader) -> bool:
        while self._coming and self._coming[-1][1] <= header.last:
            self._open.add(self._coming.pop()[0])
        if header.is_control:
            # The first marker of a producer after the begin of its aborted transaction ends that one.
            self._open.discard(header.producer)
            return True
        return header.is_transactional and header.producer in self._open
