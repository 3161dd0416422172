"""RDD: a lazy, immutable, partitioned dataset with lineage.

Transformations add plan nodes and return at once; actions are coroutines. An RDD of a stream's
batch can be used until the batch is committed, unless it is persisted or remembered.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

from .errors import OptionError, UnpicklableError
from .operators import kernels
from .operators.function import Fn, describe_callable
from .operators.kernels import kernel
from .operators.partitioners import RangePartitioner, RoundRobin
from .operators.structure import PartitionOp, RecordOp, ToValue, error_policy
from .plan.nodes import (
    Cartesian,
    Coalesced,
    Deferred,
    Exchange,
    Narrow,
    Node,
    Side,
    Source,
    StateNode,
    Zipped,
)
from .rdd_actions import Actions, _decoded, as_fn
from .rdd_pairs import PairOperations, exchanged
from .runtime.async_steps import AsyncStep, resolver
from .state.guard import policy_of
from .types import BlockRef, OnError, StorageLevel

if TYPE_CHECKING:
    from .engine import EngineContext

__all__ = ["RDD"]

T = TypeVar("T")
U = TypeVar("U")

_SORT_SAMPLE_PER_PARTITION = 60


class RDD(Actions, PairOperations, Generic[T]):
    """A partitioned dataset (row RDD-3).

    Made by an :class:`~aiostream_engine.engine.EngineContext`, by another RDD, or by a DStream for
    each batch. Steps that take ``on_error`` and ``retries`` decide about records on which the
    function raised: ``fail`` (default), ``skip`` (loses data, counted) or ``dead-letter``.
    """

    def __init__(self, context: EngineContext, node: Node) -> None:
        self.context = context
        self.node = node

    def __repr__(self) -> str:
        node = self.node
        return f"RDD({node.name or type(node).__name__}, id={node.id}, partitions={node.partitions})"

    def __reduce__(self) -> NoReturn:
        raise UnpicklableError(
            "an RDD cannot be used inside of another's function: it lives in the driver. "
            "Collect it before and capture or broadcast the result, or join the two"
        )

    # -- making nodes --------------------------------------------------------------------------

    def _with(self, node: Node) -> RDD[Any]:
        return RDD(self.context, node)

    def _record(
        self,
        kind: str,
        function: Callable[..., Any] | Fn | None,
        name: str | None,
        *,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
        keeps_partitioner: bool = False,
    ) -> RDD[Any]:
        fn = None if function is None else as_fn(function, name or kind)
        step = name or (f"{kind}({describe_callable(fn.call)})" if fn else kind)
        op = RecordOp(kind, step, fn, error_policy(on_error, retries))
        return self._narrow(op, step, keeps_partitioner)

    def _partition_op(self, op: PartitionOp, *, keeps_partitioner: bool = False) -> RDD[Any]:
        return self._narrow(op, op.step, keeps_partitioner)

    def _narrow(
        self,
        op: RecordOp | PartitionOp,
        name: str,
        keeps_partitioner: bool,
        gives_dead_letters: bool = False,
    ) -> RDD[Any]:
        return self._with(
            Narrow(
                gives_dead_letters=gives_dead_letters,
                name=name,
                parent=self.node,
                op=op,
                partitions=self.node.partitions,
                partitioner=self.node.partitioner if keeps_partitioner else None,
            )
        )

    # -- record by record ----------------------------------------------------------------------

    def map(
        self,
        f: Callable[[T], U] | Fn,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
        keeps_partitioner: bool = False,
    ) -> RDD[U]:
        """Each record through ``f``. ``keeps_partitioner``: you promise that keys stay as they are."""
        return self._record(
            "map", f, name, on_error=on_error, retries=retries, keeps_partitioner=keeps_partitioner
        )

    def flat_map(
        self,
        f: Callable[[T], Iterable[U]] | Fn,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
    ) -> RDD[U]:
        """All items of ``f(record)``. A str is an iterable of characters."""
        return self._record("flat_map", f, name, on_error=on_error, retries=retries)

    def filter(
        self,
        f: Callable[[T], Any] | Fn,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
    ) -> RDD[T]:
        """The records for which ``f`` is true; keeps the partitioner."""
        return self._record("filter", f, name, on_error=on_error, retries=retries, keeps_partitioner=True)

    def map_values(
        self,
        f: Callable[[Any], Any] | Fn,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
    ) -> RDD[Any]:
        """(key, f(value)); keeps the partitioner (row PR-4)."""
        return self._record("map_values", f, name, on_error=on_error, retries=retries, keeps_partitioner=True)

    def flat_map_values(
        self,
        f: Callable[[Any], Iterable[Any]] | Fn,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
    ) -> RDD[Any]:
        """(key, item) for each item of ``f(value)``; keeps the partitioner."""
        return self._record(
            "flat_map_values", f, name, on_error=on_error, retries=retries, keeps_partitioner=True
        )

    def key_by(self, f: Callable[[T], Any] | Fn, *, name: str | None = None) -> RDD[Any]:
        """(f(record), record)."""
        return self._record("key_by", f, name)

    def dead_letters(self) -> RDD[Any]:
        """The records that this step gave up, as :class:`~aiostream_engine.types.DeadLetter` values.

        The step must have ``on_error="dead-letter"``. It is computed once for both results.
        """
        node = self.node
        step = _step_with_dead_letters(node)
        if step is None:
            raise OptionError(f"{node.name!r} has no dead letters: give that step on_error='dead-letter'")
        self.context.runner.mark(node)
        side = f"dead-letters:{step}"
        return self._with(
            Side(name=f"dead letters of {step}", parent=node, side=side, partitions=node.partitions)
        )

    # -- partition by partition ----------------------------------------------------------------

    def map_partitions(
        self,
        f: Callable[[Iterator[T]], Iterable[U]] | Fn,
        *,
        name: str | None = None,
        keeps_partitioner: bool = False,
    ) -> RDD[U]:
        """``f(iterator)`` of each partition, also of empty ones (row TR-2)."""
        step = name or "map_partitions"
        return self._partition_op(PartitionOp(step, as_fn(f, step)), keeps_partitioner=keeps_partitioner)

    def map_partitions_with_index(
        self,
        f: Callable[[int, Iterator[T]], Iterable[U]] | Fn,
        *,
        name: str | None = None,
        keeps_partitioner: bool = False,
    ) -> RDD[U]:
        """``f(index, iterator)`` of each partition."""
        step = name or "map_partitions_with_index"
        return self._partition_op(
            PartitionOp(step, as_fn(f, step), "index"), keeps_partitioner=keeps_partitioner
        )

    def map_batches(self, f: Callable[[list[T]], Iterable[U]] | Fn, *, name: str | None = None) -> RDD[U]:
        """``f(list of all records)`` of each partition: whole partition in, whole partition out."""
        step = name or "map_batches"
        fn = as_fn(f, step)
        return self._partition_op(PartitionOp(step, kernel(_on_list, fn)))

    def glom(self) -> RDD[list[T]]:
        """Each partition as one list."""
        return self._partition_op(PartitionOp("glom", kernel(kernels.glom)))

    def pipe(self, command: str | Sequence[str]) -> RDD[str]:
        """Records as lines through an outside program, one run a partition; its output lines. No shell."""
        words = tuple(command.split()) if isinstance(command, str) else tuple(command)
        return self._partition_op(PartitionOp(f"pipe({words[0]})", kernel(kernels.pipe, words)))

    def zip_with_unique_id(self) -> RDD[tuple[T, int]]:
        """(record, id): ids are unique, not consecutive; needs no look at the data."""
        op = PartitionOp("zip_with_unique_id", kernel(kernels.unique_ids, self.node.partitions), "index")
        return self._partition_op(op)

    def zip_with_index(self) -> RDD[tuple[T, int]]:
        """(record, position) in the order of partitions; counts the records first."""

        async def resolve(_: Any, parents: tuple[Source, ...]) -> Node:
            (source,) = parents
            counts = [sum(ref.records for ref in part) for part in source.parts]
            starts = tuple(sum(counts[:index]) for index in range(len(counts)))
            op = PartitionOp("zip_with_index", kernel(kernels.indexed, starts), "index")
            return Narrow(name="zip_with_index", parent=source, op=op, partitions=source.partitions)

        return self._deferred("zip_with_index", resolve)

    def _deferred(
        self,
        name: str,
        resolve: Callable[[Any, tuple[Source, ...]], Awaitable[Node]],
        partitions: int | None = None,
        gives_dead_letters: bool = False,
    ) -> RDD[Any]:
        parent = self.node
        if isinstance(parent, Source):  # blocks of unknown content are counted and sampled after one step
            same = PartitionOp(name, kernel(iter))
            parent = Narrow(name=parent.name, parent=parent, op=same, partitions=parent.partitions)
        return self._with(
            Deferred(
                name=name,
                parents=(parent,),
                resolve=resolve,
                partitions=partitions or self.node.partitions,
                gives_dead_letters=gives_dead_letters,
            )
        )

    # -- sampling ------------------------------------------------------------------------------

    def sample(self, with_replacement: bool, fraction: float, seed: int | None = None) -> RDD[T]:
        """A random part: each record with chance ``fraction``, or so often on average with replacement."""
        if fraction < 0 or (fraction > 1 and not with_replacement):
            raise OptionError(f"fraction is {fraction}: it must be 0 to 1, or at least 0 with replacement")
        seed = self.context.new_seed() if seed is None else seed
        if with_replacement:
            fn = kernel(kernels.sample_poisson, float(fraction), seed)
        else:
            fn = kernel(kernels.sample_bernoulli, 0.0, float(fraction), seed)
        return self._partition_op(PartitionOp("sample", fn, "index"), keeps_partitioner=True)

    def random_split(self, weights: Sequence[float], seed: int | None = None) -> list[RDD[T]]:
        """Disjoint random parts in proportion to ``weights``; together they are the whole."""
        if not weights or min(weights) < 0 or sum(weights) <= 0:
            raise OptionError(f"weights {list(weights)!r} must be at least 0 and not all 0")
        seed = self.context.new_seed() if seed is None else seed
        total, low = sum(weights), 0.0
        parts: list[RDD[T]] = []
        for number, weight in enumerate(weights):
            high = 1.0 if number == len(weights) - 1 else low + weight / total
            op = PartitionOp("random_split", kernel(kernels.sample_bernoulli, low, high, seed), "index")
            parts.append(self._partition_op(op, keeps_partitioner=True))
            low = high
        return parts

    # -- shuffles ------------------------------------------------------------------------------

    def group_by(self, f: Callable[[T], Any] | Fn, partitions: int | None = None) -> RDD[Any]:
        """(f(record), list of records)."""
        return self.key_by(f, name="group_by").group_by_key(partitions, name="group_by")

    def distinct(self, partitions: int | None = None) -> RDD[T]:
        """Each record once; records must be fit to be keys."""
        first = kernel(kernels.keep_first)
        pairs = self._record("map", kernel(kernels.pair_with_none), "distinct")
        return pairs.combine_by_key(None, first, first, partitions, name="distinct").keys()

    def repartition(self, partitions: int) -> RDD[T]:
        """A full shuffle to ``partitions``, dealt out in turn (row TR-5). Order is not kept."""
        if partitions < 1:
            raise OptionError(f"repartition needs at least 1 partition, not {partitions}")
        dealt = Exchange(
            name="repartition", parent=self.node, partitions=partitions, partitioner=RoundRobin(partitions)
        )
        return self._with(dealt)

    def coalesce(self, partitions: int, shuffle: bool = False) -> RDD[T]:
        """At most ``partitions``, by putting neighbours together; with ``shuffle`` any number."""
        if shuffle:
            return self.repartition(partitions)
        have = self.node.partitions
        if partitions < 1:
            raise OptionError(f"coalesce needs at least 1 partition, not {partitions}")
        if partitions >= have:
            return self
        bounds = [have * index // partitions for index in range(partitions + 1)]
        groups = tuple(tuple(range(a, b)) for a, b in itertools.pairwise(bounds))
        return self._with(Coalesced(name="coalesce", parent=self.node, groups=groups, partitions=partitions))

    def sort_by(
        self, key: Callable[[T], Any] | Fn, ascending: bool = True, partitions: int | None = None
    ) -> RDD[T]:
        """Sorted by ``key(record)``, stable; takes a sample first to find ranges of like size."""
        keyed = self.key_by(key, name="sort_by")
        return keyed._sorted(ascending, partitions).values()

    def sort_by_key(
        self,
        ascending: bool = True,
        partitions: int | None = None,
        key: Callable[[Any], Any] | Fn | None = None,
    ) -> RDD[Any]:
        """Pairs sorted by key, or by ``key(key)``."""
        if key is None:
            return self._sorted(ascending, partitions)
        fn = as_fn(key, "sort_by_key")
        return self.sort_by(kernel(_key_of_pair, fn), ascending, partitions)

    def _sorted(self, ascending: bool, partitions: int | None) -> RDD[Any]:
        count = self.context.default_parallelism if partitions is None else partitions
        if count < 1:
            raise OptionError(f"a sort needs at least 1 partition, not {count}")
        op = PartitionOp("sort", kernel(kernels.sort_pairs, ascending))

        async def resolve(job: Any, parents: tuple[Source, ...]) -> Node:
            (source,) = parents
            bounds = await _range_bounds(job, source, count) if count > 1 else ()
            partitioner = RangePartitioner(bounds, ascending, count)
            parent = exchanged(source, partitioner, "sort")
            return Narrow(name="sort", parent=parent, op=op, partitions=partitioner.partitions)

        return self._deferred("sort", resolve, count)

    # -- several RDDs --------------------------------------------------------------------------

    def union(self, *others: RDD[T]) -> RDD[T]:
        """The partitions of all, in order; keeps duplicates (row TR-6)."""
        return self.context.union([self, *others])

    def intersection(self, other: RDD[T], partitions: int | None = None) -> RDD[T]:
        """The distinct records that are on both sides."""
        return self._paired("intersection", kernels.intersected, other, partitions).keys()

    def subtract(self, other: RDD[T], partitions: int | None = None) -> RDD[T]:
        """The records, duplicates included, that are not in ``other``."""
        return self._paired("subtract", kernels.subtracted, other, partitions).keys()

    def _paired(self, step: str, function: Any, other: RDD[T], partitions: int | None) -> RDD[Any]:
        mine, theirs = (side._record("map", kernel(kernels.pair_with_none), step) for side in (self, other))
        return mine._combined(function, step, partitions, theirs)

    def cartesian(self, other: RDD[U]) -> RDD[tuple[T, U]]:
        """All pairs of records."""
        return self._with(
            Cartesian(
                name="cartesian",
                left=self.node,
                right=other.node,
                op=PartitionOp("cartesian", kernel(kernels.product)),
                partitions=self.node.partitions * other.node.partitions,
            )
        )

    def zip(self, other: RDD[U]) -> RDD[tuple[T, U]]:
        """Pairs by position; both sides need the same number of partitions and of records in each."""
        return self._zip("zip", kernel(kernels.zipped), other)

    def zip_partitions(
        self, other: RDD[U], f: Callable[[Iterator[T], Iterator[U]], Iterable[Any]]
    ) -> RDD[Any]:
        """``f(iterator, iterator)`` of each pair of partitions."""
        return self._zip(
            "zip_partitions", kernel(kernels.zipped_partitions, as_fn(f, "zip_partitions")), other
        )

    def _zip(self, step: str, fn: Fn, other: RDD[Any]) -> RDD[Any]:
        mine, theirs = self.node.partitions, other.node.partitions
        if mine != theirs:
            raise OptionError(
                f"{step} needs the same number of partitions on both sides, not {mine} and {theirs}"
            )
        op = PartitionOp(step, fn)
        return self._with(Zipped(name=step, parents=(self.node, other.node), op=op, partitions=mine))

    # -- keeping and describing ----------------------------------------------------------------

    def persist(self, level: StorageLevel = StorageLevel.MEMORY) -> RDD[T]:
        """Compute once and keep the blocks until :meth:`unpersist`.

        They lie in shared memory and spill to disk when it is short; ``DISK`` writes them there at once.
        """
        self.context.runner.mark(self.node, on_disk=StorageLevel(level) is StorageLevel.DISK)
        return self

    def cache(self) -> RDD[T]:
        """:meth:`persist` in memory."""
        return self.persist()

    def checkpoint(self) -> RDD[T]:
        """Cut the lineage: once computed, the blocks stand for it until the context is closed."""
        return self.persist(StorageLevel.DISK)

    def unpersist(self) -> RDD[T]:
        """Let go of kept blocks."""
        self.context.runner.drop([self.node.id])
        return self

    @property
    def is_persisted(self) -> bool:
        """True between :meth:`persist` and :meth:`unpersist`."""
        return self.context.runner.is_marked(self.node)

    @property
    def name(self) -> str:
        """What plans call it."""
        return self.node.name

    def set_name(self, name: str) -> Self:
        """Call it ``name`` in plans; RDDs that were made from it before keep the old name."""
        self.node = replace(self.node, name=name)
        return self

    @property
    def id(self) -> int:
        """Number of the RDD, unique in the process."""
        return self.node.id

    def get_num_partitions(self) -> int:
        """Number of partitions."""
        return self.node.partitions

    @property
    def partitioner(self) -> Any:
        """How pairs are placed, None when that is not known."""
        return None if isinstance(self.node.partitioner, RoundRobin) else self.node.partitioner

    def to_debug_string(self) -> str:
        """The lineage as an indented text."""
        from .plan.explain import lineage

        return lineage(self.node)

    def explain(self, stage: str = "physical") -> str:
        """The plan after a named stage: ``logical``, ``physical``, ``optimised`` or ``code``."""
        from .planner.explain import explain

        return explain(self.node, self.context.programs, stage)

    # -- asynchronous steps --------------------------------------------------------------------

    def map_async(self, f: Callable[[T], Awaitable[U]] | AsyncStep, **options: Any) -> RDD[U]:
        """``await f(record)`` with bounded concurrency; options as in :meth:`AsyncStep.of`."""
        return self._async("map", f, options)

    def flat_map_async(self, f: Callable[[T], Awaitable[Iterable[U]]] | AsyncStep, **options: Any) -> RDD[U]:
        """All items of ``await f(record)``."""
        return self._async("flat_map", f, options)

    def filter_async(self, f: Callable[[T], Awaitable[Any]] | AsyncStep, **options: Any) -> RDD[T]:
        """The records for which ``await f(record)`` is true."""
        return self._async("filter", f, options)

    def map_batches_async(
        self, f: Callable[[list[T]], Awaitable[Iterable[U]]] | AsyncStep, **options: Any
    ) -> RDD[U]:
        """All items of ``await f(list of up to batch_size records)``."""
        return self._async("map_batches", f, options)

    def foreach_async(self, f: Callable[[T], Awaitable[Any]] | AsyncStep, **options: Any) -> RDD[None]:
        """``await f(record)`` for its effect; has no records, and must still be run by an action."""
        return self._async("foreach", f, options)

    def _async(self, kind: str, f: Callable[..., Any] | AsyncStep, options: dict[str, Any]) -> RDD[Any]:
        step = f if isinstance(f, AsyncStep) else AsyncStep.of(kind, f, **options)
        if step.placement == "worker":
            return self._narrow(
                step.worker_op(), step.name, False, gives_dead_letters=step.gives_dead_letters
            )
        return self._deferred(
            step.name, resolver(step, self.context.clock), gives_dead_letters=step.gives_dead_letters
        )


def _step_with_dead_letters(node: Node) -> str | None:
    if isinstance(node, Narrow) and isinstance(node.op, RecordOp):
        return node.op.step if node.op.policy and node.op.policy.gives_dead_letters else None
    if isinstance(node, StateNode):
        policy = policy_of(node.spec)
        return node.name if policy and policy.gives_dead_letters else None
    return node.name if getattr(node, "gives_dead_letters", False) else None


def _on_list(call: Callable[[list[Any]], Iterable[Any]], records: Iterable[Any]) -> Iterable[Any]:
    return call(list(records))


def _key_of_pair(call: Callable[[Any], Any], pair: tuple[Any, Any]) -> Any:
    return call(pair[0])


async def _range_bounds(job: Any, source: Source, count: int) -> tuple[Any, ...]:
    """Keys that cut a sample of the data into ``count`` ranges of like size; compared in a worker."""
    sample = kernel(kernels.weighted_keys, _SORT_SAMPLE_PER_PARTITION * count, 17)
    results = await job.run_terminal(source, ToValue("sort", sample, "index"))
    keys = Source(name="sort", parts=(tuple(BlockRef("pickle", result.value) for result in results),))
    (result,) = await job.run_terminal(keys, ToValue("sort", kernel(kernels.range_bounds, count)))
    return tuple((await _decoded([result.value]))[0])
