"""How records are read from the bytes of a block.

A format is a function ``ref -> iterator of chunks``; a chunk is a sequence of records. Formats
whose names start with ``file-`` read a file of the user in place; the engine never removes it.

    pickle              a pickled list, or several one after the other: args (bytes of each, …)
    lines               text, cut at line ends: args (encoding, errors)
    bytes-lines         the same, undecoded
    fixed               records of one length: args (record_bytes,)
    frames              each record led by its length, four bytes big-endian
    range               args (start, stop, step)
    file-lines          lines of a part of a file: args (encoding, errors, compression)
    file-bytes-lines    the same, undecoded
    file-fixed          args (record_bytes,) or (record_bytes, compression)
    file-whole          one (path, content) pair: args (encoding or None, errors, compression)
    file-pickles        pickled lists, one after the other
    file-path           the path itself, for a reader of the user
    module:function     a connector's own, imported where the first such block is read
"""

from __future__ import annotations

import codecs
import gzip
import importlib
import io
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from ..errors import CorruptionError
from ..types import BlockRef
from .pickling import dumps
from .storage import read_bytes

__all__ = [
    "RECORDS_PER_PIECE",
    "TEXT_FORMATS",
    "count_lines",
    "encode_records",
    "read_chunks",
    "register_format",
    "text_chunks",
]

Decoder = Callable[[BlockRef], Iterator[Sequence[Any]]]

# Small enough that the records of a chunk fit in memory that the allocator keeps: for chunks of a
# megabyte it maps and unmaps pages each time, which takes longer than splitting them.
CHUNK_BYTES = 64 * 1024
TEXT_FORMATS = frozenset({"lines", "file-lines"})
DECOMPRESSED_RATIO_MAX = 1000  # a gzip member of zeros has about this ratio: beyond it is a bomb

# Of a pickled list, for the same reason: of 65 536 records each takes twice as long as of this many.
RECORDS_PER_PIECE = 4096

_LENGTH = struct.Struct(">I")
_DECODERS: dict[str, Decoder] = {}


def register_format(name: str, decoder: Decoder) -> None:
    """Add a format; connectors with a wire format of their own call this at import."""
    _DECODERS[name] = decoder


def _decoder_of(name: str) -> Decoder:
    """The function of a format; one that is named by its place is imported, in workers too."""
    decoder = _DECODERS.get(name)
    if decoder is None and ":" in name:
        module, _, function = name.partition(":")
        decoder = _DECODERS[name] = getattr(importlib.import_module(module), function)
    return _DECODERS[name] if decoder is None else decoder


def read_chunks(ref: BlockRef) -> Iterator[Sequence[Any]]:
    """The records of one block, in order, in chunks.

    Raises CorruptionError where the bytes are not what the format says, BlocksReleasedError when
    they are gone, and OSError for a file of the user that cannot be read.
    """
    return _decoder_of(ref.format)(ref)


def encode_records(records: Sequence[Any]) -> bytes:
    """Records as the payload of a ``pickle`` block."""
    return dumps(records)


# -- text ------------------------------------------------------------------------------------


def text_chunks(ref: BlockRef) -> Iterator[str]:
    """The text of a block in pieces that end at line ends, with ``\\n`` as the only line end."""
    encoding, errors = ref.args[0], ref.args[1]
    # Only a file has a beginning here; a received block may start anywhere in its stream.
    at_beginning = ref.format == "file-lines" and ref.offset == 0
    for data in line_bytes(ref):
        text = str(data, encoding, errors)
        if at_beginning:
            text = text.removeprefix("\ufeff")
            at_beginning = False
        if "\r" in text:
            text = text.replace("\r\n", "\n")
        yield text


def count_lines(ref: BlockRef) -> int:
    """The number of lines of a block, without decoding it."""
    total = 0
    for data in line_bytes(ref):
        count = bytes(data).count(b"\n") if isinstance(data, memoryview) else data.count(b"\n")
        total += count + (1 if data and data[-1] != 10 else 0)
    return total


def line_bytes(ref: BlockRef) -> Iterator[bytes | memoryview]:
    """The bytes of a text block in pieces that end at line ends."""
    if ref.format.startswith("file-"):
        compression = ref.args[2]
        yield from _file_line_bytes(ref) if compression is None else _stream_line_bytes(ref, compression)
    else:
        data = read_bytes(ref)
        if len(data) <= CHUNK_BYTES:
            yield data
        else:
            yield from _cut_at_line_ends(io.BytesIO(data), 0, len(data))


def _file_line_bytes(ref: BlockRef) -> Iterator[bytes]:
    """Lines that *start* in [offset, offset + length): so that parts share no line and miss none."""
    with open(ref.path, "rb", buffering=0) as file:
        start = ref.offset
        if start > 0:
            start = _line_start_after(file, start - 1)
        stop = ref.offset + ref.length
        # Taking the lines that are left of a truncated file would lose the others silently.
        if (size := os.fstat(file.fileno()).st_size) < stop:
            raise CorruptionError(f"{ref.path} is {stop - size} bytes shorter than when it was listed")
        yield from _cut_at_line_ends(file, start, stop)


def _line_start_after(file: io.RawIOBase | IO[bytes], position: int) -> int:
    """Where the first line begins after the line end at or behind ``position``; the size if there is none."""
    file.seek(position)
    while data := file.read(64 * 1024):
        end = data.find(b"\n") + 1
        if end:
            return position + end
        position += len(data)
    return position


def _cut_at_line_ends(file: IO[bytes] | io.RawIOBase, start: int, stop: int) -> Iterator[bytes]:
    rest: list[bytes] = []
    position = start
    file.seek(start)
    while position < stop:
        data = file.read(min(CHUNK_BYTES, stop - position))
        if not data:
            break
        position += len(data)
        cut = data.rfind(b"\n") + 1
        if cut:
            rest.append(data[:cut])
            yield b"".join(rest)
            rest = [data[cut:]] if cut < len(data) else []
        else:
            rest.append(data)
    if rest:
        # The last line may reach past the stop: it belongs to the part in which it starts.
        yield b"".join(rest) + _until_line_end(file, position)


def _until_line_end(file: IO[bytes] | io.RawIOBase, position: int) -> bytes:
    parts = []
    file.seek(position)
    while data := file.read(64 * 1024):
        cut = data.find(b"\n") + 1
        parts.append(data[:cut] if cut else data)
        if cut:
            break
    return b"".join(parts)


def _stream_line_bytes(ref: BlockRef, compression: str) -> Iterator[bytes]:
    rest: list[bytes] = []
    with open_compressed(ref.path, compression) as file:
        while data := file.read(CHUNK_BYTES):
            cut = data.rfind(b"\n") + 1
            if cut:
                rest.append(data[:cut])
                yield b"".join(rest)
                rest = [data[cut:]] if cut < len(data) else []
            else:
                rest.append(data)
    if rest:
        yield b"".join(rest)


class _BoundedGzip(gzip.GzipFile):
    """A gzip reader that refuses to inflate without limit (scenario E11) and names a broken file."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(CHUNK_BYTES), b""))
        try:
            data = super().read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise CorruptionError(f"{self.name} is not a whole gzip file: {error}") from error
        compressed = max(1, os.path.getsize(str(self.name)))
        if self.tell() > compressed * DECOMPRESSED_RATIO_MAX + CHUNK_BYTES:
            raise CorruptionError(f"{self.name} inflates to over {DECOMPRESSED_RATIO_MAX} times its size")
        return data


def open_compressed(path: str, compression: str | None) -> IO[bytes]:
    """Open a file for reading, inflating it when ``compression`` is ``gzip``."""
    if compression == "gzip":
        return _BoundedGzip(path, "rb")  # type: ignore[return-value]
    return open(path, "rb")


def _lines(ref: BlockRef) -> Iterator[Sequence[Any]]:
    for text in text_chunks(ref):
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        yield lines


def _bytes_lines(ref: BlockRef) -> Iterator[Sequence[Any]]:
    at_beginning = ref.format == "file-bytes-lines" and ref.offset == 0
    for data in line_bytes(ref):
        lines = bytes(data).replace(b"\r\n", b"\n").split(b"\n")
        if at_beginning:
            lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
            at_beginning = False
        if not lines[-1]:
            lines.pop()
        yield lines


# -- other formats ---------------------------------------------------------------------------


def _pickled(ref: BlockRef) -> Iterator[Sequence[Any]]:
    data = read_bytes(ref)
    if not ref.args:
        yield pickle.loads(data)
        return
    at = 0
    for size in ref.args:
        yield pickle.loads(data[at : at + size])
        at += size


def _fixed(ref: BlockRef) -> Iterator[Sequence[Any]]:
    record_bytes = ref.args[0]
    for data in _whole_records(ref, record_bytes):
        if len(data) % record_bytes:
            raise CorruptionError(
                f"{ref.path or 'a block'} ends within a record: not a multiple of record_bytes={record_bytes}"
            )
        yield [data[at : at + record_bytes] for at in range(0, len(data), record_bytes)]


def _whole_records(ref: BlockRef, record_bytes: int) -> Iterator[bytes]:
    """The bytes of a block in pieces of whole records; a broken record can only be in the last."""
    piece = max(1, CHUNK_BYTES // record_bytes) * record_bytes
    if ref.format != "file-fixed":
        data = bytes(read_bytes(ref))
        yield from (data[at : at + piece] for at in range(0, len(data), piece))
        return
    compression = ref.args[1] if len(ref.args) > 1 else None
    with open_compressed(ref.path, compression) as file:
        file.seek(ref.offset)
        left = None if compression else ref.length
        while left is None or left > 0:
            data = file.read(piece if left is None else min(piece, left))
            if not data:
                _refuse_shorter_file(ref, left)
                return
            yield data
            left = None if left is None else left - len(data)


def _refuse_shorter_file(ref: BlockRef, left: int | None) -> None:
    if left is not None:
        raise CorruptionError(f"{ref.path} is {left} bytes shorter than when it was listed")


def _frames(ref: BlockRef) -> Iterator[Sequence[Any]]:
    data = bytes(read_bytes(ref))
    records, at = [], 0
    while at < len(data):
        size = _LENGTH.unpack_from(data, at)[0] if at + 4 <= len(data) else -1
        if size < 0 or at + 4 + size > len(data):
            raise CorruptionError(f"{ref.path or 'a block'} ends within a frame")
        records.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    yield records


def _range(ref: BlockRef) -> Iterator[Sequence[Any]]:
    whole = range(*ref.args)
    for at in range(0, len(whole), RECORDS_PER_PIECE):
        yield whole[at : at + RECORDS_PER_PIECE]


def _whole(ref: BlockRef) -> Iterator[Sequence[Any]]:
    encoding, errors, compression = ref.args
    with open_compressed(ref.path, compression) as file:
        data = file.read()
    yield [(ref.path, data if encoding is None else data.decode(encoding, errors))]


def _pickles(ref: BlockRef) -> Iterator[Sequence[Any]]:
    with open(ref.path, "rb") as file:
        while file.peek(1):
            yield pickle.load(file)


def _path(ref: BlockRef) -> Iterator[Sequence[Any]]:
    yield [ref.path]


for _name, _decoder in {
    "pickle": _pickled,
    "lines": _lines,
    "file-lines": _lines,
    "bytes-lines": _bytes_lines,
    "file-bytes-lines": _bytes_lines,
    "fixed": _fixed,
    "file-fixed": _fixed,
    "frames": _frames,
    "range": _range,
    "file-whole": _whole,
    "file-pickles": _pickles,
    "file-path": _path,
}.items():
    register_format(_name, _decoder)
