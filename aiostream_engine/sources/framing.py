"""Cutting a byte stream into whole records, without making an object of each.

A framer is fed what one connection received and hands on runs of whole records. It keeps at
most one unfinished record, bounded, and that one never meets the bytes of another connection.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Protocol

from ..errors import OptionError

__all__ = ["FixedFramer", "FrameError", "Framer", "LengthFramer", "LineFramer"]

# Takes a run of whole records and their number; must copy what it keeps.
Emit = Callable[["bytes | bytearray | memoryview", int], None]
# Takes the number of records that were dropped.
Drop = Callable[[int], None]


class FrameError(ValueError):
    """The peer sent what cannot be a frame; the stream has no known next record after it."""


class Framer(Protocol):
    """One connection's state; ``unfinished_bytes`` is what it holds of an unfinished record."""

    @property
    def unfinished_bytes(self) -> int: ...

    def feed(self, buffer: bytearray, size: int) -> None:
        """Take the first ``size`` bytes of ``buffer``, which is reused afterwards. May raise FrameError."""

    def end(self) -> bool:
        """The peer ended in order; False when an unfinished record was left and dropped."""


class LineFramer:
    """Lines that end with ``\\n``; a line over the bound is dropped, and the next one is read.

    Parameters
    ----------
    emit: takes runs of whole lines.
    drop: told of each line that was dropped for its length.
    line_bytes_max: bound of one line, its line end not counted.
    skip_bom: take a UTF-8 byte order mark off the beginning.
    """

    def __init__(self, emit: Emit, drop: Drop, line_bytes_max: int, *, skip_bom: bool = False) -> None:
        self._emit_run = emit
        self._drop = drop
        self._line_bytes_max = line_bytes_max
        self._tail = bytearray()
        self._skipping = False
        self._bom_possible = skip_bom

    @property
    def unfinished_bytes(self) -> int:
        return len(self._tail)

    def feed(self, buffer: bytearray, size: int) -> None:
        begin = 0
        if self._skipping:
            begin = buffer.find(b"\n", 0, size) + 1
            if begin == 0:
                return
            self._skipping = False
        cut = buffer.rfind(b"\n", begin, size) + 1
        if cut:
            if len(self._tail) + cut - begin > self._line_bytes_max:
                self._emit_checked(buffer, begin, cut)
            else:
                self._emit(buffer, begin, cut)
            begin = cut
        self._keep(buffer, begin, size)

    def end(self) -> bool:
        """The last line needs no line end when the peer closed in order, as for a reader of files."""
        if self._tail:
            self._emit(bytearray(b"\n"), 0, 1)
        return True

    def _keep(self, buffer: bytearray, begin: int, size: int) -> None:
        if len(self._tail) + size - begin > self._line_bytes_max:
            self._tail = bytearray()
            self._skipping = True
            self._drop_line()
        elif size > begin:
            with memoryview(buffer) as view:
                self._tail += view[begin:size]

    def _emit_checked(self, buffer: bytearray, begin: int, cut: int) -> None:
        """Emit [begin, cut) without the lines that are too long.

        The last line end within the bound of a line's beginning proves all lines up to it; so
        the search takes one step in about ``line_bytes_max`` bytes, not one a line.
        """
        bound = self._line_bytes_max
        first_end = buffer.find(b"\n", begin, cut)
        if len(self._tail) + first_end - begin > bound:
            self._tail = bytearray()
            self._drop_line()
            begin = first_end + 1
        position = begin if not self._tail else first_end + 1
        while position < cut:
            end = buffer.rfind(b"\n", position, min(position + bound + 1, cut))
            if end >= 0:
                position = end + 1
                continue
            self._emit(buffer, begin, position)
            self._drop_line()
            begin = position = buffer.find(b"\n", position + bound, cut) + 1
        self._emit(buffer, begin, cut)

    def _emit(self, buffer: bytearray, begin: int, cut: int) -> None:
        if cut <= begin:
            return
        records = buffer.count(b"\n", begin, cut)
        with memoryview(buffer) as view:
            run: bytes | bytearray | memoryview = view[begin:cut]
            if self._tail:
                self._tail += run
                run, self._tail = self._tail, bytearray()
            if self._bom_possible:
                self._bom_possible = False
                run = bytes(run).removeprefix(codecs.BOM_UTF8)
            self._emit_run(run, records)

    def _drop_line(self) -> None:
        self._bom_possible = False
        self._drop(1)


class LengthFramer:
    """Frames led by their length; emitted with four bytes big-endian in front, whatever the wire has.

    Parameters
    ----------
    emit: takes runs of whole frames.
    length_format: struct format of the length field.
    frame_bytes_max: bound of one frame, checked before there is room made for it.
    length_includes_header: the length counts its own field, too.
    """

    def __init__(
        self,
        emit: Emit,
        frame_bytes_max: int,
        *,
        length_format: str = ">I",
        length_includes_header: bool = False,
    ) -> None:
        self._emit_run = emit
        self._frame_bytes_max = frame_bytes_max
        self._length = length_struct(length_format)
        self._own = self._length.size if length_includes_header else 0
        self._as_it_is = length_format in (">I", "!I", ">L", "!L") and not length_includes_header
        self._tail = bytearray()

    @property
    def unfinished_bytes(self) -> int:
        return len(self._tail)

    def feed(self, buffer: bytearray, size: int) -> None:
        begin = self._finish_tail(buffer, size) if self._tail else 0
        position, frames = begin, 0
        with memoryview(buffer) as view:
            try:
                while (end := self._frame_end(buffer, position, size)) <= size:
                    position = end
                    frames += 1
            finally:
                # Also when the next one is refused: these were good.
                if frames:
                    self._emit(view[begin:position], frames)
            self._tail += view[position:size]

    def end(self) -> bool:
        return not self._tail

    def _frame_end(self, buffer: bytearray, position: int, size: int) -> int:
        """Where the frame at ``position`` ends, beyond ``size`` when it is not whole or not known."""
        body = position + self._length.size
        if body > size:
            return size + 1
        (length,) = self._length.unpack_from(buffer, position)
        length -= self._own
        if not 0 <= length <= self._frame_bytes_max:
            raise FrameError(
                f"a frame of {length} bytes was announced: the bound is {self._frame_bytes_max} "
                "(frame_bytes_max); is this the right kind of stream?"
            )
        return body + int(length)

    def _finish_tail(self, buffer: bytearray, size: int) -> int:
        """Complete the frame that the last feed began; gives how many bytes it took."""
        tail, taken = self._tail, 0
        with memoryview(buffer) as view:
            # Twice at most: the length field, then the body whose length it says.
            while (missing := self._missing(tail)) > 0 and taken < size:
                part = view[taken : min(size, taken + missing)]
                tail += part
                taken += len(part)
        if self._missing(tail) == 0:
            self._tail = bytearray()
            self._emit(memoryview(tail), 1)
        return taken

    def _missing(self, tail: bytearray) -> int:
        header = self._length.size
        if len(tail) < header:
            return header - len(tail)
        return self._frame_end(tail, 0, len(tail)) - len(tail)

    def _emit(self, run: memoryview, frames: int) -> None:
        if self._as_it_is:
            self._emit_run(run, frames)
            return
        parts, position = bytearray(), 0
        while position < len(run):
            body = position + self._length.size
            end = body + self._length.unpack_from(run, position)[0] - self._own
            parts += (end - body).to_bytes(4, "big")
            parts += run[body:end]
            position = end
        self._emit_run(parts, frames)


class FixedFramer:
    """Records of one length, one after the other."""

    def __init__(self, emit: Emit, record_bytes: int) -> None:
        self._emit_run = emit
        self._record_bytes = record_bytes
        self._tail = bytearray()

    @property
    def unfinished_bytes(self) -> int:
        return len(self._tail)

    def feed(self, buffer: bytearray, size: int) -> None:
        begin = 0
        with memoryview(buffer) as view:
            if self._tail:
                begin = min(size, self._record_bytes - len(self._tail))
                self._tail += view[:begin]
                if len(self._tail) < self._record_bytes:
                    return
                record, self._tail = self._tail, bytearray()
                self._emit_run(record, 1)
            records = (size - begin) // self._record_bytes
            cut = begin + records * self._record_bytes
            if records:
                self._emit_run(view[begin:cut], records)
            self._tail += view[cut:size]

    def end(self) -> bool:
        return not self._tail


def length_struct(length_format: str) -> struct.Struct:
    """The struct of a length field; raises OptionError unless it is one unsigned integer."""
    if len(length_format) != 2 or length_format[0] not in "<>!" or length_format[1] not in "BHILQ":
        raise OptionError(
            f"length_format {length_format!r} is not understood: use '<', '>' or '!' and one of B H I L Q"
        )
    return struct.Struct(length_format)
