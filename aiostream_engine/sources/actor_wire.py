"""The messages between an actor source and its clients in other processes.

A frame is four bytes of length, big-endian, one byte of kind, and a body in MessagePack or
JSON. Nothing from the network is ever unpickled (scenario J8).
"""

from __future__ import annotations

import asyncio
import enum
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import OptionError

__all__ = ["Codec", "Frame", "FrameKind", "WireError", "codec", "read_frame", "write_frame"]

_HEADER = struct.Struct(">IB")
# Bounds what a stranger can make this side hold before the token was checked.
HELLO_BYTES_MAX = 4096


class FrameKind(enum.IntEnum):
    """What a frame is for. HELLO comes first and is answered by OK or REFUSED, SYNC is answered by OK."""

    HELLO = 0
    MESSAGE = 1
    SYNC = 2
    OK = 3
    REFUSED = 4


class Frame(NamedTuple):
    """One frame as it was read."""

    kind: FrameKind
    body: bytes


class Codec(NamedTuple):
    """How a message becomes bytes and back; only plain values (numbers, text, bytes, lists, maps)."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


class WireError(ConnectionError):
    """The other side does not keep to the protocol."""


def codec(name: str) -> Codec:
    """The codec ``msgpack`` or ``json``; raises OptionError for another name."""
    import msgspec

    if name == "msgpack":
        return Codec(msgspec.msgpack.encode, msgspec.msgpack.decode)
    if name == "json":
        return Codec(msgspec.json.encode, msgspec.json.decode)
    raise OptionError(f"codec {name!r} is not known: use 'msgpack' or 'json'")


async def read_frame(reader: asyncio.StreamReader, bytes_max: int) -> Frame | None:
    """The next frame, None at the end of the stream; its length is checked before it is read.

    Raises WireError for a frame that is too long, unknown or cut short.
    """
    try:
        header = await reader.readexactly(_HEADER.size)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise WireError("the stream ended within a frame") from None
        return None
    length, kind = _HEADER.unpack(header)
    if length > bytes_max:
        raise WireError(f"a frame of {length} bytes was announced: the bound is {bytes_max}")
    try:
        return Frame(FrameKind(kind), await reader.readexactly(length))
    except asyncio.IncompleteReadError:
        raise WireError("the stream ended within a frame") from None
    except ValueError:
        raise WireError(f"a frame of unknown kind {kind} came") from None


def write_frame(writer: asyncio.StreamWriter, kind: FrameKind, body: bytes = b"") -> None:
    """Queue a frame; the caller drains."""
    writer.write(_HEADER.pack(len(body), kind) + body)
