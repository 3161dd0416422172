"""Windows and keyed state of a DStream."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ....operators.partitioners import HashPartitioner
from ....plan.graph import InverseWindowStream, StateStream
from ....rdd_actions import as_fn
from ....state.specs import ExpiringInverseWindow, InverseWindow, UpdateState
from .. import stream_kernels as kernels
from ..rdd import RDD

if TYPE_CHECKING:
    from ....dstream import DStream as EngineStream
    from ..context import SparkContext
    from .context import StreamingContext
    from .dstream import DStream

__all__ = ["WindowsAndState"]

# A window of fewer slides is reduced as a whole (row WIN-17).
_SLIDES_FOR_INVERSE = 5


class WindowsAndState:
    """Mixed into :class:`~aiostream_engine.compat.pyspark.streaming.dstream.DStream`.

    Durations are seconds. A window at T holds the batches of (T - window, T]; at the start it is shorter.
    States are placed by the engine's own hash, which is the same after a restart: their keys must be of
    Python's plain types, or tuples of these.
    """

    if TYPE_CHECKING:
        _stream: EngineStream[Any]
        _ssc: StreamingContext
        _sc: SparkContext

        @property
        def _slide_ms(self) -> int: ...
        @property
        def _slideDuration(self) -> float: ...
        def _partitions(self, numPartitions: int | None) -> int: ...
        def map(self, f: Callable[[Any], Any]) -> DStream[Any]: ...
        def mapValues(self, f: Callable[[Any], Any]) -> DStream[Any]: ...
        def reduceByKey(self, func: Callable[[Any, Any], Any], numPartitions: int | None) -> DStream[Any]: ...

    def _validate_window_param(self, window: float, slide: float | None) -> None:
        unit = self._slide_ms
        for name, value in (("windowDuration", window), ("slideDuration", slide)):
            if value and int(value * 1000) % unit != 0:
                raise ValueError(
                    f"{name} must be multiple of the parent dstream's slide (batch) duration ({unit} ms)"
                )

    def window(self, windowDuration: float, slideDuration: float | None = None) -> DStream[Any]:
        """All records of the last ``windowDuration`` seconds, every ``slideDuration``; as PySpark."""
        self._validate_window_param(windowDuration, slideDuration)
        slide = None if slideDuration is None else _whole(slideDuration)
        self._ssc._check_open()
        stream = self._stream.window(_whole(windowDuration), slide, name=self._ssc._step_name("window"))
        return self._ssc._wrapped(stream)

    def reduceByWindow(
        self,
        reduceFunc: Callable[[Any, Any], Any],
        invReduceFunc: Callable[[Any, Any], Any] | None,
        windowDuration: float,
        slideDuration: float,
    ) -> DStream[Any]:
        """One record a window; nothing for an empty one; as PySpark."""
        keyed = self.map(kernels.under_one)
        reduced = keyed.reduceByKeyAndWindow(reduceFunc, invReduceFunc, windowDuration, slideDuration, 1)
        return reduced.map(kernels.second)

    def countByWindow(self, windowDuration: float, slideDuration: float) -> DStream[int]:
        """Number of records in the window; as PySpark, which needs a checkpoint directory for it."""
        return self.map(kernels.one).reduceByWindow(operator.add, operator.sub, windowDuration, slideDuration)

    def countByValueAndWindow(
        self, windowDuration: float, slideDuration: float, numPartitions: int | None = None
    ) -> DStream[Any]:
        """(record, times it occurs in the window); as PySpark, which needs a checkpoint directory for it."""
        keyed = self.map(kernels.with_one)
        counted = keyed.reduceByKeyAndWindow(
            operator.add, operator.sub, windowDuration, slideDuration, numPartitions
        )
        return counted.filter(kernels.is_there)

    def groupByKeyAndWindow(
        self, windowDuration: float, slideDuration: float, numPartitions: int | None = None
    ) -> DStream[Any]:
        """(key, values in the window); as PySpark, which needs a checkpoint directory for it.

        In windows of five slides or more a key that left stays, with no values.
        """
        listed = self.mapValues(kernels.in_list)
        grouped = listed.reduceByKeyAndWindow(
            operator.add, kernels.without_front, windowDuration, slideDuration, numPartitions
        )
        return grouped.mapValues(kernels.as_results)

    def reduceByKeyAndWindow(
        self,
        func: Callable[[Any, Any], Any],
        invFunc: Callable[[Any, Any], Any] | None,
        windowDuration: float,
        slideDuration: float | None = None,
        numPartitions: int | None = None,
        filterFunc: Callable[[tuple[Any, Any]], bool] | None = None,
    ) -> DStream[Any]:
        """Values of a key reduced over the window; as PySpark.

        With ``invFunc``, and in windows of five slides or more, what leaves is taken out of the last
        result: keys that left stay unless ``filterFunc`` refuses them. Shorter windows are reduced as a
        whole. ``filterFunc`` has no effect without ``invFunc`` (row WIN-18).
        """
        self._validate_window_param(windowDuration, slideDuration)
        count = self._partitions(numPartitions)
        reduced = self.reduceByKey(func, count)
        slide = self._slideDuration if slideDuration is None else slideDuration
        if not invFunc:
            return reduced.window(windowDuration, slideDuration).reduceByKey(func, count)
        self._ssc._must_checkpoint("reduceByKeyAndWindow", int(slide * 1000))
        if int(windowDuration * 1000) < _SLIDES_FOR_INVERSE * int(slide * 1000):
            whole = reduced.window(windowDuration, slide).reduceByKey(func, count)
            return whole.filter(filterFunc) if filterFunc else whole
        return self._inverse(reduced, func, invFunc, windowDuration, slide, count, filterFunc)

    def _inverse(
        self,
        reduced: DStream[Any],
        func: Callable[[Any, Any], Any],
        inverse: Callable[[Any, Any], Any],
        window: float,
        slide: float,
        partitions: int,
        keep: Callable[[tuple[Any, Any]], bool] | None,
    ) -> DStream[Any]:
        name = "reduceByKeyAndWindow"
        forth, back = as_fn(func, name), as_fn(inverse, name)
        spec: InverseWindow | ExpiringInverseWindow = (
            ExpiringInverseWindow(forth, back, as_fn(keep, name)) if keep else InverseWindow(forth, back)
        )
        return self._ssc._stream(
            InverseWindowStream(
                name=self._ssc._step_name(name),
                slide_ms=int(slide * 1000),
                parents=(reduced._stream.node,),
                window_ms=int(window * 1000),
                spec=spec,
                state_id=self._ssc._engine_context._state_id(name),
                partitioner=HashPartitioner(partitions),
                named=True,
            )
        )

    def updateStateByKey(
        self,
        updateFunc: Callable[[Iterable[Any], Any], Any],
        numPartitions: int | None = None,
        initialRDD: RDD[Any] | Iterable[tuple[Any, Any]] | None = None,
    ) -> DStream[Any]:
        """A state for each key: ``updateFunc(new values, state or None)``; None removes it; as PySpark.

        Called in every batch for every key that has a state or records.
        """
        name = "updateStateByKey"
        initial = initialRDD if isinstance(initialRDD, RDD) else list(initialRDD or ())
        self._ssc._must_checkpoint(name, self._slide_ms)
        return self._ssc._stream(
            StateStream(
                name=self._ssc._step_name(name),
                slide_ms=self._slide_ms,
                parents=(self._stream.node,),
                spec=UpdateState(as_fn(updateFunc, name)),
                state_id=self._ssc._engine_context._state_id(name),
                partitioner=HashPartitioner(self._partitions(numPartitions)),
                initial=initial._core if isinstance(initial, RDD) else initial or None,
                named=True,
                rests_when_missing=True,
            )
        )


def _whole(seconds: float) -> float:
    """Seconds of whole milliseconds, cut as Spark cuts them."""
    return int(seconds * 1000) / 1000
