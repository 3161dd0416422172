"""DStream: a recipe *batch time -> RDD*. Every operation becomes RDD operations of each batch."""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from .config import RetryPolicy
from .dstream_outputs import Outputs, call_with_time
from .dstream_windows import WindowsAndState
from .errors import GraphError, OptionError, UnpicklableError
from .operators import kernels
from .operators.function import Fn, describe_callable
from .operators.kernels import kernel
from .operators.partitioners import Partitioner
from .operators.structure import ErrorPolicy, error_policy, refuse_policy
from .plan.graph import SideStream, StreamNode, TransformStream
from .rdd_actions import as_fn
from .runtime.async_steps import AsyncStep
from .types import BatchTime, OnError, StorageLevel

if TYPE_CHECKING:
    from .context import StreamingContext
    from .rdd import RDD

__all__ = ["DStream"]

NO_PARTITION_POLICY = (
    "it sees a whole partition, and which records share one with a bad record is an accident of how the "
    "batch was cut. Handle the error in the function, record by record, or let a map() or flat_map() with "
    "on_error= do what may fail"
)

T = TypeVar("T")
U = TypeVar("U")


class DStream(Outputs, WindowsAndState, Generic[T]):
    """A stream of RDDs, one a batch. Building it does nothing; the graph is frozen at start.

    Steps take ``name=`` (used in errors, statistics and dead letters) and, where a user function
    sees single records, ``on_error=`` (``fail``, ``skip``, ``dead-letter``) and ``retries=``.
    """

    def __init__(self, context: StreamingContext, node: StreamNode) -> None:
        self.context = context
        self.node = node

    def __repr__(self) -> str:
        return f"DStream({self.node.name}, slide={self.node.slide_ms} ms)"

    def __reduce__(self) -> NoReturn:
        raise UnpicklableError(
            "a DStream cannot be used inside of a function that runs in a worker: it lives in the driver. "
            "Join the two streams, or use transform()"
        )

    # -- making nodes --------------------------------------------------------------------------

    def _apply(
        self,
        build: Callable[..., Any],
        name: str,
        functions: Sequence[Fn] = (),
        others: Sequence[DStream[Any]] = (),
    ) -> DStream[Any]:
        """A stream whose RDD of each batch is ``build`` of this one's."""
        return self._transform(lambda rdds, _: build(*rdds), name, functions, others)

    def _transform(
        self,
        build: Callable[[Sequence[Any], BatchTime], Any],
        name: str,
        functions: Sequence[Fn] = (),
        others: Sequence[DStream[Any]] = (),
        *,
        opaque: bool = False,
    ) -> DStream[Any]:
        for other in others:
            self._check_partner(other, name)
        self.context._check_later(functions)
        parents = (self.node, *(other.node for other in others))
        return self.context._stream(
            TransformStream(
                name=name, slide_ms=self.node.slide_ms, parents=parents, build=build, opaque=opaque
            )
        )

    def _check_partner(self, other: DStream[Any], name: str) -> None:
        if not isinstance(other, DStream):
            raise OptionError(f"{name} needs another DStream, not {type(other).__name__}")
        if other.context is not self.context:
            raise GraphError(f"{name} needs streams of one context")
        if other.node.slide_ms != self.node.slide_ms:
            raise GraphError(
                f"{name} needs streams of one slide, not {self.node.slide_ms} and {other.node.slide_ms} ms: "
                "window both alike"
            )

    def _record_step(
        self, method: str, f: Callable[..., Any] | Fn, name: str | None, on_error: OnError | str, retries: int
    ) -> DStream[Any]:
        fn = as_fn(f, name or method)
        policy = error_policy(on_error, retries)  # refuse bad options here, not in the first batch
        label = self.context._step_name(name or f"{method}({describe_callable(fn.call)})")

        def build(rdd: RDD[Any]) -> Any:
            return getattr(rdd, method)(fn, name=label, on_error=on_error, retries=retries)

        return self._with_policy(self._apply(build, label, [fn]), policy)

    def _with_policy(self, stream: DStream[Any], policy: ErrorPolicy | None) -> DStream[Any]:
        """``stream``, whose dead letters somebody has to read if it has some."""
        if policy is not None and policy.gives_dead_letters:
            self.context._expect_dead_letters(stream.node)
        return stream

    # -- record by record ----------------------------------------------------------------------

    def map(
        self,
        f: Callable[[T], U] | Fn,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
    ) -> DStream[U]:
        """Each record through ``f`` (row TR-1)."""
        return self._record_step("map", f, name, on_error, retries)

    def flat_map(
        self,
        f: Callable[[T], Iterable[U]] | Fn,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
    ) -> DStream[U]:
        """All items of ``f(record)``. A str is an iterable of characters."""
        return self._record_step("flat_map", f, name, on_error, retries)

    def filter(
        self,
        f: Callable[[T], Any] | Fn,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
    ) -> DStream[T]:
        """The records for which ``f`` is true."""
        return self._record_step("filter", f, name, on_error, retries)

    def map_values(
        self,
        f: Callable[[Any], Any] | Fn,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
    ) -> DStream[Any]:
        """(key, f(value)); keeps the partitioner (row PR-4)."""
        return self._record_step("map_values", f, name, on_error, retries)

    def flat_map_values(
        self,
        f: Callable[[Any], Iterable[Any]] | Fn,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
    ) -> DStream[Any]:
        """(key, item) for each item of ``f(value)``."""
        return self._record_step("flat_map_values", f, name, on_error, retries)

    def dead_letters(self) -> DStream[Any]:
        """What this step gave up (``on_error="dead-letter"``), as DeadLetter records: an ordinary stream."""
        if not self.context._has_dead_letters(self.node):
            raise GraphError(f"{self.node.name!r} has no dead letters: give that step on_error='dead-letter'")
        return self.context._stream(
            SideStream(
                name=f"dead letters of {self.node.name}", slide_ms=self.node.slide_ms, parents=(self.node,)
            )
        )

    # -- partition by partition ----------------------------------------------------------------

    def map_partitions(
        self,
        f: Callable[[Iterator[T]], Iterable[U]] | Fn,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
    ) -> DStream[U]:
        """``f(iterator)`` of each partition, also of empty ones (row TR-2).

        on_error: ``fail`` only, as in :meth:`map_partitions_with_index` and :meth:`map_batches`; raises
        OptionError for any other.
        """
        refuse_policy("map_partitions", on_error, NO_PARTITION_POLICY)
        fn = as_fn(f, name or "map_partitions")
        return self._apply(lambda rdd: rdd.map_partitions(fn, name=name), name or "map_partitions", [fn])

    def map_partitions_with_index(
        self,
        f: Callable[[int, Iterator[T]], Iterable[U]] | Fn,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
    ) -> DStream[U]:
        """``f(index, iterator)`` of each partition."""
        refuse_policy("map_partitions_with_index", on_error, NO_PARTITION_POLICY)
        step = name or "map_partitions_with_index"
        fn = as_fn(f, step)
        return self._apply(lambda rdd: rdd.map_partitions_with_index(fn, name=name), step, [fn])

    def map_batches(
        self,
        f: Callable[[list[T]], Iterable[U]] | Fn,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
    ) -> DStream[U]:
        """``f(list)``: a whole partition in, a whole partition out."""
        refuse_policy("map_batches", on_error, NO_PARTITION_POLICY)
        fn = as_fn(f, name or "map_batches")
        return self._apply(lambda rdd: rdd.map_batches(fn, name=name), name or "map_batches", [fn])

    def glom(self) -> DStream[list[T]]:
        """Each partition as one list."""
        return self._apply(lambda rdd: rdd.glom(), "glom")

    def repartition(self, partitions: int) -> DStream[T]:
        """A full shuffle to ``partitions``; order is not kept (row TR-5)."""
        if partitions < 1:
            raise OptionError(f"repartition needs at least 1 partition, not {partitions}")
        return self._apply(lambda rdd: rdd.repartition(partitions), "repartition")

    # -- whole batches -------------------------------------------------------------------------

    def count(self) -> DStream[int]:
        """Number of records of each batch: always one record, 0 for an empty batch (row TR-7)."""

        async def build(rdds: Sequence[RDD[Any]], _: BatchTime) -> RDD[int]:
            (rdd,) = rdds
            return rdd.context.parallelize([await rdd.count()], 1)

        return self._transform(build, "count", opaque=True)

    def reduce(
        self,
        f: Callable[[T, T], T] | Fn,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
    ) -> DStream[T]:
        """One record a batch; nothing for an empty batch (row TR-8). ``f`` is associative and commutative.

        on_error: ``fail`` only; raises OptionError for any other.
        """
        refuse_policy(
            "reduce",
            on_error,
            "what could be given up is the whole batch, since which of two records is the bad one cannot be "
            "told. Check the records in a map() or filter() with on_error= before it, or use "
            "reduce_by_key(), whose unit is the key",
        )
        fn = as_fn(f, name or "reduce")
        pair, step = kernel(kernels.pair_none_with), name or "reduce"
        return self._apply(
            lambda rdd: rdd.map(pair, name=step).reduce_by_key(fn, 1, name=step).values(), step, [fn]
        )

    def count_by_value(self, partitions: int | None = None) -> DStream[tuple[T, int]]:
        """(record, times it occurs in the batch) (row TR-9)."""
        pair = kernel(kernels.pair_with_one)
        add = Fn(operator.add, "count_by_value")

        def build(rdd: RDD[Any]) -> Any:
            return rdd.map(pair, name="count_by_value").reduce_by_key(add, partitions, name="count_by_value")

        return self._apply(build, "count_by_value")

    def transform(self, f: Callable[..., Any], *, name: str | None = None) -> DStream[Any]:
        """``f(rdd)`` or ``f(rdd, time)``: any RDD operations; called in the driver each batch (row TR-10).

        May be ``async def``, to run actions. None gives no RDD for the batch.
        """
        call = call_with_time(f, "transform")
        return self._transform(
            lambda rdds, time: call(rdds[0], time), name or f"transform({describe_callable(f)})", opaque=True
        )

    def transform_with(
        self, f: Callable[..., Any], other: DStream[Any], *, name: str | None = None
    ) -> DStream[Any]:
        """``f(rdd, other)`` or ``f(rdd, other, time)``: any RDD operations of two streams (row TR-11)."""
        call = call_with_time(f, "transform_with", 2)
        return self._transform(
            lambda rdds, time: call(*rdds, time),
            name or f"transform_with({describe_callable(f)})",
            others=[other],
            opaque=True,
        )

    def union(self, *others: DStream[T]) -> DStream[T]:
        """The partitions of all, in order (row TR-6)."""
        return self._transform(lambda rdds, _: rdds[0].context.union(rdds), "union", others=others)

    # -- pairs ---------------------------------------------------------------------------------

    def keys(self) -> DStream[Any]:
        """The keys."""
        return self._apply(lambda rdd: rdd.keys(), "keys")

    def values(self) -> DStream[Any]:
        """The values."""
        return self._apply(lambda rdd: rdd.values(), "values")

    def key_by(self, f: Callable[[T], Any] | Fn, *, name: str | None = None) -> DStream[Any]:
        """(f(record), record)."""
        fn = as_fn(f, name or "key_by")
        return self._apply(lambda rdd: rdd.key_by(fn, name=name), name or "key_by", [fn])

    def reduce_by_key(
        self,
        f: Callable[[Any, Any], Any] | Fn,
        partitions: int | None = None,
        *,
        name: str | None = None,
        partitioner: Partitioner | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
    ) -> DStream[Any]:
        """Values of a key reduced within each batch, combined before the shuffle (row PR-2).

        on_error, retries: about a key whose values cannot be reduced: it has no result in the batch, and its
        dead letter has the record ``(key, [values])``. Which keys these are depends neither on the order of
        values nor on the number of partitions, if ``f`` is associative and commutative also in that it
        raises. With a policy the values go through the shuffle one by one.
        """
        step = name or "reduce_by_key"
        fn, policy = as_fn(f, step), error_policy(on_error, retries)

        def build(rdd: RDD[Any]) -> Any:
            return rdd.reduce_by_key(
                fn, partitions, name=step, partitioner=partitioner, on_error=on_error, retries=retries
            )

        return self._with_policy(self._apply(build, step, [fn]), policy)

    def group_by_key(
        self,
        partitions: int | None = None,
        *,
        name: str | None = None,
        partitioner: Partitioner | None = None,
    ) -> DStream[Any]:
        """(key, list of values) of each batch (row PR-1)."""
        step = name or "group_by_key"
        return self._apply(lambda rdd: rdd.group_by_key(partitions, name=step, partitioner=partitioner), step)

    def combine_by_key(
        self,
        create: Callable[[Any], Any],
        merge_value: Callable[[Any, Any], Any],
        merge_combiners: Callable[[Any, Any], Any],
        partitions: int | None = None,
        *,
        map_side: bool = True,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
    ) -> DStream[Any]:
        """One combined value a key of each batch (row PR-3).

        on_error, retries: by key, as in :meth:`reduce_by_key`; with these ``merge_combiners`` is not called.
        """
        step = name or "combine_by_key"
        fns = [as_fn(f, step) for f in (create, merge_value, merge_combiners)]
        policy = error_policy(on_error, retries)
        options: dict[str, Any] = {"map_side": map_side, "on_error": on_error, "retries": retries}

        def build(rdd: RDD[Any]) -> Any:
            return rdd.combine_by_key(fns[0], fns[1], fns[2], partitions, name=step, **options)

        return self._with_policy(self._apply(build, step, fns), policy)

    def partition_by(
        self, partitions: int | None = None, partition_function: Callable[[Any], int] | None = None
    ) -> DStream[Any]:
        """Pairs moved to the partition of their key (row PR-5)."""
        fn = None if partition_function is None else as_fn(partition_function, "partition_by")
        return self._apply(lambda rdd: rdd.partition_by(partitions, fn), "partition_by", [fn] if fn else [])

    def join(self, other: DStream[Any], partitions: int | None = None) -> DStream[Any]:
        """(key, (a, b)) of the keys that both streams have in this batch (row PR-7)."""
        return self._apply(lambda a, b: a.join(b, partitions), "join", others=[other])

    def left_outer_join(self, other: DStream[Any], partitions: int | None = None) -> DStream[Any]:
        """:meth:`join`, with None where ``other`` lacks the key."""
        return self._apply(lambda a, b: a.left_outer_join(b, partitions), "left_outer_join", others=[other])

    def right_outer_join(self, other: DStream[Any], partitions: int | None = None) -> DStream[Any]:
        """:meth:`join`, with None where this stream lacks the key."""
        return self._apply(lambda a, b: a.right_outer_join(b, partitions), "right_outer_join", others=[other])

    def full_outer_join(self, other: DStream[Any], partitions: int | None = None) -> DStream[Any]:
        """:meth:`join`, with None where one stream lacks the key."""
        return self._apply(lambda a, b: a.full_outer_join(b, partitions), "full_outer_join", others=[other])

    def cogroup(self, *others: DStream[Any], partitions: int | None = None) -> DStream[Any]:
        """(key, (values here, values of each other)) of each batch (row PR-6)."""
        return self._transform(
            lambda rdds, _: rdds[0].cogroup(*rdds[1:], partitions=partitions), "cogroup", others=others
        )

    # -- asynchronous steps --------------------------------------------------------------------

    def map_async(
        self,
        f: Callable[[T], Awaitable[U]],
        *,
        name: str | None = None,
        concurrency: int = 100,
        ordered: bool = True,
        timeout_s: float | None = None,
        retry: RetryPolicy | int | None = None,
        on_error: OnError | str = OnError.FAIL,
        placement: str = "loop",
    ) -> DStream[U]:
        """``await f(record)``: bounded concurrency, in order or as completed, with timeout and retries.

        placement ``loop`` calls it on the host's event loop, where clients and pools live; ``worker`` in
        the workers. See :meth:`AsyncStep.of`.
        """
        return self._async("map", f, locals())

    def flat_map_async(self, f: Callable[[T], Awaitable[Iterable[U]]], **options: Any) -> DStream[U]:
        """All items of ``await f(record)``; options as in :meth:`map_async`."""
        return self._async("flat_map", f, options)

    def filter_async(self, f: Callable[[T], Awaitable[Any]], **options: Any) -> DStream[T]:
        """The records for which ``await f(record)`` is true; options as in :meth:`map_async`."""
        return self._async("filter", f, options)

    def map_batches_async(
        self, f: Callable[[list[T]], Awaitable[Iterable[U]]], *, batch_size: int = 100, **options: Any
    ) -> DStream[U]:
        """All items of ``await f(list of up to batch_size records)``; options as in :meth:`map_async`."""
        return self._async("map_batches", f, {"batch_size": batch_size, **options})

    def _async(self, kind: str, f: Callable[..., Any], options: dict[str, Any]) -> DStream[Any]:
        options = {key: value for key, value in options.items() if key not in ("self", "f")}
        name = self.context._step_name(options.pop("name", None) or f"{kind}_async({describe_callable(f)})")
        step = AsyncStep.of(kind, f, name=name, **options)
        functions = [Fn(f, name)] if step.placement == "worker" else []
        stream = self._apply(lambda rdd: rdd.map_async(step), name, functions)
        if step.gives_dead_letters:
            self.context._expect_dead_letters(stream.node)
        return stream

    # -- keeping -------------------------------------------------------------------------------

    def persist(self, level: StorageLevel = StorageLevel.MEMORY) -> DStream[T]:
        """Compute each batch's RDD once and keep it as long as the batch (rows PER-1, PER-2).

        Streams with more than one consumer are kept anyway.
        """
        StorageLevel(level)
        self.context._persist(self.node)
        return self

    def cache(self) -> DStream[T]:
        """:meth:`persist` in memory."""
        return self.persist()

    def slice(self, begin: datetime | float, end: datetime | float) -> list[tuple[BatchTime, RDD[T]]]:
        """The remembered RDDs of batches with a label in [begin, end] (row DS-8).

        Times are epoch seconds or aware datetimes. How far back it goes is set by ``remember()``.
        """
        return self.context._slice(self.node, _epoch_ms(begin), _epoch_ms(end))

    def explain(self) -> str:
        """The stream graph down to this stream."""
        from .plan.explain import stream_graph

        return stream_graph((), [self.node])


def _epoch_ms(time: datetime | float) -> int:
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise OptionError(f"{time!r} has no time zone: pass an aware datetime or epoch seconds")
        return round(time.timestamp() * 1000)
    return round(time * 1000)
