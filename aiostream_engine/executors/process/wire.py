"""Framed messages between the driver and one worker, over an inherited socket pair.

A frame is a fixed header and a payload. The checksum tells a message from a reply that a dying
worker wrote by halves and from bytes that user code wrote into the wrong descriptor. What a worker
sends is decoded with a short list of permitted types, so that nothing a user function returns can
run code in the driver.
"""

from __future__ import annotations

import enum
import io
import pickle
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from ...types import BlockRef
from ..base import StateReport, TaskFailure, TaskResult

__all__ = ["Frame", "FrameBuffer", "Kind", "Reply", "WireError", "decode_reply", "encode_frame"]

_MAGIC = 0x41534557
_HEADER = struct.Struct("<IBQQI")  # magic, kind, attempt number, payload length, crc32 of the payload
_HEADER_BYTES = _HEADER.size
_BUFFER_BYTES = 128 * 1024


class Kind(enum.IntEnum):
    """What a frame says. Up to FORGET they go to the worker, from READY on they come from it."""

    SETUP = 1
    PROGRAM = 2
    FORGET = 3
    TASK = 4
    STOP = 5
    READY = 6
    RESULT = 7


class WireError(Exception):
    """The byte stream is not what the other side's framing writes."""


class Frame(NamedTuple):
    """One message; ``number`` is the attempt that it belongs to, 0 for none."""

    kind: int
    number: int
    payload: bytes | bytearray


class Reply(NamedTuple):
    """The payload of a RESULT frame: the result, and the worker's resident memory (0: not measured anew)."""

    result: TaskResult
    rss_bytes: int


def encode_frame(kind: Kind, number: int, payload: bytes) -> tuple[bytes, bytes]:
    """Header and payload of one frame, apart, so that a large payload is not copied."""
    return _HEADER.pack(_MAGIC, kind, number, len(payload), zlib.crc32(payload)), payload


class FrameBuffer:
    """Puts frames together from what a socket gives.

    Read into :meth:`writable`, then call :meth:`advance`. Small frames share one buffer; a frame
    that does not fit gets memory of its exact length, into which the socket writes directly.

    Parameters
    ----------
    frame_bytes_max: a longer frame is an error, before memory for it is taken.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._large: bytearray | None = None
        self._large_header: tuple[int, int, int] = (0, 0, 0)
        self._large_filled = 0

    def writable(self) -> memoryview:
        """Where the next bytes of the stream belong; never empty."""
        if self._large is not None:
            return memoryview(self._large)[self._large_filled :]
        return self._view[self._filled :]

    def advance(self, size: int) -> Iterator[Frame]:
        """Take note of ``size`` new bytes; gives the frames that are complete. Raises WireError."""
        if self._large is None:
            self._filled += size
            return self._small_frames()
        self._large_filled += size
        if self._large_filled < len(self._large):
            return iter(())
        return iter((self._finish_large(self._large),))

    def _small_frames(self) -> Iterator[Frame]:
        position = 0
        try:
            while self._filled - position >= _HEADER_BYTES:
                kind, number, length, crc = self._header_at(position)
                body = position + _HEADER_BYTES
                if self._filled - body < length:
                    if _HEADER_BYTES + length > _BUFFER_BYTES:
                        self._begin_large(kind, number, length, crc, body)
                        position = self._filled
                    break
                payload = bytes(self._view[body : body + length])
                _check(payload, crc)
                position = body + length
                yield Frame(kind, number, payload)
        finally:
            self._drop(position)

    def _header_at(self, position: int) -> tuple[int, int, int, int]:
        magic, kind, number, length, crc = _HEADER.unpack_from(self._buffer, position)
        if magic != _MAGIC:
            raise WireError(f"a frame starts with {magic:#x}: foreign bytes on the engine's descriptor")
        if length > self._frame_bytes_max:
            raise WireError(f"a frame of {length} bytes is over the limit of {self._frame_bytes_max} bytes")
        return kind, number, length, crc

    def _drop(self, position: int) -> None:
        if position:
            rest = self._filled - position
            self._buffer[:rest] = self._buffer[position : self._filled]
            self._filled = rest

    def _begin_large(self, kind: int, number: int, length: int, crc: int, body: int) -> None:
        self._large = bytearray(length)
        self._large_header = (kind, number, crc)
        self._large_filled = self._filled - body
        self._large[: self._large_filled] = self._view[body : self._filled]

    def _finish_large(self, payload: bytearray) -> Frame:
        kind, number, crc = self._large_header
        self._large, self._large_filled = None, 0
        _check(payload, crc)
        return Frame(kind, number, payload)


def _check(payload: bytes | bytearray, crc: int) -> None:
    if zlib.crc32(payload) != crc:
        raise WireError("the checksum of a frame does not match its payload")


# -- replies ---------------------------------------------------------------------------------

_PERMITTED: dict[tuple[str, str], Any] = {
    (permitted.__module__, permitted.__qualname__): permitted
    for permitted in (BlockRef, Reply, StateReport, TaskFailure, TaskResult)
}


class _ReplyUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        permitted = _PERMITTED.get((module, name))
        if permitted is None:
            raise pickle.UnpicklingError(f"{module}.{name} is not a type that a task may return in the open")
        return permitted


def decode_reply(payload: bytes | bytearray) -> Reply:
    """The payload of a RESULT frame; raises UnpicklingError when it holds any type but the engine's own."""
    try:
        reply = _ReplyUnpickler(io.BytesIO(payload)).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error
    if not isinstance(reply, Reply) or not isinstance(reply.result, TaskResult):
        raise pickle.UnpicklingError(f"a program returned {type(reply).__name__}, not a TaskResult")
    return reply
