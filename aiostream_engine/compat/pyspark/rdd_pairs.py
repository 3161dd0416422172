"""The operations of an RDD of (key, value) pairs, which place keys as PySpark does."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from ...operators.function import Fn
from ...operators.kernels import kernel
from ...operators.partitioners import Partitioner as EnginePartitioner
from ...operators.structure import PartitionOp
from ...plan.nodes import Zipped
from ...rdd import RDD as EngineRDD
from ...rdd_actions import as_fn
from ...rdd_pairs import exchanged
from . import kernels
from .kernels import portable_hash
from .resultiterable import ResultIterable

if TYPE_CHECKING:
    from .context import SparkContext
    from .rdd import RDD, Partitioner

__all__ = ["PairOperations"]

_SAMPLES_PER_PARTITION = 20.0
_SORT_SEED = 1


class PairOperations:
    """Mixed into :class:`~aiostream_engine.compat.pyspark.rdd.RDD`.

    ``numPartitions`` None means ``spark.default.parallelism`` where that is set, else as many as the
    RDD has (for several RDDs: as their union has), as in PySpark.
    """

    if TYPE_CHECKING:
        _core: EngineRDD[Any]
        ctx: SparkContext
        partitioner: Partitioner | None

        def _next(self, core: EngineRDD[Any], keeps: bool = False) -> RDD[Any]: ...
        def map(self, f: Callable[[Any], Any], preservesPartitioning: bool = False) -> RDD[Any]: ...
        def mapPartitions(self, f: Any, preservesPartitioning: bool = False) -> RDD[Any]: ...
        def union(self, other: Any) -> RDD[Any]: ...
        def sample(self, withReplacement: bool, fraction: float, seed: int | None = None) -> RDD[Any]: ...
        def keyBy(self, f: Callable[[Any], Any]) -> RDD[Any]: ...
        def coalesce(self, numPartitions: int, shuffle: bool = False) -> RDD[Any]: ...
        def getNumPartitions(self) -> int: ...
        def count(self) -> int: ...

    def _defaultReducePartitions(self) -> int:
        if self.ctx._conf.contains("spark.default.parallelism"):
            return self.ctx.defaultParallelism
        return self.getNumPartitions()

    def _target(self, partitions: int | None, function: Callable[[Any], int]) -> Partitioner:
        from .rdd import Partitioner

        return Partitioner(self._defaultReducePartitions() if partitions is None else partitions, function)

    def _placed(self, target: Partitioner, make: Callable[[EnginePartitioner], EngineRDD[Any]]) -> RDD[Any]:
        """What ``make`` makes of the engine's partitioner; nothing has no partitions to be placed in."""
        empty = target.numPartitions == 0
        made = self._next(self._core.context.empty_rdd() if empty else make(target._of_engine()))
        made.partitioner = target
        return made

    # -- values and keys -----------------------------------------------------------------------

    def keys(self) -> RDD[Any]:
        """The keys; as PySpark."""
        return self._next(self._core.keys())

    def values(self) -> RDD[Any]:
        """The values; as PySpark."""
        return self._next(self._core.values())

    def mapValues(self, f: Callable[[Any], Any]) -> RDD[Any]:
        """(key, f(value)); as PySpark."""
        return self._next(self._core.map_values(f), keeps=True)

    def flatMapValues(self, f: Callable[[Any], Iterable[Any]]) -> RDD[Any]:
        """(key, item) for each item of ``f(value)``; as PySpark."""
        return self._next(self._core.flat_map_values(f), keeps=True)

    def sampleByKey(
        self, withReplacement: bool, fractions: dict[Any, float | int], seed: int | None = None
    ) -> RDD[Any]:
        """A random part by key, for a ``seed`` the same as PySpark's."""
        from .rdd import _seed

        for fraction in fractions.values():
            assert fraction >= 0.0, f"Negative fraction value: {fraction}"
        fn = kernel(kernels.sampled_by_key, withReplacement, dict(fractions), _seed(seed))
        sampled: EngineRDD[Any] = self._core.map_partitions_with_index(
            fn, name="sampleByKey", keeps_partitioner=True
        )
        return self._next(sampled, keeps=True)

    # -- combining -----------------------------------------------------------------------------

    def partitionBy(
        self, numPartitions: int | None, partitionFunc: Callable[[Any], int] = portable_hash
    ) -> RDD[Any]:
        """Pairs moved to partition ``partitionFunc(key) % numPartitions``; as PySpark."""
        target = self._target(numPartitions, partitionFunc)
        if self.partitioner == target:
            return cast("RDD[Any]", self)
        return self._placed(target, lambda engine: self._core.partition_by(partitioner=engine))

    def combineByKey(
        self,
        createCombiner: Callable[[Any], Any],
        mergeValue: Callable[[Any, Any], Any],
        mergeCombiners: Callable[[Any, Any], Any],
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = portable_hash,
    ) -> RDD[Any]:
        """One combined value a key, combined before and after the shuffle; as PySpark."""
        return self._combined(
            "combineByKey", createCombiner, mergeValue, mergeCombiners, numPartitions, partitionFunc
        )

    def _combined(
        self,
        name: str,
        create: Callable[[Any], Any] | Fn | None,
        merge_value: Callable[[Any, Any], Any] | Fn,
        merge_combiners: Callable[[Any, Any], Any] | Fn,
        partitions: int | None,
        function: Callable[[Any], int],
    ) -> RDD[Any]:
        target = self._target(partitions, function)
        return self._placed(
            target,
            lambda engine: self._core.combine_by_key(
                create, merge_value, merge_combiners, name=name, partitioner=engine
            ),
        )

    def reduceByKey(
        self,
        func: Callable[[Any, Any], Any],
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = portable_hash,
    ) -> RDD[Any]:
        """Values of a key reduced by an associative function; as PySpark."""
        fn = as_fn(func, "reduceByKey")
        return self._combined("reduceByKey", None, fn, fn, numPartitions, partitionFunc)

    def aggregateByKey(
        self,
        zeroValue: Any,
        seqFunc: Callable[[Any, Any], Any],
        combFunc: Callable[[Any, Any], Any],
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = portable_hash,
    ) -> RDD[Any]:
        """Values of a key added to a copy of ``zeroValue``, then those to each other; as PySpark."""
        fn = as_fn(seqFunc, "aggregateByKey")
        create = kernel(kernels.fresh, zeroValue, fn)
        return self._combined("aggregateByKey", create, fn, combFunc, numPartitions, partitionFunc)

    def foldByKey(
        self,
        zeroValue: Any,
        func: Callable[[Any, Any], Any],
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = portable_hash,
    ) -> RDD[Any]:
        """:meth:`reduceByKey` from a copy of ``zeroValue`` for each key and partition; as PySpark."""
        return self.aggregateByKey(zeroValue, func, func, numPartitions, partitionFunc)

    def groupByKey(
        self, numPartitions: int | None = None, partitionFunc: Callable[[Any], int] = portable_hash
    ) -> RDD[Any]:
        """(key, :class:`ResultIterable` of values); as PySpark."""
        target = self._target(numPartitions, partitionFunc)
        return self._placed(
            target,
            lambda engine: self._core.group_by_key(name="groupByKey", partitioner=engine).map_values(
                ResultIterable
            ),
        )

    def groupBy(
        self,
        f: Callable[[Any], Any],
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = portable_hash,
    ) -> RDD[Any]:
        """(f(record), :class:`ResultIterable` of records); as PySpark."""
        return self.keyBy(f).groupByKey(numPartitions, partitionFunc)

    def distinct(self, numPartitions: int | None = None) -> RDD[Any]:
        """Each record once; as PySpark."""
        first = kernel(kernels.keep_first)
        pairs = self._next(self._core.map(kernel(kernels.pair_with_none), name="distinct"))
        return pairs._combined("distinct", None, first, first, numPartitions, portable_hash).keys()

    # -- sides ---------------------------------------------------------------------------------

    def cogroup(self, other: RDD[Any], numPartitions: int | None = None) -> RDD[Any]:
        """(key, (values here, values of ``other``)) over all keys; as PySpark."""
        return self._sides("cogroup", kernel(kernels.as_cogroup), numPartitions, other)

    def groupWith(self, other: RDD[Any], *others: RDD[Any]) -> RDD[Any]:
        """:meth:`cogroup` of any number of RDDs; as PySpark."""
        return self._sides("groupWith", kernel(kernels.as_cogroup), None, other, *others)

    def join(self, other: RDD[Any], numPartitions: int | None = None) -> RDD[Any]:
        """(key, (a, b)) for each pair of values of a key that both sides have; as PySpark."""
        return self._sides("join", kernel(kernels.as_join, False, False), numPartitions, other)

    def leftOuterJoin(self, other: RDD[Any], numPartitions: int | None = None) -> RDD[Any]:
        """:meth:`join`, with (a, None) where ``other`` lacks the key; as PySpark."""
        return self._sides("leftOuterJoin", kernel(kernels.as_join, True, False), numPartitions, other)

    def rightOuterJoin(self, other: RDD[Any], numPartitions: int | None = None) -> RDD[Any]:
        """:meth:`join`, with (None, b) where this side lacks the key; as PySpark."""
        return self._sides("rightOuterJoin", kernel(kernels.as_join, False, True), numPartitions, other)

    def fullOuterJoin(self, other: RDD[Any], numPartitions: int | None = None) -> RDD[Any]:
        """:meth:`join`, with None where one side lacks the key; as PySpark."""
        return self._sides("fullOuterJoin", kernel(kernels.as_join, True, True), numPartitions, other)

    def subtractByKey(self, other: RDD[Any], numPartitions: int | None = None) -> RDD[Any]:
        """The pairs whose key is not in ``other``; as PySpark."""
        return self._sides("subtractByKey", kernel(kernels.as_subtraction), numPartitions, other)

    def subtract(self, other: RDD[Any], numPartitions: int | None = None) -> RDD[Any]:
        """The records that are not in ``other``; as PySpark."""
        pair = kernel(kernels.pair_with_none)
        mine, theirs = (side._next(side._core.map(pair, name="subtract")) for side in (self, other))
        return mine.subtractByKey(theirs, numPartitions).keys()

    def intersection(self, other: RDD[Any]) -> RDD[Any]:
        """The distinct records that are on both sides; as PySpark."""
        pair = kernel(kernels.pair_with_none)
        mine, theirs = (side._next(side._core.map(pair, name="intersection")) for side in (self, other))
        return mine._sides("intersection", kernel(kernels.as_intersection), None, theirs).keys()

    def _sides(self, name: str, finish: Fn, partitions: int | None, *others: RDD[Any]) -> RDD[Any]:
        """``finish`` of the values of each key by side.

        Each side is moved on its own, so that one that lies right stays where it is. Only where all
        lie alike, and not as wanted, is PySpark's way gone, whose order of keys is another then.
        """
        united = list(itertools.accumulate((cast("RDD[Any]", self), *others), lambda a, b: a.union(b)))
        target = united[-1]._target(partitions, portable_hash)
        if any(union.partitioner not in (None, target) for union in united[1:]):
            return self._tagged(name, finish, target, others)

        def zipped(placement: EnginePartitioner) -> EngineRDD[Any]:
            sides = tuple(exchanged(side._core.node, placement, name) for side in (self, *others))
            step = PartitionOp(name, kernel(kernels.on_sides, finish))
            width = target.numPartitions
            node = Zipped(name=name, parents=sides, op=step, partitions=width, partitioner=placement)
            return self._core.context.from_node(node)

        return self._placed(target, zipped)

    def _tagged(self, name: str, finish: Fn, target: Partitioner, others: tuple[RDD[Any], ...]) -> RDD[Any]:
        sides = [
            side._next(side._core.map_values(kernel(kernels.tag, number)), keeps=True)
            for number, side in enumerate((self, *others))
        ]
        grouped = functools.reduce(lambda left, right: left.union(right), sides).groupByKey(
            target.numPartitions
        )
        fn = kernel(kernels.on_tagged, finish, len(sides))
        return grouped._next(grouped._core.map_partitions(fn, name=name, keeps_partitioner=True), keeps=True)

    # -- sorting -------------------------------------------------------------------------------

    def repartitionAndSortWithinPartitions(
        self,
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = portable_hash,
        ascending: bool = True,
        keyfunc: Callable[[Any], Any] = lambda x: x,
    ) -> RDD[Any]:
        """:meth:`partitionBy`, each partition sorted by key; as PySpark."""
        return self.partitionBy(numPartitions, partitionFunc)._sorted(keyfunc, ascending)

    def _sorted(self, keyfunc: Callable[[Any], Any], ascending: bool) -> RDD[Any]:
        fn = kernel(kernels.sorted_pairs, as_fn(keyfunc, "sort"), ascending)
        return self._next(self._core.map_partitions(fn, name="sort", keeps_partitioner=True), keeps=True)

    def sortByKey(
        self,
        ascending: bool | None = True,
        numPartitions: int | None = None,
        keyfunc: Callable[[Any], Any] = lambda x: x,
    ) -> RDD[Any]:
        """Pairs sorted by ``keyfunc(key)``; counts and samples the data at once, as PySpark.

        Differs: with ``keyfunc`` the bounds of partitions are compared as ``keyfunc`` gives them; PySpark
        compares keys with what ``keyfunc`` gives.
        """
        count = self._defaultReducePartitions() if numPartitions is None else numPartitions
        if count == 1:
            whole = self.coalesce(1) if self.getNumPartitions() > 1 else cast("RDD[Any]", self)
            return whole._sorted(keyfunc, bool(ascending))
        size = self.count()
        if not size:
            return cast("RDD[Any]", self)
        fraction = min(count * _SAMPLES_PER_PARTITION / size, 1.0)
        sample = sorted(self.sample(False, fraction, _SORT_SEED).keys().collect(), key=keyfunc)
        bounds = [sample[int(len(sample) * number / count)] for number in range(1, count)]
        place = kernel(
            kernels.range_place, [keyfunc(k) for k in bounds], as_fn(keyfunc, "sort"), bool(ascending), count
        )
        return self.partitionBy(count, place.call)._sorted(keyfunc, bool(ascending))

    def sortBy(
        self,
        keyfunc: Callable[[Any], Any],
        ascending: bool = True,
        numPartitions: int | None = None,
    ) -> RDD[Any]:
        """Records sorted by ``keyfunc(record)``; counts and samples the data at once, as PySpark."""
        return self.keyBy(keyfunc).sortByKey(ascending, numPartitions).values()
