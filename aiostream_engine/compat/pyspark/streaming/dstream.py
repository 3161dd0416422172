"""DStream: a stream of RDDs, by the names and rules of PySpark."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from ....dstream import DStream as EngineStream
from ....plan.graph import StreamNode, TransformStream
from .. import stream_kernels as kernels
from ..errors import PySparkRuntimeError
from ..kernels import portable_hash
from ..storagelevel import StorageLevel
from .arity import with_time
from .outputs import Outputs
from .windows import WindowsAndState

if TYPE_CHECKING:
    from ..rdd import RDD
    from .context import StreamingContext

__all__ = ["DStream", "TransformedDStream"]

S = TypeVar("S")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class DStream(Outputs, WindowsAndState, Generic[T_co]):
    """A stream of RDDs, one for each batch; as PySpark. Its methods are operations on these RDDs.

    Functions that work on records are sent to the workers in every batch, with what they refer to
    then. Those of ``transform`` and ``foreachRDD`` run in this process, in threads of their own.
    """

    def __init__(self, stream: EngineStream[Any], ssc: StreamingContext) -> None:
        self._stream = stream
        self._ssc = ssc
        self._sc = ssc._sc
        self.is_cached = False
        self.is_checkpointed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._stream.node.name}, slide={self._slide_ms} ms)"

    def __reduce__(self) -> NoReturn:
        raise PySparkRuntimeError(
            "It appears that you are attempting to reference a DStream from a function that runs in a "
            "worker. DStreams live in the driver: use transform() or join()"
        )

    def context(self) -> StreamingContext:
        """The StreamingContext that this stream belongs to; as PySpark."""
        return self._ssc

    @property
    def _slide_ms(self) -> int:
        return self._stream.node.slide_ms

    @property
    def _slideDuration(self) -> float:
        return self._slide_ms / 1000.0

    # -- making streams ------------------------------------------------------------------------

    def _each(self, name: str, operate: Callable[[RDD[Any]], RDD[Any]]) -> DStream[Any]:
        """A stream of ``operate(rdd)``, which only makes RDDs and does not run them."""
        wrap = self._sc._rdd

        def build(rdds: Sequence[Any], _: Any) -> Any:
            return operate(wrap(rdds[0]))._core

        return self._made(name, build)

    def _made(
        self,
        name: str,
        build: Callable[[Sequence[Any], Any], Any],
        others: Sequence[DStream[Any]] = (),
        *,
        takes_missing: bool = False,
        opaque: bool = True,
    ) -> DStream[Any]:
        parents: tuple[StreamNode, ...] = (self._stream.node, *(other._stream.node for other in others))
        return self._ssc._stream(
            TransformStream(
                name=name,
                slide_ms=self._slide_ms,
                parents=parents,
                build=build,
                opaque=opaque,
                takes_missing=takes_missing,
            )
        )

    # -- record by record ----------------------------------------------------------------------

    def map(self: DStream[T], f: Callable[[T], U], preservesPartitioning: bool = False) -> DStream[U]:
        """Each record through ``f``; as PySpark."""
        return self._each("map", lambda rdd: rdd.map(f, preservesPartitioning))

    def flatMap(
        self: DStream[T], f: Callable[[T], Iterable[U]], preservesPartitioning: bool = False
    ) -> DStream[U]:
        """All items of ``f(record)``; as PySpark."""
        return self._each("flatMap", lambda rdd: rdd.flatMap(f, preservesPartitioning))

    def filter(self: DStream[T], f: Callable[[T], bool]) -> DStream[T]:
        """The records for which ``f`` is true; as PySpark."""
        return self._each("filter", lambda rdd: rdd.filter(f))

    def mapValues(self: DStream[tuple[K, V]], f: Callable[[V], U]) -> DStream[tuple[K, U]]:
        """(key, f(value)); keeps the partitioner; as PySpark."""
        return self._each("mapValues", lambda rdd: rdd.mapValues(f))

    def flatMapValues(self: DStream[tuple[K, V]], f: Callable[[V], Iterable[U]]) -> DStream[tuple[K, U]]:
        """(key, item) for each item of ``f(value)``; as PySpark."""
        return self._each("flatMapValues", lambda rdd: rdd.flatMapValues(f))

    # -- partition by partition ----------------------------------------------------------------

    def mapPartitions(
        self: DStream[T], f: Callable[[Iterable[T]], Iterable[U]], preservesPartitioning: bool = False
    ) -> DStream[U]:
        """``f(iterator)`` of each partition, also of empty ones; as PySpark."""
        return self._each("mapPartitions", lambda rdd: rdd.mapPartitions(f, preservesPartitioning))

    def mapPartitionsWithIndex(
        self: DStream[T], f: Callable[[int, Iterable[T]], Iterable[U]], preservesPartitioning: bool = False
    ) -> DStream[U]:
        """``f(index, iterator)`` of each partition; as PySpark."""
        return self._each(
            "mapPartitionsWithIndex", lambda rdd: rdd.mapPartitionsWithIndex(f, preservesPartitioning)
        )

    def glom(self: DStream[T]) -> DStream[list[T]]:
        """Each partition as one list; as PySpark."""
        return self._each("glom", lambda rdd: rdd.glom())

    def repartition(self: DStream[T], numPartitions: int) -> DStream[T]:
        """A full shuffle to ``numPartitions``; as PySpark."""
        return self._each("repartition", lambda rdd: rdd.repartition(numPartitions))

    def partitionBy(
        self: DStream[tuple[K, V]], numPartitions: int, partitionFunc: Callable[[K], int] = portable_hash
    ) -> DStream[tuple[K, V]]:
        """Pairs moved to the partition of their key; as PySpark."""
        return self._each("partitionBy", lambda rdd: rdd.partitionBy(numPartitions, partitionFunc))

    # -- whole batches -------------------------------------------------------------------------

    def count(self) -> DStream[int]:
        """Number of records of each batch; nothing for an RDD without partitions (row TR-7)."""
        return self.mapPartitions(kernels.counted).reduce(operator.add)

    def reduce(self: DStream[T], func: Callable[[T, T], T]) -> DStream[T]:
        """One record a batch, nothing for an empty one; as PySpark."""
        return self._each(
            "reduce", lambda rdd: rdd.map(kernels.under_none).reduceByKey(func, 1).map(kernels.second)
        )

    def countByValue(self: DStream[K]) -> DStream[tuple[K, int]]:
        """(record, times it occurs in the batch); as PySpark."""
        parallelism = self._sc.defaultParallelism
        return self._each(
            "countByValue", lambda rdd: rdd.map(kernels.with_one).reduceByKey(operator.add, parallelism)
        )

    def transform(self: DStream[T], func: Callable[..., RDD[U] | None]) -> TransformedDStream[U]:
        """``func(rdd)`` or ``func(time, rdd)`` of each batch; as PySpark.

        It is called in this process and may run actions. What it raises fails the generation of the
        batch: none of its outputs run, ``awaitTermination`` raises it, and the next batch comes.
        """
        return TransformedDStream(self, with_time(func, 1, "func should take one or two arguments"))

    def transformWith(
        self: DStream[T], func: Callable[..., RDD[V] | None], other: DStream[U], keepSerializer: bool = False
    ) -> DStream[V]:
        """``func(rdd, other)`` or ``func(time, rdd, other)`` of each batch; as PySpark."""
        call = with_time(func, 2, "func should take two or three arguments")
        return self._made(
            "transformWith", self._ssc._user_build(call), [self._partner(other)], takes_missing=True
        )

    def _partner(self, other: DStream[Any]) -> DStream[Any]:
        if not isinstance(other, DStream):
            raise TypeError(f"another DStream is needed, not {type(other).__name__}")
        if other._ssc is not self._ssc:
            raise ValueError("the two DStream should belong to the same StreamingContext")
        return other

    def union(self: DStream[T], other: DStream[U]) -> DStream[T | U]:
        """The partitions of both, this one's first; as PySpark."""
        if self._slide_ms != self._partner(other)._slide_ms:
            raise ValueError("the two DStream should have same slide duration")
        return self._both("union", other, lambda a, b: a.union(b))

    def _both(
        self, name: str, other: DStream[Any], operate: Callable[[RDD[Any], RDD[Any]], RDD[Any]]
    ) -> DStream[Any]:
        """A stream of ``operate(rdd, other)``; a missing RDD counts as an empty one (row TR-11)."""
        wrap, empty = self._sc._rdd, self._sc._engine.empty_rdd

        def build(rdds: Sequence[Any], _: Any) -> Any:
            mine, theirs = (wrap(empty() if rdd is None else rdd) for rdd in rdds)
            return operate(mine, theirs)._core

        if self._slide_ms != self._partner(other)._slide_ms:
            raise ValueError(f"{name}: the two DStream should have same slide duration")
        return self._made(name, build, [other], takes_missing=True)

    # -- pairs ---------------------------------------------------------------------------------

    def _partitions(self, numPartitions: int | None) -> int:
        return self._sc.defaultParallelism if numPartitions is None else numPartitions

    def reduceByKey(
        self: DStream[tuple[K, V]], func: Callable[[V, V], V], numPartitions: int | None = None
    ) -> DStream[tuple[K, V]]:
        """Values of a key reduced within each batch; as PySpark."""
        count = self._partitions(numPartitions)
        return self._each("reduceByKey", lambda rdd: rdd.reduceByKey(func, count))

    def combineByKey(
        self: DStream[tuple[K, V]],
        createCombiner: Callable[[V], U],
        mergeValue: Callable[[U, V], U],
        mergeCombiners: Callable[[U, U], U],
        numPartitions: int | None = None,
    ) -> DStream[tuple[K, U]]:
        """One combined value for each key of a batch; as PySpark."""
        count = self._partitions(numPartitions)
        return self._each(
            "combineByKey", lambda rdd: rdd.combineByKey(createCombiner, mergeValue, mergeCombiners, count)
        )

    def groupByKey(
        self: DStream[tuple[K, V]], numPartitions: int | None = None
    ) -> DStream[tuple[K, Iterable[V]]]:
        """(key, values) of each batch; as PySpark."""
        count = self._partitions(numPartitions)
        return self._each("groupByKey", lambda rdd: rdd.groupByKey(count))

    def cogroup(self, other: DStream[Any], numPartitions: int | None = None) -> DStream[Any]:
        """(key, (values here, values of ``other``)) of each batch; as PySpark."""
        count = self._partitions(numPartitions)
        return self._both("cogroup", other, lambda a, b: a.cogroup(b, count))

    def join(self, other: DStream[Any], numPartitions: int | None = None) -> DStream[Any]:
        """(key, (a, b)) of the keys that both streams have in this batch; as PySpark."""
        count = self._partitions(numPartitions)
        return self._both("join", other, lambda a, b: a.join(b, count))

    def leftOuterJoin(self, other: DStream[Any], numPartitions: int | None = None) -> DStream[Any]:
        """:meth:`join`, with None where ``other`` lacks the key; as PySpark."""
        count = self._partitions(numPartitions)
        return self._both("leftOuterJoin", other, lambda a, b: a.leftOuterJoin(b, count))

    def rightOuterJoin(self, other: DStream[Any], numPartitions: int | None = None) -> DStream[Any]:
        """:meth:`join`, with None where this stream lacks the key; as PySpark."""
        count = self._partitions(numPartitions)
        return self._both("rightOuterJoin", other, lambda a, b: a.rightOuterJoin(b, count))

    def fullOuterJoin(self, other: DStream[Any], numPartitions: int | None = None) -> DStream[Any]:
        """:meth:`join`, with None where one stream lacks the key; as PySpark."""
        count = self._partitions(numPartitions)
        return self._both("fullOuterJoin", other, lambda a, b: a.fullOuterJoin(b, count))

    # -- keeping -------------------------------------------------------------------------------

    def cache(self: DStream[T]) -> DStream[T]:
        """:meth:`persist` in memory; as PySpark."""
        return self.persist(StorageLevel.MEMORY_ONLY)

    def persist(self: DStream[T], storageLevel: StorageLevel) -> DStream[T]:
        """Compute each batch's RDD once for all its uses; as PySpark.

        Differs: streams with more than one use are kept anyway, and the level makes no difference.
        """
        if not self._ssc._is_open:
            raise _changed_after_start("storage level")
        self._ssc._engine_context._persist(self._stream.node)
        self.is_cached = True
        return self

    def checkpoint(self: DStream[T], interval: float) -> DStream[T]:
        """Ask for a checkpoint of this stream every ``interval`` seconds, which is checked at start.

        Differs: the engine writes what changed in every batch, so that the interval has no effect.
        """
        if not self._ssc._is_open:
            raise _changed_after_start("checkpoint interval")
        self.is_checkpointed = True
        self._ssc._must_checkpoint(self._stream.node.name, self._slide_ms, int(interval * 1000))
        return self


class TransformedDStream(DStream[U]):
    """A DStream of ``func(time, rdd)`` of another; as PySpark."""

    def __init__(self, prev: DStream[T], func: Callable[..., RDD[U] | None]) -> None:
        self.prev = prev
        self.func = func
        made = prev._made("transform", prev._ssc._user_build(func))
        super().__init__(made._stream, prev._ssc)


def _changed_after_start(what: str) -> PySparkRuntimeError:
    return PySparkRuntimeError(f"Cannot change {what} of a DStream after streaming context has started")
