"""The input streams of a StreamingContext."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import PySparkNotImplementedError, as_spark_errors
from ..rdd import RDD
from ..storagelevel import StorageLevel
from .queue_source import RddQueueSource

if TYPE_CHECKING:
    from ....context import StreamingContext as EngineStreamingContext
    from ....dstream import DStream as EngineStream
    from ..context import SparkContext
    from .dstream import DStream

__all__ = ["Inputs"]

T = TypeVar("T")


class Inputs:
    """Mixed into :class:`~aiostream_engine.compat.pyspark.streaming.context.StreamingContext`."""

    if TYPE_CHECKING:
        _sc: SparkContext
        _engine_context: EngineStreamingContext
        _queues: int

        def _check_open(self) -> None: ...
        def _wrapped(self, stream: EngineStream[Any]) -> DStream[Any]: ...

    def socketTextStream(
        self, hostname: str, port: int, storageLevel: StorageLevel = StorageLevel.MEMORY_AND_DISK_2
    ) -> DStream[str]:
        """Lines of UTF-8 from a TCP server that this connects to, again and again; as PySpark.

        Differs: ``storageLevel`` has no effect; a receiver takes no worker; when the queue of what was
        received is full, the server is pushed back.
        """
        return self._input(lambda context: context.socket_text_stream(hostname, int(port)))

    def textFileStream(self, directory: str) -> DStream[str]:
        """Lines of the files that appear in a local directory, or in those of a glob; as PySpark.

        Differs: a file is known by its inode and content, not by its time alone, so that one that is
        moved in late or is old is read as well.
        """
        return self._input(lambda context: context.text_file_stream(_local(directory), new_files_only=True))

    def binaryRecordsStream(self, directory: str, recordLength: int) -> DStream[bytes]:
        """Records of ``recordLength`` bytes of the files that appear in a directory; as PySpark."""
        return self._input(
            lambda context: context.binary_records_stream(
                _local(directory), recordLength, new_files_only=True
            )
        )

    def _input(self, make: Callable[[EngineStreamingContext], EngineStream[Any]]) -> DStream[Any]:
        self._check_open()
        with as_spark_errors():
            return self._wrapped(make(self._engine_context))

    def queueStream(
        self,
        rdds: list[RDD[T]] | Sequence[Sequence[T]],
        oneAtATime: bool = True,
        default: RDD[T] | Sequence[T] | None = None,
    ) -> DStream[T]:
        """A batch of each RDD, or list, of a queue; or one of all that are left; as PySpark.

        When the queue is empty, batches are ``default``, or have one empty partition. What is added to
        the list later is not seen. An empty list of RDDs is allowed.
        """
        self._check_open()
        if default and not isinstance(default, RDD):
            default = self._sc.parallelize(default)
        items = [item if isinstance(item, RDD) else self._sc.parallelize(item) for item in rdds]
        last = default if isinstance(default, RDD) else self._sc.parallelize([], 1)
        self._queues += 1
        source = RddQueueSource([item._core for item in items], oneAtATime, last._core)
        return self._wrapped(self._engine_context.from_source(source, name="queueStream"))


def _local(path: str) -> str:
    """A path, or ``file:`` URL, of this machine's file system."""
    scheme, found, rest = path.partition(":")
    if not found or "/" in scheme:
        return path
    if scheme != "file":
        raise PySparkNotImplementedError(
            f"{path!r}: only local directories can be watched; mount the file system, or copy files in"
        )
    return rest if not rest.startswith("//") else "/" + rest.lstrip("/")
