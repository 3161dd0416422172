"""The part of SparkContext that makes RDDs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ...blocks.formats import RECORDS_PER_PIECE, encode_records
from ...operators.kernels import kernel
from ...plan.nodes import Source
from ...rdd import RDD as EngineRDD
from ...types import INLINE_BYTES_MAX, BlockRef
from . import kernels
from .errors import PySparkPicklingError
from .rdd import RDD
from .slices import files_of, slices, splits

if TYPE_CHECKING:
    from ...engine import EngineContext
    from .context import SparkContext

__all__ = ["ContextData"]

T = TypeVar("T")


class ContextData:
    """Mixed into :class:`~aiostream_engine.compat.pyspark.context.SparkContext`."""

    if TYPE_CHECKING:
        _engine: EngineContext
        _batchSize: int

        @property
        def defaultParallelism(self) -> int: ...
        @property
        def defaultMinPartitions(self) -> int: ...
        def _on_loop(self, function: Callable[[], T]) -> T: ...
        def _check(self) -> None: ...

    def _rdd(self, engine_rdd: EngineRDD[Any]) -> RDD[Any]:
        """An RDD of the engine as one of PySpark."""
        return RDD(engine_rdd, cast("SparkContext", self))

    # -- from memory ---------------------------------------------------------------------------

    def emptyRDD(self) -> RDD[Any]:
        """An RDD of no partitions; as PySpark."""
        self._check()
        return self._rdd(self._engine.empty_rdd())

    def range(
        self, start: int, end: int | None = None, step: int = 1, numSlices: int | None = None
    ) -> RDD[int]:
        """The integers of Python's ``range``, made in the workers; as PySpark."""
        return self.parallelize(range(start) if end is None else range(start, end, step), numSlices)

    def parallelize(self, c: Iterable[T], numSlices: int | None = None) -> RDD[T]:
        """``c`` cut into partitions, which hold what PySpark's hold; pickled now."""
        self._check()
        count = self.defaultParallelism if numSlices is None else int(numSlices)
        if count < 1:
            raise ValueError(f"numSlices is {count}: it must be at least 1")
        if isinstance(c, range):
            return self._rdd(self._engine.range(c.start, c.stop, c.step, partitions=count))
        records = c if isinstance(c, Sequence) else list(c)
        parts = slices(records, count, self._batchSize)
        source = Source(name="parallelize", parts=tuple(map(self._blocks, parts)), partitions=count)
        return self._rdd(self._engine.from_node(source))

    def _blocks(self, records: list[Any]) -> tuple[BlockRef, ...]:
        """``records`` as blocks; pickled in the caller's thread, so that the loop's is free."""
        if not records:
            return ()
        starts = range(0, len(records), RECORDS_PER_PIECE)
        try:
            pieces = [encode_records(records[at : at + RECORDS_PER_PIECE]) for at in starts]
        except Exception as error:
            raise PySparkPicklingError(f"records for parallelize cannot be pickled: {error}") from error
        sizes = tuple(map(len, pieces)) if len(pieces) > 1 else ()
        payload = b"".join(pieces)
        if len(payload) <= INLINE_BYTES_MAX:
            return (BlockRef("pickle", payload, records=len(records), args=sizes),)
        return (self._on_loop(lambda: self._written(payload, len(records), sizes)),)

    def _written(self, payload: bytes, records: int, sizes: tuple[int, ...]) -> BlockRef:
        directory = self._engine.directory
        path, _ = directory.writer.write([payload])
        ref = BlockRef("pickle", None, path, 0, len(payload), records, sizes)
        directory.ledger.retain([ref])
        return ref

    def union(self, rdds: list[RDD[T]]) -> RDD[T]:
        """The partitions of all, in order; as PySpark."""
        united = [rdd._core for rdd in rdds if rdd.getNumPartitions()]
        if not rdds:
            raise IndexError("list index out of range")
        chunks = [rdd._chunks for rdd in rdds if rdd.getNumPartitions()]
        made = self._rdd(self._engine.union(united) if united else self._engine.empty_rdd())
        if chunks and all(part is not None for part in chunks):
            made._chunks = self._engine.union(cast("list[EngineRDD[Any]]", chunks))
        return made

    # -- from files ----------------------------------------------------------------------------

    def textFile(self, name: str, minPartitions: int | None = None, use_unicode: bool = True) -> RDD[str]:
        """The lines of local files; as PySpark.

        Differs: a lone carriage return ends no line; files of a directory come in the order of their names; a
        path that names nothing is an error at once.
        """
        self._check()
        wanted = minPartitions or min(self.defaultParallelism, 2)
        format, args = ("file-lines", ("utf-8", "replace")) if use_unicode else ("file-bytes-lines", ("", ""))
        files = [(path, os.path.getsize(path)) for path in files_of(name)]
        goal = sum(size for _, size in files) // max(1, wanted)
        refs = [ref for path, size in files for ref in _line_refs(path, size, goal, format, args)]
        return self._source("textFile", format, refs, args).setName(name)

    def wholeTextFiles(
        self, path: str, minPartitions: int | None = None, use_unicode: bool = True
    ) -> RDD[tuple[str, str]]:
        """(URL, content) of each local file. Differs: files are dealt out by number, not by size."""
        return self._whole(path, minPartitions, kernels.file_text if use_unicode else kernels.file_bytes)

    def binaryFiles(self, path: str, minPartitions: int | None = None) -> RDD[tuple[str, bytes]]:
        """(URL, bytes) of each local file. Differs: files are dealt out by number, not by size."""
        return self._whole(path, minPartitions, kernels.file_bytes)

    def _whole(self, path: str, partitions: int | None, read: Callable[[str], Any]) -> RDD[Any]:
        files = files_of(path)
        count = max(1, min(partitions or self.defaultMinPartitions, len(files)))
        whole = self.parallelize(files, count).map(cast("Callable[[str], Any]", kernel(read)))
        return whole.setName(path)

    def binaryRecords(self, path: str, recordLength: int) -> RDD[bytes]:
        """Records of ``recordLength`` bytes of local files; as PySpark."""
        self._check()
        if recordLength < 1:
            raise ValueError(f"recordLength is {recordLength}: it must be at least 1")
        files = files_of(path)
        refs = [BlockRef("file-fixed", None, p, 0, os.path.getsize(p), -1, (recordLength,)) for p in files]
        return self._source("binaryRecords", "file-fixed", refs, ())

    def pickleFile(self, name: str, minPartitions: int | None = None) -> RDD[Any]:
        """What :meth:`RDD.saveAsPickleFile` of this layer wrote; unpickling runs code of the file.

        Differs: sequence files of Spark cannot be read; one partition a file.
        """
        self._check()
        refs = [BlockRef("file-pickles", None, path, 0, os.path.getsize(path)) for path in files_of(name)]
        return self._source("pickleFile", "file-pickles", refs, ())

    def _source(self, name: str, format: str, refs: list[BlockRef], args: tuple[Any, ...]) -> RDD[Any]:
        parts = tuple((ref,) for ref in refs)
        node = Source(name=name, format=format, format_args=args, parts=parts, partitions=len(parts))
        return self._rdd(self._engine.from_node(node))


def _line_refs(path: str, size: int, goal: int, format: str, args: tuple[Any, ...]) -> list[BlockRef]:
    """The parts of a text file. A line belongs to the part that holds the byte before it."""
    if path.endswith(".gz"):
        return [BlockRef(format, None, path, 0, size, -1, (*args, "gzip"))] if size else []
    refs = []
    for offset, length in splits(size, goal):
        start, stop = offset + (offset > 0), min(size, offset + length + 1)
        refs.append(BlockRef(format, None, path, start, stop - start, -1, (*args, None)))
    return refs
