"""The actions of an RDD: each waits for the engine's loop."""

from __future__ import annotations

import functools
import heapq
import math
import operator
import random
import sys
import warnings
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from ...blocks.pickling import dumps
from ...operators.function import Fn
from ...operators.kernels import kernel
from ...rdd import RDD as EngineRDD
from ...rdd_actions import as_fn
from . import kernels
from .errors import as_spark_errors
from .histogram import buckets_of
from .jobs import collect_partitions, iterate_partitions
from .saving import save_text
from .statcounter import StatCounter

if TYPE_CHECKING:
    from .context import SparkContext
    from .rdd import RDD, Partitioner

__all__ = ["Actions", "BoundedFloat"]

_DEVIATIONS_MAX = 10.0
_MISS_CHANCE = 0.00005  # of a sample that is too small, and is drawn again


class BoundedFloat(float):
    """A number with its confidence and bounds; as PySpark."""

    confidence: float
    low: float
    high: float

    def __new__(cls, mean: float, confidence: float, low: float, high: float) -> BoundedFloat:
        made = float.__new__(cls, mean)
        made.confidence, made.low, made.high = confidence, low, high
        return made


class Actions:
    """Mixed into :class:`~aiostream_engine.compat.pyspark.rdd.RDD`.

    Errors of user functions in workers are raised as PythonException; functions that PySpark calls
    in the driver (the last step of ``reduce``, ``fold`` and ``aggregate``) are called in the calling
    thread, and what they raise is raised as it is.
    """

    if TYPE_CHECKING:
        _core: EngineRDD[Any]
        ctx: SparkContext
        partitioner: Partitioner | None

        def getNumPartitions(self) -> int: ...
        def map(self, f: Callable[[Any], Any], preservesPartitioning: bool = False) -> RDD[Any]: ...
        def filter(self, f: Callable[[Any], Any]) -> RDD[Any]: ...
        def values(self) -> RDD[Any]: ...
        def distinct(self, numPartitions: int | None = None) -> RDD[Any]: ...
        def sample(self, withReplacement: bool, fraction: float, seed: int | None = None) -> RDD[Any]: ...

    def _partials(self, fn: Fn, name: str, passes: str = "") -> list[Any]:
        """The result of ``fn`` for each partition."""
        return self.ctx._run(self._core._values(fn, name, passes))

    # -- records -------------------------------------------------------------------------------

    def collect(self) -> list[Any]:
        """All records; as PySpark."""
        return self.ctx._run(self._core.collect())

    def collectWithJobGroup(
        self, groupId: str, description: str, interruptOnCancel: bool = False
    ) -> list[Any]:
        """:meth:`collect`; deprecated, as in PySpark. The group has no effect."""
        warnings.warn("Deprecated in 3.1, Use pyspark.InheritableThread", FutureWarning, stacklevel=2)
        return self.collect()

    def collectAsMap(self) -> dict[Any, Any]:
        """The pairs as a dict, of equal keys the last one; as PySpark."""
        return dict(self.collect())

    def _collect_partitions(self, partitions: Sequence[int] | None) -> list[Any]:
        if partitions is None:
            return self.collect()
        return self.ctx._run(collect_partitions(self._core, partitions))

    def toLocalIterator(self, prefetchPartitions: bool = False) -> Iterator[Any]:
        """The records one by one, a partition at a time. Differs: none is computed ahead."""
        return self._iterate(iterate_partitions(self._core))

    def _iterate(self, parts: AsyncGenerator[list[Any], None]) -> Iterator[Any]:
        try:
            while (records := self.ctx._run(_next_of(parts))) is not None:
                yield from records
        finally:
            if self.ctx._is_running:
                self.ctx._run(parts.aclose())

    def take(self, num: int) -> list[Any]:
        """The first ``num`` records; as PySpark."""
        return self.ctx._run(self._core.take(num))

    def first(self) -> Any:
        """The first record; ValueError when there is none; as PySpark."""
        if found := self.take(1):
            return found[0]
        raise ValueError("RDD is empty")

    def isEmpty(self) -> bool:
        """True when there is no record; as PySpark."""
        return self.getNumPartitions() == 0 or not self.take(1)

    def top(self, num: int, key: Callable[[Any], Any] | None = None) -> list[Any]:
        """The ``num`` largest, largest first; as PySpark."""
        parts = self._partials(kernel(kernels.largest, num, _key(key)), "top")
        return cast("list[Any]", _reduced(lambda a, b: heapq.nlargest(num, a + b, key=key), parts))

    def takeOrdered(self, num: int, key: Callable[[Any], Any] | None = None) -> list[Any]:
        """The ``num`` smallest in order; as PySpark."""
        if num < 0:
            raise ValueError("top N cannot be negative.")
        if num == 0 or self.getNumPartitions() == 0:
            return []
        parts = self._partials(kernel(kernels.smallest, num, _key(key)), "takeOrdered")
        return cast("list[Any]", _reduced(lambda a, b: heapq.nsmallest(num, a + b, key=key), parts))

    def takeSample(self, withReplacement: bool, num: int, seed: int | None = None) -> list[Any]:
        """``num`` records drawn at random, for a ``seed`` the same as PySpark's."""
        if num < 0:
            raise ValueError("Sample size cannot be negative.")
        if num > (most := sys.maxsize - int(_DEVIATIONS_MAX * math.sqrt(sys.maxsize))):
            raise ValueError(f"Sample size cannot be greater than {most}.")
        total = self.count() if num and self.getNumPartitions() else 0
        if total == 0:
            return []
        numbers = random.Random(seed)
        if not withReplacement and num >= total:
            sample = self.collect()
        else:
            fraction = _fraction_for(num, total, withReplacement)
            sample = self.sample(withReplacement, fraction, seed).collect()
            while len(sample) < num:
                sample = self.sample(withReplacement, fraction, numbers.randint(0, sys.maxsize)).collect()
        numbers.shuffle(sample)
        return sample[:num]

    def lookup(self, key: Any) -> list[Any]:
        """The values of ``key``. Differs: looks into all partitions; only workers know where a key is."""
        return self.ctx._run(self._core.lookup(key))

    # -- reductions ----------------------------------------------------------------------------

    def reduce(self, f: Callable[[Any, Any], Any]) -> Any:
        """All records as one; ValueError when there is none; as PySpark."""
        parts = self._partials(kernel(kernels.reduced, as_fn(f, "reduce")), "reduce")
        return _reduced(f, [value for part in parts for value in part])

    def treeReduce(self, f: Callable[[Any, Any], Any], depth: int = 2) -> Any:
        """:meth:`reduce` in ``depth`` levels of tasks; as PySpark."""
        _check_depth(depth)
        try:
            return self.ctx._run(self._core.tree_reduce(f, depth))
        except ValueError as error:
            if type(error) is not ValueError:
                raise
            raise ValueError("Cannot reduce empty RDD.") from None

    def fold(self, zeroValue: Any, op: Callable[[Any, Any], Any]) -> Any:
        """:meth:`reduce` from a zero value in each partition and once more; as PySpark."""
        return self.aggregate(zeroValue, op, op)

    def aggregate(
        self, zeroValue: Any, seqOp: Callable[[Any, Any], Any], combOp: Callable[[Any, Any], Any]
    ) -> Any:
        """Records added to a value of another type, then those to each other; as PySpark."""
        fn = kernel(kernels.folded, dumps(zeroValue), as_fn(seqOp, "aggregate"))
        return functools.reduce(combOp, self._partials(fn, "aggregate"), zeroValue)

    def treeAggregate(
        self,
        zeroValue: Any,
        seqOp: Callable[[Any, Any], Any],
        combOp: Callable[[Any, Any], Any],
        depth: int = 2,
    ) -> Any:
        """:meth:`aggregate` in ``depth`` levels of tasks, the zero value only at the lowest; as PySpark."""
        _check_depth(depth)
        if self.getNumPartitions() == 0:
            return zeroValue
        start = kernel(kernels.folded_list, dumps(zeroValue), as_fn(seqOp, "treeAggregate"))
        merge = kernel(kernels.reduced, as_fn(combOp, "treeAggregate"))
        return self.ctx._run(self._core._merged("treeAggregate", start, merge, merge, depth=depth))[0]

    def reduceByKeyLocally(self, func: Callable[[Any, Any], Any]) -> dict[Any, Any]:
        """Values reduced by key, as a dict; as PySpark."""
        parts = self._partials(kernel(kernels.reduced_by_key, as_fn(func, "reduceByKeyLocally")), "reduce")

        def merged(mine: dict[Any, Any], theirs: dict[Any, Any]) -> dict[Any, Any]:
            for key, value in theirs.items():
                mine[key] = func(mine[key], value) if key in mine else value
            return mine

        return cast("dict[Any, Any]", _reduced(merged, parts))

    # -- numbers -------------------------------------------------------------------------------

    def count(self) -> int:
        """Number of records; as PySpark."""
        return self.ctx._run(self._core.count())

    def countByValue(self) -> dict[Any, int]:
        """How often each record occurs, as a defaultdict; as PySpark."""
        return cast(
            "dict[Any, int]", _reduced(_added, self._partials(kernel(kernels.counted), "countByValue"))
        )

    def countByKey(self) -> dict[Any, int]:
        """How many pairs each key has; as PySpark."""
        return cast("RDD[Any]", self).keys().countByValue()

    def sum(self) -> Any:
        """Sum of the records; as PySpark."""
        return functools.reduce(operator.add, self._partials(kernel(sum), "sum"), 0)

    def max(self, key: Callable[[Any], Any] | None = None) -> Any:
        """The largest record; as PySpark."""
        return self.reduce(max if key is None else lambda a, b: max(a, b, key=key))

    def min(self, key: Callable[[Any], Any] | None = None) -> Any:
        """The smallest record; as PySpark."""
        return self.reduce(min if key is None else lambda a, b: min(a, b, key=key))

    def stats(self) -> StatCounter:
        """Count, mean, variance and extremes in one pass; as PySpark. See ``StatCounter``."""
        parts = self._partials(kernel(StatCounter), "stats")
        return cast("StatCounter", _reduced(StatCounter.mergeStats, parts))

    def mean(self) -> float:
        """Mean of the records; as PySpark."""
        return self.stats().mean()

    def variance(self) -> float:
        """Variance of the population; as PySpark."""
        return self.stats().variance()

    def stdev(self) -> float:
        """Standard deviation of the population; as PySpark."""
        return self.stats().stdev()

    def sampleStdev(self) -> float:
        """Standard deviation estimated from a sample; as PySpark."""
        return self.stats().sampleStdev()

    def sampleVariance(self) -> float:
        """Variance estimated from a sample; as PySpark."""
        return self.stats().sampleVariance()

    def histogram(self, buckets: int | list[Any] | tuple[Any, ...]) -> tuple[Sequence[Any], list[int]]:
        """(bounds, counts) for a number of even buckets or for given bounds; as PySpark."""
        bounds, width, known = buckets_of(cast("RDD[Any]", self), buckets)
        if known is not None:
            return bounds, known
        parts = self._partials(kernel(kernels.counted_in_buckets, list(bounds), width), "histogram")
        return bounds, [sum(column) for column in zip(*_nonempty(parts), strict=True)]

    def countApprox(self, timeout: int, confidence: float = 0.95) -> int:
        """:meth:`count`. Differs: exact, and waited for beyond ``timeout``."""
        return self.count()

    def sumApprox(self, timeout: int, confidence: float = 0.95) -> BoundedFloat:
        """:meth:`sum`. Differs: exact, and waited for beyond ``timeout``."""
        total = float(self.sum())
        return BoundedFloat(total, 1.0, total, total)

    def meanApprox(self, timeout: int, confidence: float = 0.95) -> BoundedFloat:
        """:meth:`mean`. Differs: exact, and waited for beyond ``timeout``."""
        mean = self.mean()
        return BoundedFloat(mean, 1.0, mean, mean)

    def countApproxDistinct(self, relativeSD: float = 0.05) -> int:
        """Number of distinct records. Differs: exact, which costs a shuffle of them all."""
        if relativeSD < 0.000017:
            raise ValueError("relativeSD should be greater than 0.000017")
        return self.distinct().count()

    # -- effects -------------------------------------------------------------------------------

    def foreach(self, f: Callable[[Any], Any]) -> None:
        """Call ``f(record)`` in the workers; as PySpark."""
        self.ctx._run(self._core.foreach(f))

    def foreachPartition(self, f: Callable[[Iterable[Any]], Any]) -> None:
        """Call ``f(iterator)`` in the workers, once a partition; as PySpark."""
        fn = kernel(kernels.visited, as_fn(f, "foreachPartition"))
        self.ctx._run(self._core.map_partitions(fn, name="foreachPartition").count())

    def saveAsTextFile(self, path: str, compressionCodecClass: str | None = None) -> None:
        """A directory with a text file a partition and ``_SUCCESS``; an error where it exists; as PySpark.

        Differs: local paths only; gzip, bzip2 and deflate codecs; no ``.crc`` files.
        """
        with as_spark_errors():
            save_text(cast("RDD[Any]", self), path, compressionCodecClass)

    def saveAsPickleFile(self, path: str, batchSize: int = 10) -> None:
        """A directory that :meth:`SparkContext.pickleFile` of this layer reads.

        Differs: pickled lists instead of Spark's sequence files; ``batchSize`` has no effect.
        """
        from .saving import output_directory

        self.ctx._run(self._core.save_as_pickle_file(output_directory(path)))


async def _next_of(parts: AsyncGenerator[list[Any], None]) -> list[Any] | None:
    return await anext(parts, None)


def _key(key: Callable[[Any], Any] | None) -> Fn | None:
    return None if key is None else as_fn(key, "key")


def _nonempty(parts: list[Any]) -> list[Any]:
    if not parts:
        raise ValueError("Can not reduce() empty RDD")
    return parts


def _reduced(call: Callable[[Any, Any], Any], parts: list[Any]) -> Any:
    return functools.reduce(call, _nonempty(parts))


def _added(mine: dict[Any, int], theirs: dict[Any, int]) -> dict[Any, int]:
    for key, number in theirs.items():
        mine[key] += number
    return mine


def _check_depth(depth: int) -> None:
    if depth < 1:
        raise ValueError(f"Depth cannot be smaller than 1 but got {depth}.")


def _fraction_for(wanted: int, total: int, replaced: bool) -> float:
    """A fraction with which a sample of ``wanted`` out of ``total`` is almost never too small."""
    fraction = wanted / total
    if replaced:
        deviations = 9 if wanted < 12 else 5
        return fraction + deviations * math.sqrt(fraction / total)
    gamma = -math.log(_MISS_CHANCE) / total
    return min(1, fraction + gamma + math.sqrt(gamma * gamma + 2 * gamma * fraction))
