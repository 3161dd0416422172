"""The operations of an RDD of (key, value) pairs: shuffles, combinations, joins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .blocks.pickling import dumps
from .operators import kernels
from .operators.function import Fn
from .operators.kernels import kernel
from .operators.partitioners import FunctionPartitioner, HashPartitioner, Partitioner
from .operators.structure import Combiner, PartitionOp, RecordOp, error_policy
from .plan.nodes import Exchange, Node, Zipped
from .rdd_actions import as_fn
from .types import OnError

if TYPE_CHECKING:
    from .engine import EngineContext
    from .rdd import RDD

__all__ = ["PairOperations", "exchanged"]


def exchanged(node: Node, partitioner: Partitioner, name: str, combiner: Combiner | None = None) -> Node:
    """``node`` shuffled to ``partitioner``; as it is when it lies so already and nothing is to combine."""
    if combiner is None and node.partitioner == partitioner:
        return node
    return Exchange(
        name=name, parent=node, partitions=partitioner.partitions, partitioner=partitioner, combiner=combiner
    )


class PairOperations:
    """Mixed into :class:`~aiostream_engine.rdd.RDD`; records are pairs, in no promised order after a shuffle.

    partitions: number of partitions of the result, the context's default where it is None.
    """

    context: EngineContext
    node: Node

    if TYPE_CHECKING:

        def _record(self, kind: str, function: Any, name: str | None) -> RDD[Any]: ...
        def _partition_op(self, op: PartitionOp, *, keeps_partitioner: bool = False) -> RDD[Any]: ...
        def _narrow(self, op: RecordOp, name: str, keeps_partitioner: bool) -> RDD[Any]: ...
        def _with(self, node: Node) -> RDD[Any]: ...
        def map_values(self, f: Callable[[Any], Any]) -> RDD[Any]: ...

    def _partitioner(self, partitions: int | None, *others: RDD[Any]) -> Partitioner:
        """An own or a side's hash partitioner where the number fits, so that it need not move."""
        for node in (self.node, *(other.node for other in others)):
            if isinstance(node.partitioner, HashPartitioner) and partitions in (None, node.partitions):
                return node.partitioner
        return HashPartitioner(self.context.default_parallelism if partitions is None else partitions)

    # -- combining -----------------------------------------------------------------------------

    def combine_by_key(
        self,
        create: Callable[[Any], Any] | Fn | None,
        merge_value: Callable[[Any, Any], Any] | Fn,
        merge_combiners: Callable[[Any, Any], Any] | Fn,
        partitions: int | None = None,
        *,
        map_side: bool = True,
        name: str | None = None,
        partitioner: Partitioner | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
    ) -> RDD[Any]:
        """One combined value a key (rows PR-2, PR-3). ``create`` None takes the first value as it is.

        on_error, retries: about a key whose values cannot be combined; it is given up with all of them, and
        the record of its dead letter is ``(key, [values])``. With a policy each value goes through the
        shuffle by itself, and the values of one key have to fit in memory.
        """
        step = name or "combine_by_key"
        target = partitioner or self._partitioner(partitions)
        created = None if create is None else as_fn(create, step)
        merge = as_fn(merge_value, step)
        policy = error_policy(on_error, retries)
        if policy is not None:
            groups = self.group_by_key(name=step, partitioner=target)
            combine = RecordOp("map", step, kernel(kernels.combined_values, created, merge), policy)
            return groups._narrow(combine, step, keeps_partitioner=True)
        if self.node.partitioner == target:
            return self._partition_op(
                PartitionOp(step, kernel(kernels.combine_locally, created, merge)), keeps_partitioner=True
            )
        combiner = Combiner(step, merge, as_fn(merge_combiners, step), created, map_side)
        return self._with(exchanged(self.node, target, step, combiner))

    def reduce_by_key(
        self,
        f: Callable[[Any, Any], Any] | Fn,
        partitions: int | None = None,
        *,
        name: str | None = None,
        partitioner: Partitioner | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
    ) -> RDD[Any]:
        """Values of a key reduced by an associative and commutative function, combined before the shuffle.

        on_error, retries: by key, as in :meth:`combine_by_key`.
        """
        step = name or "reduce_by_key"
        fn = as_fn(f, step)
        return self.combine_by_key(
            None, fn, fn, partitions, name=step, partitioner=partitioner, on_error=on_error, retries=retries
        )

    def fold_by_key(
        self,
        zero: Any,
        f: Callable[[Any, Any], Any],
        partitions: int | None = None,
        *,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
    ) -> RDD[Any]:
        """:meth:`reduce_by_key` from a zero value, a fresh copy for each key and partition."""
        return self.aggregate_by_key(zero, f, f, partitions, on_error=on_error, retries=retries)

    def aggregate_by_key(
        self,
        zero: Any,
        seq_op: Callable[[Any, Any], Any],
        comb_op: Callable[[Any, Any], Any],
        partitions: int | None = None,
        *,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
    ) -> RDD[Any]:
        """Values of a key added to a value of another type, then those to each other.

        on_error, retries: by key, as in :meth:`combine_by_key`; with these ``comb_op`` is not called.
        """
        step = "aggregate_by_key"
        fn = as_fn(seq_op, step)
        create = kernel(kernels.created_from_zero, dumps(zero), fn)
        return self.combine_by_key(
            create, fn, comb_op, partitions, name=step, on_error=on_error, retries=retries
        )

    def group_by_key(
        self,
        partitions: int | None = None,
        *,
        name: str | None = None,
        partitioner: Partitioner | None = None,
    ) -> RDD[Any]:
        """(key, list of values); the order of values is not promised (row PR-1)."""
        return self.combine_by_key(
            kernel(kernels.in_list),
            kernel(kernels.appended),
            kernel(kernels.extended),
            partitions,
            map_side=False,
            name=name or "group_by_key",
            partitioner=partitioner,
        )

    def partition_by(
        self,
        partitions: int | None = None,
        partition_function: Callable[[Any], int] | Fn | None = None,
        *,
        partitioner: Partitioner | None = None,
    ) -> RDD[Any]:
        """Pairs moved to the partition of their key: by stable hash, or by ``function(key) % partitions``."""
        count = self.context.default_parallelism if partitions is None else partitions
        if partitioner is None and partition_function is not None:
            partitioner = FunctionPartitioner(count, as_fn(partition_function, "partition_by"))
        return self._with(exchanged(self.node, partitioner or HashPartitioner(count), "partition_by"))

    # -- values and keys -----------------------------------------------------------------------

    def keys(self) -> RDD[Any]:
        """The keys."""
        return self._record("keys", None, "keys")

    def values(self) -> RDD[Any]:
        """The values."""
        return self._record("values", None, "values")

    def subtract_by_key(self, other: RDD[Any], partitions: int | None = None) -> RDD[Any]:
        """The pairs whose key is not in ``other``."""
        return self._combined(kernels.subtracted, "subtract_by_key", partitions, other)

    # -- joins ---------------------------------------------------------------------------------

    def join(self, other: RDD[Any], partitions: int | None = None) -> RDD[Any]:
        """(key, (a, b)) for each pair of values of a key that both sides have (row PR-7)."""
        return self._join("inner", other, partitions)

    def left_outer_join(self, other: RDD[Any], partitions: int | None = None) -> RDD[Any]:
        """:meth:`join`, with (a, None) where ``other`` lacks the key."""
        return self._join("left", other, partitions)

    def right_outer_join(self, other: RDD[Any], partitions: int | None = None) -> RDD[Any]:
        """:meth:`join`, with (None, b) where this side lacks the key."""
        return self._join("right", other, partitions)

    def full_outer_join(self, other: RDD[Any], partitions: int | None = None) -> RDD[Any]:
        """:meth:`join`, with None where one side lacks the key."""
        return self._join("full", other, partitions)

    def _join(self, kind: str, other: RDD[Any], partitions: int | None) -> RDD[Any]:
        return self._combined(kernels.joined, f"{kind}_join", partitions, other, params=(kind,))

    def cogroup(self, *others: RDD[Any], partitions: int | None = None) -> RDD[Any]:
        """(key, (list of values here, list of values of each other)) over all keys (row PR-6)."""
        return self._combined(kernels.cogrouped, "cogroup", partitions, *others)

    def group_with(self, *others: RDD[Any]) -> RDD[Any]:
        """:meth:`cogroup` of any number of sides."""
        return self.cogroup(*others)

    def _combined(
        self,
        function: Callable[..., Iterable[Any]],
        step: str,
        partitions: int | None,
        *others: RDD[Any],
        params: tuple[Any, ...] = (),
    ) -> RDD[Any]:
        target = self._partitioner(partitions, *others)
        sides = [exchanged(node, target, step) for node in (self.node, *(other.node for other in others))]
        return self._with(
            Zipped(
                name=step,
                parents=tuple(sides),
                op=PartitionOp(step, kernel(function, *params)),
                partitions=target.partitions,
                partitioner=target,
            )
        )
