"""Saving an RDD as files below a new directory."""

from __future__ import annotations

import bz2
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ...durable.atomic_file import write_atomically
from ...operators.kernels import kernel
from .errors import IllegalArgumentException, SparkRuntimeException
from .slices import local_path

if TYPE_CHECKING:
    from .rdd import RDD

__all__ = ["output_directory", "save_text"]

_CODECS: dict[str, str] = {
    "GzipCodec": ".gz",
    "BZip2Codec": ".bz2",
    "DefaultCodec": ".deflate",
    "DeflateCodec": ".deflate",
}


def output_directory(path: str) -> str:
    """``path`` as a local one. Raises SparkRuntimeException where it exists."""
    directory = local_path(path)
    if os.path.exists(directory):
        raise SparkRuntimeException(
            "org.apache.hadoop.mapred.FileAlreadyExistsException: "
            f"Output directory file:{os.path.abspath(directory)} already exists"
        )
    return directory


def save_text(rdd: RDD[Any], path: str, codec: str | None) -> None:
    """A text file a partition, then ``_SUCCESS``."""
    suffix = "" if codec is None else _CODECS.get(codec.rsplit(".", 1)[-1])
    if suffix is None:
        raise IllegalArgumentException(f"codec {codec} is not here: use one of {', '.join(_CODECS)}")
    directory = output_directory(path)
    os.makedirs(directory)
    rdd._partials(kernel(save_partition, directory, suffix), "saveAsTextFile", "index")
    with open(os.path.join(directory, "_SUCCESS"), "wb"):
        pass


def save_partition(directory: str, suffix: str, index: int, records: Iterable[Any]) -> int:
    """Write one partition, in the worker; gives the bytes written."""
    compress, flush = _compressor(suffix)

    def pieces() -> Iterator[bytes]:
        for record in records:
            yield compress(_line(record))
        yield flush()

    return write_atomically(os.path.join(directory, f"part-{index:05d}{suffix}"), pieces())


def _line(record: Any) -> bytes:
    return (record if isinstance(record, bytes) else str(record).encode()) + b"\n"


def _compressor(suffix: str) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    if suffix == ".gz":
        gzipped = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        return gzipped.compress, gzipped.flush
    if suffix == ".bz2":
        zipped = bz2.BZ2Compressor()
        return zipped.compress, zipped.flush
    if suffix == ".deflate":
        deflated = zlib.compressobj()
        return deflated.compress, deflated.flush
    return (lambda data: data), (lambda: b"")
