"""The content of state blocks: one pickle, or many small ones that are never all in memory."""

from __future__ import annotations

import io
import itertools
import os
import pickle
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

from ..blocks.pickling import dumps
from ..errors import BlocksReleasedError
from ..types import BlockRef
from .sizes import estimated_bytes

__all__ = ["StatePayload", "pieces_of", "read_pieces"]

StatePayload = bytes | memoryview | BlockRef

PIECE_BYTES = 1024 * 1024
PIECE_RECORDS = 4096
_BUFFER_BYTES = 256 * 1024
_SOME = ("piece", "slice")  # kinds of pickles that may have others behind them in a block
_Pairs = Iterable[tuple[Any, Any]]


def pieces_of(changed: _Pairs, removed: Iterable[Any], touched: _Pairs) -> Iterator[bytes]:
    """A block as pickles of about ``PIECE_BYTES``, which replayed in order do what one would.

    A partition of which all is ``changed`` is its snapshot. Reads its arguments as it goes.
    """
    yield dumps(("piece", {}, (), {}))  # so that no block is empty
    for part in _parts(changed):
        yield dumps(("piece", part, (), {}))
    for part in _parts(touched):
        yield dumps(("piece", {}, (), part))
    rest = iter(removed)
    while keys := list(itertools.islice(rest, PIECE_RECORDS)):
        yield dumps(("piece", {}, keys, {}))


def _parts(pairs: _Pairs) -> Iterator[Mapping[Any, Any]]:
    part: dict[Any, Any] = {}
    size = 0
    for key, value in pairs:
        part[key] = value
        size += estimated_bytes(value)
        if size >= PIECE_BYTES or len(part) >= PIECE_RECORDS:
            yield part
            part, size = {}, 0
    if part:
        yield part


def read_pieces(payload: StatePayload) -> Iterator[tuple[Any, ...]]:
    """The pickles of a block, one after the other; a block in a file is read as far as it is consumed.

    Raises BlocksReleasedError when the file is gone.
    """
    if isinstance(payload, BlockRef) and payload.data is None:
        yield from _read_file(payload)
        return
    data = payload.data if isinstance(payload, BlockRef) else payload
    assert data is not None
    content = pickle.loads(data)
    yield content
    if content[0] in _SOME:
        yield from _read(io.BytesIO(data), len(data), skip=True)


def _read_file(ref: BlockRef) -> Iterator[tuple[Any, ...]]:
    if ref.length == 0:
        return
    try:
        fd = os.open(ref.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise BlocksReleasedError(f"block {os.path.basename(ref.path)} of a state was released") from None
    with open(fd, "rb", buffering=_BUFFER_BYTES) as file:
        file.seek(ref.offset)
        yield from _read(file, ref.offset + ref.length)


def _read(file: BinaryIO, end: int, *, skip: bool = False) -> Iterator[tuple[Any, ...]]:
    while file.tell() < end:
        content = pickle.load(file)
        if not skip:
            yield content
        skip = False
        if content[0] not in _SOME:  # a block of one pickle; what follows it is not ours
            return
