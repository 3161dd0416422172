"""Record batches as a broker keeps them, made with the client's own builders."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def make_batch(
    base: int,
    values: Sequence[bytes | None],
    *,
    deltas: Sequence[int] | None = None,
    last_delta: int | None = None,
    codec: int = 0,
    producer: int = -1,
    transactional: bool = False,
    control: bool = False,
) -> bytes:
    """A batch at offset ``base``; ``deltas`` are the offsets that compaction has left, relative to it."""
    builder = DefaultRecordBatchBuilder(2, codec, int(transactional), producer, 0, 0, 1 << 24)
    deltas = range(len(values)) if deltas is None else deltas
    for delta, value in zip(deltas, values, strict=True):
        builder.append(delta, 1_000_000 + base + delta, b"k%d" % (base + delta), value, [("h", b"1")])
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base)
    if last_delta is not None:
        struct.pack_into(">i", data, 23, last_delta)
    if control:
        (attributes,) = struct.unpack_from(">h", data, 21)
        struct.pack_into(">h", data, 21, attributes | 0x20)
    struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
    return bytes(data)


def marker(offset: int, producer: int) -> bytes:
    """The control batch that ends a transaction."""
    return make_batch(offset, [b"\0\0\0\0"], producer=producer, transactional=True, control=True)
