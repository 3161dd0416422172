"""Windows and keyed state of a DStream."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .errors import GraphError, OptionError
from .operators import kernels
from .operators.function import Fn
from .operators.kernels import kernel
from .operators.partitioners import HashPartitioner, Partitioner
from .operators.structure import ErrorPolicy, error_policy, refuse_policy
from .plan.graph import InverseWindowStream, SnapshotStream, StateStream, StreamNode, WindowStream
from .rdd_actions import as_fn
from .state.specs import FilteredInverseWindow, InverseWindow, MapWithState, UpdateState
from .types import OnError
from .windows.intervals import check_window, milliseconds

if TYPE_CHECKING:
    from .config import StateConfig
    from .context import StreamingContext
    from .dstream import DStream
    from .rdd import RDD
    from .state.handle import State

__all__ = ["WindowsAndState"]

NO_WINDOW_POLICY = (
    "what was given up when it came would still be taken back when it leaves, or be given up again with each "
    "slide. Check the records in a map() or filter() with on_error= before it, or reduce each batch with "
    "reduce_by_key(..., on_error=...) and window what that gives"
)


class WindowsAndState:
    """Mixed into :class:`~aiostream_engine.dstream.DStream`.

    Window lengths and slides are seconds and multiples of this stream's slide (row WIN-1). A window
    at T holds the batches with a label in (T - window, T]; at the start it is shorter (WIN-2). T is a
    multiple of the slide from the stream's zero time. Of slides that were missed (coalesced ticks) the
    last one is answered, by the next batch; a tumbling window then reaches back to the one before, so
    that no record is left out or counted twice.
    State and inverse windows need no checkpoint directory: a lost worker is rebuilt from memory; a
    lost driver is not.
    """

    context: StreamingContext
    node: StreamNode

    if TYPE_CHECKING:

        def _with_policy(self, stream: DStream[Any], policy: ErrorPolicy | None) -> DStream[Any]: ...
        def map(self, *args: Any, **options: Any) -> DStream[Any]: ...
        def reduce(self, *args: Any, **options: Any) -> DStream[Any]: ...
        def reduce_by_key(self, *args: Any, **options: Any) -> DStream[Any]: ...
        def group_by_key(self, *args: Any, **options: Any) -> DStream[Any]: ...
        def filter(self, *args: Any, **options: Any) -> DStream[Any]: ...
        def flat_map_values(self, *args: Any, **options: Any) -> DStream[Any]: ...
        def values(self) -> DStream[Any]: ...
        def keys(self) -> DStream[Any]: ...

    def _partitioner(self, partitions: int | None, partitioner: Partitioner | None = None) -> Partitioner:
        return partitioner or HashPartitioner(partitions or self.context.engine.default_parallelism)

    # -- windows -------------------------------------------------------------------------------

    def window(
        self, window_s: float, slide_s: float | None = None, *, name: str | None = None
    ) -> DStream[Any]:
        """All records of the last ``window_s`` seconds, every ``slide_s`` (the parent's slide by default)."""
        window, slide = check_window(window_s, slide_s, self.node.slide_ms)
        label = name or f"window({window_s:g} s, {slide / 1000:g} s)"
        return self.context._stream(
            WindowStream(
                name=label, slide_ms=slide, parents=(self.node,), window_ms=window, named=name is not None
            )
        )

    def reduce_by_window(
        self,
        f: Callable[[Any, Any], Any],
        window_s: float,
        slide_s: float | None = None,
        inverse: Callable[[Any, Any], Any] | None = None,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
    ) -> DStream[Any]:
        """One record a window; nothing for an empty one. With ``inverse`` in constant time (WIN-8, WIN-9).

        on_error: ``fail`` only; raises OptionError for any other.
        """
        refuse_policy("reduce_by_window", on_error, NO_WINDOW_POLICY)
        if inverse is None:
            return self.reduce(f).window(window_s, slide_s, name=name).reduce(f)
        keyed = self.map(kernel(kernels.pair_none_with))
        return keyed.reduce_by_key_and_window(f, inverse, window_s, slide_s, 1, name=name).values()

    def count_by_window(
        self, window_s: float, slide_s: float | None = None, *, name: str | None = None
    ) -> DStream[int]:
        """Number of records in the window; 0 once all have left it (row WIN-10)."""
        counted: DStream[Any] = self.map(kernel(kernels.one))
        return counted.reduce_by_window(operator.add, window_s, slide_s, operator.sub, name=name)

    def count_by_value_and_window(
        self,
        window_s: float,
        slide_s: float | None = None,
        partitions: int | None = None,
        *,
        name: str | None = None,
    ) -> DStream[Any]:
        """(record, times it occurs in the window), without those that left it (row WIN-11)."""
        ones = self.map(kernel(kernels.pair_with_one), name="count_by_value_and_window")
        return ones.reduce_by_key_and_window(
            operator.add,
            operator.sub,
            window_s,
            slide_s,
            partitions,
            filter_function=kernel(kernels.has_count),
            name=name,
        )

    def group_by_key_and_window(
        self,
        window_s: float,
        slide_s: float | None = None,
        partitions: int | None = None,
        *,
        name: str | None = None,
    ) -> DStream[Any]:
        """(key, list of its values in the window, oldest batch first) (row WIN-12)."""
        grouped = self.group_by_key(partitions).window(window_s, slide_s, name=name)
        return grouped.reduce_by_key(kernel(kernels.joined_lists), partitions, name="group_by_key_and_window")

    def reduce_by_key_and_window(
        self,
        f: Callable[[Any, Any], Any],
        inverse: Callable[[Any, Any], Any] | None = None,
        window_s: float | None = None,
        slide_s: float | None = None,
        partitions: int | None = None,
        *,
        filter_function: Callable[[Any], Any] | Fn | None = None,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        state: StateConfig | None = None,
    ) -> DStream[Any]:
        """Values of a key reduced over the window (rows WIN-13 … WIN-19).

        f: associative and commutative. inverse: ``inverse(f(x, y), x) == y``; with it a slide costs
        the batches that enter and leave, without it the reduced batches of the whole window.
        filter_function: true of the pairs ``(key, value)`` to give, on both paths. With an inverse, keys
        that left the window stay for ever with a neutral value, unless it refuses that.
        on_error: ``fail`` only; raises OptionError for any other.
        state: with an inverse, where the state lies, as in :meth:`map_with_state`.
        """
        refuse_policy("reduce_by_key_and_window", on_error, NO_WINDOW_POLICY)
        window, slide = check_window(
            window_s or 0, slide_s, self.node.slide_ms, what="reduce_by_key_and_window"
        )
        step = name or "reduce_by_key_and_window"
        reduce = as_fn(f, step)
        partitioner = self._partitioner(partitions)
        reduced = self.reduce_by_key(reduce, name=step, partitioner=partitioner)
        keep = None if filter_function is None else as_fn(filter_function, step)
        if inverse is None:
            if state is not None:
                raise OptionError(f"{step!r} keeps no state without an inverse: give inverse= or no state=")
            whole = reduced.window(window / 1000, slide / 1000, name=name)
            result = whole.reduce_by_key(reduce, name=step, partitioner=partitioner)
            return result if keep is None else result.filter(keep, name=step)
        back = as_fn(inverse, step)
        spec: InverseWindow | FilteredInverseWindow = (
            InverseWindow(reduce, back, tumbling=window == slide)
            if keep is None
            else FilteredInverseWindow(reduce, back, keep, tumbling=window == slide)
        )
        return self.context._stream(
            InverseWindowStream(
                name=step,
                slide_ms=slide,
                parents=(reduced.node,),
                window_ms=window,
                spec=spec,
                state_id=self.context._state_id(step),
                partitioner=partitioner,
                named=name is not None,
                state=state,
            )
        )

    # -- state ---------------------------------------------------------------------------------

    def update_state_by_key(
        self,
        f: Callable[..., Any],
        partitions: int | None = None,
        initial: RDD[Any] | Mapping[Any, Any] | Iterable[tuple[Any, Any]] | None = None,
        *,
        partitioner: Partitioner | None = None,
        with_time: bool = False,
        with_key: bool = False,
        name: str | None = None,
        state_version: int = 1,
        migrate: Callable[[int, Any, Any], Any] | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
        state: StateConfig | None = None,
    ) -> DStream[Any]:
        """A state for each key: ``f(new values, old state or None)``, **in every batch for every key**.

        None removes the key. Yields the whole state each batch (rows UST-1 … UST-9); the cost grows
        with the number of keys: :meth:`map_with_state` costs only the touched ones.
        with_time, with_key: lead the arguments by the batch time in milliseconds, by the key.
        initial: pairs, or a mapping, that the first batch starts from.
        state_version, migrate, state: as in :meth:`map_with_state`.
        on_error, retries: about a key on which ``f`` raised. All its new values of the batch are given up,
        as ``(key, [values])``, and its state is what it was before the batch, whatever ``f`` had changed in
        place; other keys go on. With a policy ``f`` gets copies of states that can change in place.
        """
        step = name or "update_state_by_key"
        spec = UpdateState(as_fn(f, step), with_time, with_key, error_policy(on_error, retries))
        place = self._partitioner(partitions, partitioner)
        return self._state(step, spec, place, initial, name is not None, state_version, migrate, state)

    def map_with_state(
        self,
        f: Callable[[Any, Any, State[Any]], Any] | Callable[[int, Any, Any, State[Any]], Any],
        *,
        timeout_s: float | None = None,
        initial: RDD[Any] | Mapping[Any, Any] | Iterable[tuple[Any, Any]] | None = None,
        partitions: int | None = None,
        partitioner: Partitioner | None = None,
        with_time: bool = False,
        name: str | None = None,
        state_version: int = 1,
        migrate: Callable[[int, Any, Any], Any] | None = None,
        on_error: OnError | str = OnError.FAIL,
        retries: int = 0,
        state: StateConfig | None = None,
    ) -> DStream[Any]:
        """``f(key, value, state)`` for each record, in order within a partition (rows MWS-1 … MWS-8).

        Yields what ``f`` returns. ``state`` has ``exists``, ``get``, ``update``, ``remove`` and
        ``is_timing_out``. timeout_s: a key without records for longer is handed to ``f`` once more,
        with value None, and removed; looked for in every batch.
        with_time: lead the arguments by the batch time in milliseconds; results that are None are dropped.
        state_version: number of the form in which ``f`` keeps its state: count it up when that changes. A
        checkpoint directory of another version is refused, unless ``migrate(old version, key, state)``
        gives the state in the new form, or None to drop the key; it is called at start, in the driver.
        on_error, retries: about a record on which ``f`` raised. It is given up as ``(key, value)``, and the
        state of its key is what it was before that call; the records before and after it count. Of a key
        that times out ``(key, None, state)`` is given up, and it goes. With a policy ``f`` gets copies of
        states that can change in place, one a call.
        state: where the state of this step lies, with a memory bound of its own in each worker; by default as
        those of the engine, under their common bound.
        """
        step = name or "map_with_state"
        timeout_ms = None if timeout_s is None else milliseconds("timeout_s", timeout_s)
        spec = MapWithState(as_fn(f, step), timeout_ms, with_time, error_policy(on_error, retries))
        place = self._partitioner(partitions, partitioner)
        return self._state(step, spec, place, initial, name is not None, state_version, migrate, state)

    def _state(
        self,
        step: str,
        spec: UpdateState | MapWithState,
        partitioner: Partitioner,
        initial: Any,
        named: bool,
        schema: int,
        migrate: Callable[[int, Any, Any], Any] | None,
        state: StateConfig | None,
    ) -> DStream[Any]:
        if isinstance(initial, Mapping):
            initial = initial.items()
        is_rdd = hasattr(initial, "node")
        if is_rdd and initial.context is not self.context.engine:
            raise GraphError(f"{step!r}: the initial state is an RDD of another context")
        stream = self.context._stream(
            StateStream(
                name=step,
                slide_ms=self.node.slide_ms,
                parents=(self.node,),
                spec=spec,
                state_id=self.context._state_id(step),
                partitioner=partitioner,
                initial=initial if initial is None or is_rdd else list(initial),
                named=named,
                schema=schema,
                migrate=migrate,
                state=state,
            )
        )
        return self._with_policy(stream, spec.policy)

    def state_snapshots(self) -> DStream[Any]:
        """All (key, state) pairs of a :meth:`map_with_state`, each batch (row MWS-4)."""
        node = self.node
        if not isinstance(node, StateStream):
            raise GraphError(
                f"{node.name!r} keeps no state: call state_snapshots() on the result of map_with_state()"
            )
        return self.context._stream(
            SnapshotStream(name=f"snapshots of {node.name}", slide_ms=node.slide_ms, parents=(node,))
        )
