"""RDD: PySpark's synchronous face of an RDD of the engine.

Transformations add plan nodes and return at once; actions wait for the engine's loop. Partitions
hold the records that PySpark's partitions hold, in the same order, where Spark promises one.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from ...operators.kernels import kernel
from ...operators.partitioners import FunctionPartitioner
from ...operators.partitioners import Partitioner as EnginePartitioner
from ...rdd import RDD as EngineRDD
from ...rdd_actions import as_fn
from . import dealing, kernels
from .errors import PySparkRuntimeError, SparkRuntimeException, UnsupportedOperationException
from .kernels import portable_hash
from .missing import refuse
from .rdd_actions import Actions, BoundedFloat
from .rdd_pairs import PairOperations
from .storagelevel import StorageLevel

if TYPE_CHECKING:
    from .context import SparkContext

__all__ = ["RDD", "BoundedFloat", "Partitioner", "portable_hash"]

T = TypeVar("T")
U = TypeVar("U")
K = TypeVar("K")

_CHUNK = 10  # records that a repartition moves together


class Partitioner:
    """Number of partitions and the function that places keys; as PySpark."""

    def __init__(self, numPartitions: int, partitionFunc: Callable[[Any], int]) -> None:
        self.numPartitions = numPartitions
        self.partitionFunc = partitionFunc

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Partitioner)
            and self.numPartitions == other.numPartitions
            and self.partitionFunc == other.partitionFunc
        )

    def __hash__(self) -> int:
        return hash((self.numPartitions, self.partitionFunc))

    def __call__(self, k: Any) -> int:
        return self.partitionFunc(k) % self.numPartitions

    def _of_engine(self) -> EnginePartitioner:
        if self.partitionFunc is portable_hash:
            return kernels.portable(self.numPartitions)
        return FunctionPartitioner(self.numPartitions, as_fn(self.partitionFunc, "partitionBy"))


class RDD(Actions, PairOperations, Generic[T]):
    """A partitioned dataset; as PySpark.

    Differs: an action computes its lineage anew, without the shuffle files of an earlier one that
    Spark keeps; :meth:`cache` what is used twice.
    """

    def __init__(
        self, core: EngineRDD[Any], ctx: SparkContext, partitioner: Partitioner | None = None
    ) -> None:
        self._core = core
        self.ctx = ctx
        self.partitioner = partitioner
        self.is_cached = False
        self.is_checkpointed = False
        self._chunks: EngineRDD[Any] | None = None  # after a repartition: lists of what moved together
        self._name: str | None = None
        self._level = StorageLevel.NONE
        self._local_checkpoint = False

    def __repr__(self) -> str:
        return f"PythonRDD[{self._core.id}] at {self._core.name}"

    def __reduce__(self) -> NoReturn:
        raise PySparkRuntimeError(errorClass="RDD_TRANSFORM_ONLY_VALID_ON_DRIVER", messageParameters={})

    def __getattr__(self, name: str) -> Any:
        refuse("RDD", name)

    def __add__(self, other: RDD[U]) -> RDD[Any]:
        if not isinstance(other, RDD):
            raise TypeError
        return self.union(other)

    def _next(self, core: EngineRDD[Any], keeps: bool = False) -> RDD[Any]:
        return RDD(core, self.ctx, self.partitioner if keeps else None)

    def id(self) -> int:
        """Number of the RDD, unique in the process; as PySpark."""
        return self._core.id

    @property
    def context(self) -> SparkContext:
        """The context that made it; as PySpark."""
        return self.ctx

    # -- keeping -------------------------------------------------------------------------------

    def cache(self) -> RDD[T]:
        """Keep in memory once computed; as PySpark."""
        return self.persist(StorageLevel.MEMORY_ONLY)

    def persist(self, storageLevel: StorageLevel = StorageLevel.MEMORY_ONLY) -> RDD[T]:
        """Keep once computed. Differs: what the levels mean, see ``StorageLevel``."""
        if not isinstance(storageLevel, StorageLevel):
            raise TypeError("storageLevel must be of type pyspark.StorageLevel")
        if self._level not in (StorageLevel.NONE, storageLevel):
            raise UnsupportedOperationException(
                "Cannot change storage level of an RDD after it was already assigned a level"
            )
        self._level, self.is_cached = storageLevel, True
        self.ctx._on_loop(lambda: self._core.persist(storageLevel._engine_level()))
        return self

    def unpersist(self, blocking: bool = False) -> RDD[T]:
        """Let go of what is kept. Differs: ``blocking`` has no effect, it is gone on return."""
        self._level, self.is_cached = StorageLevel.NONE, False
        if not self.is_checkpointed:
            self.ctx._on_loop(self._core.unpersist)
        return self

    def getStorageLevel(self) -> StorageLevel:
        """The level that was asked for; as PySpark."""
        return self._level

    def checkpoint(self) -> None:
        """Keep on disk once computed, until the context stops. Needs ``setCheckpointDir``, as PySpark.

        Differs: computed with the first job instead of by a second one; not readable by other programs.
        """
        if self.ctx.getCheckpointDir() is None:
            raise SparkRuntimeException("Checkpoint directory has not been set in the SparkContext")
        self._keep_for_good()

    def localCheckpoint(self) -> None:
        """:meth:`checkpoint` without a directory; as PySpark."""
        self._local_checkpoint = True
        self._keep_for_good()

    def _keep_for_good(self) -> None:
        self.is_checkpointed = True
        self.ctx._on_loop(self._core.checkpoint)

    def isCheckpointed(self) -> bool:
        """True once a checkpoint is computed; as PySpark."""
        return self.is_checkpointed and self._is_kept()

    def isLocallyCheckpointed(self) -> bool:
        """True after :meth:`localCheckpoint`; as PySpark."""
        return self._local_checkpoint

    def _is_kept(self) -> bool:
        return self.ctx._on_loop(lambda: self._core.context.runner.kept(self._core.node) is not None)

    def getCheckpointFile(self) -> str | None:
        """Differs: always None, as the blocks of a checkpoint have no name."""
        return None

    def cleanShuffleDependencies(self, blocking: bool = False) -> None:
        """Differs: does nothing, as no job leaves shuffle files behind."""

    # -- record by record and partition by partition -------------------------------------------

    def map(self, f: Callable[[T], U], preservesPartitioning: bool = False) -> RDD[U]:
        """Each record through ``f``; as PySpark."""
        core = self._core.map(f, keeps_partitioner=preservesPartitioning)
        return self._next(core, preservesPartitioning)

    def flatMap(self, f: Callable[[T], Iterable[U]], preservesPartitioning: bool = False) -> RDD[U]:
        """All items of ``f(record)``; as PySpark."""
        core = self._core._record("flat_map", f, None, keeps_partitioner=preservesPartitioning)
        return self._next(core, preservesPartitioning)

    def mapPartitions(
        self, f: Callable[[Iterable[T]], Iterable[U]], preservesPartitioning: bool = False
    ) -> RDD[U]:
        """``f(iterator)`` of each partition; as PySpark."""
        core = self._core.map_partitions(f, keeps_partitioner=preservesPartitioning)
        return self._next(core, preservesPartitioning)

    def mapPartitionsWithIndex(
        self, f: Callable[[int, Iterable[T]], Iterable[U]], preservesPartitioning: bool = False
    ) -> RDD[U]:
        """``f(index, iterator)`` of each partition; as PySpark."""
        core = self._core.map_partitions_with_index(f, keeps_partitioner=preservesPartitioning)
        return self._next(core, preservesPartitioning)

    def mapPartitionsWithSplit(
        self, f: Callable[[int, Iterable[T]], Iterable[U]], preservesPartitioning: bool = False
    ) -> RDD[U]:
        """The old name of :meth:`mapPartitionsWithIndex`; as PySpark."""
        warnings.warn(
            "mapPartitionsWithSplit is deprecated; use mapPartitionsWithIndex instead",
            FutureWarning,
            stacklevel=2,
        )
        return self.mapPartitionsWithIndex(f, preservesPartitioning)

    def filter(self, f: Callable[[T], bool]) -> RDD[T]:
        """The records for which ``f`` is true; as PySpark."""
        return self._next(self._core.filter(f), keeps=True)

    def glom(self) -> RDD[list[T]]:
        """Each partition as one list; as PySpark."""
        return self._next(self._core.glom())

    def keyBy(self, f: Callable[[T], K]) -> RDD[tuple[K, T]]:
        """(f(record), record); as PySpark."""
        return self._next(self._core.key_by(f))

    def pipe(self, command: str, env: dict[str, str] | None = None, checkCode: bool = False) -> RDD[str]:
        """Records as lines through an outside program, its output lines; as PySpark, with no shell."""
        piped = kernel(kernels.piped, command, tuple((env or {}).items()), checkCode)
        return self._next(self._core.map_partitions(piped, name="pipe"))

    # -- sampling ------------------------------------------------------------------------------

    def sample(self, withReplacement: bool, fraction: float, seed: int | None = None) -> RDD[T]:
        """A random part, for a ``seed`` the same as PySpark's."""
        if not fraction >= 0:
            raise ValueError("Fraction must be nonnegative.")
        fn = kernel(kernels.sampled, withReplacement, float(fraction), _seed(seed))
        return self._next(
            self._core.map_partitions_with_index(fn, name="sample", keeps_partitioner=True), True
        )

    def randomSplit(self, weights: Sequence[int | float], seed: int | None = None) -> list[RDD[T]]:
        """Disjoint random parts in proportion to ``weights``, for a ``seed`` the same as PySpark's."""
        if not all(weight >= 0 for weight in weights):
            raise ValueError("Weights must be nonnegative")
        total = float(sum(weights))
        if not total > 0:
            raise ValueError("Sum of weights must be positive")
        number, low, parts = _seed(seed, 2**32 - 1), 0.0, []
        for weight in weights:
            high = low + weight / total
            fn = kernel(kernels.sampled_range, low, high, number)
            core: EngineRDD[Any] = self._core.map_partitions_with_index(
                fn, name="randomSplit", keeps_partitioner=True
            )
            parts.append(self._next(core, True))
            low = high
        return parts

    # -- several RDDs and other numbers of partitions --------------------------------------------

    def union(self, other: RDD[U]) -> RDD[Any]:
        """The partitions of both; as PySpark."""
        made = self.ctx.union([self, cast("RDD[Any]", other)])
        if self.partitioner == other.partitioner and self.getNumPartitions() == made.getNumPartitions():
            made.partitioner = self.partitioner
        return made

    def cartesian(self, other: RDD[U]) -> RDD[tuple[T, U]]:
        """All pairs. Differs: a partition is in the order of the left records; Spark's goes by batches."""
        return self._next(self._core.cartesian(other._core))

    def zip(self, other: RDD[U]) -> RDD[tuple[T, U]]:
        """Pairs by position; as PySpark."""
        if self.getNumPartitions() != other.getNumPartitions():
            raise ValueError("Can only zip with RDD which has the same number of partitions")
        return self._next(self._core.zip(other._core))

    def zipWithIndex(self) -> RDD[tuple[T, int]]:
        """(record, position). Differs: counts the records with the first action, not at once."""
        return self._next(self._core.zip_with_index())

    def zipWithUniqueId(self) -> RDD[tuple[T, int]]:
        """(record, unique number); as PySpark."""
        return self._next(self._core.zip_with_unique_id())

    def repartition(self, numPartitions: int) -> RDD[T]:
        """Another number of partitions by a full shuffle, ten records at a time; as PySpark."""
        return self.coalesce(numPartitions, shuffle=True)

    def coalesce(self, numPartitions: int, shuffle: bool = False) -> RDD[T]:
        """Fewer partitions by putting neighbours together, or any number with ``shuffle``.

        Differs: where Spark knows from an earlier job on which host a shuffled partition was made, it may
        put others together.
        """
        if not numPartitions > 0:
            raise ValueError("Number of partitions must be positive.")
        if shuffle:
            chunks = self._chunks or self._core.map_partitions(
                kernel(dealing.chunked, _CHUNK), name="repartition"
            )
            return self._of_chunks(_shuffled(chunks, numPartitions))
        if self._chunks is not None:
            return self._of_chunks(self._chunks.coalesce(numPartitions))
        return self._next(self._core.coalesce(numPartitions))

    def _of_chunks(self, chunks: EngineRDD[Any]) -> RDD[T]:
        made = self._next(chunks.flat_map(kernel(iter), name="repartition"))
        made._chunks = chunks
        return made

    def getNumPartitions(self) -> int:
        """Number of partitions; as PySpark."""
        return self._core.get_num_partitions()

    # -- describing ----------------------------------------------------------------------------

    def name(self) -> str | None:
        """The name that :meth:`setName` gave; as PySpark."""
        return self._name

    def setName(self, name: str) -> RDD[T]:
        """Give it a name; as PySpark."""
        self._name = name
        return self

    def toDebugString(self) -> bytes | None:
        """The lineage as an indented text, in bytes. Differs: in the words of this engine."""
        return self._core.to_debug_string().encode()


def _seed(seed: int | None, most: int = 2**63 - 1) -> int:
    return random.randint(0, most) if seed is None else seed


def _shuffled(chunks: EngineRDD[Any], partitions: int) -> EngineRDD[Any]:
    numbered: EngineRDD[Any] = chunks.map_partitions_with_index(
        kernel(dealing.dealt, partitions), name="repartition"
    )
    by_number = FunctionPartitioner(partitions, kernel(kernels.same))
    return numbered.partition_by(partitioner=by_number).values()
