"""Accumulator and AccumulatorParam: sums to which tasks add and that the driver reads."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ...executors.shared import Accumulator as EngineAccumulator
from ...executors.task import current_environment
from .errors import PySparkRuntimeError

if TYPE_CHECKING:
    from ...engine import EngineContext

__all__ = ["Accumulator", "AccumulatorParam", "AddingAccumulatorParam"]

T = TypeVar("T")


class AccumulatorParam(Generic[T]):
    """How values of a type are added; to be subclassed; as PySpark."""

    def zero(self, value: T) -> T:
        """The value from which each task starts; as PySpark."""
        raise NotImplementedError

    def addInPlace(self, value1: T, value2: T) -> T:
        """The sum, for which ``value1`` may be changed; as PySpark."""
        raise NotImplementedError


class AddingAccumulatorParam(AccumulatorParam[T]):
    """Adds with ``+=`` from a given zero; as PySpark."""

    def __init__(self, zero_value: T) -> None:
        self.zero_value = zero_value

    def zero(self, value: T) -> T:
        """The given zero; as PySpark."""
        return self.zero_value

    def addInPlace(self, value1: T, value2: T) -> T:
        """``value1 + value2``; as PySpark."""
        value1 += value2  # type: ignore[operator]
        return value1


class Accumulator(Generic[T]):
    """A sum; made by :meth:`SparkContext.accumulator`; as PySpark.

    Each task counts once, however often it had to be tried, also in transformations of an RDD that
    is computed once; an RDD that is computed again adds again, as in PySpark.
    """

    def __init__(self, aid: int, value: T, accum_param: AccumulatorParam[T]) -> None:
        self.aid = aid
        self.accum_param = accum_param
        self._deserialized = False
        self._value = value
        self._shared: EngineAccumulator[Any] | None = None
        self._zero: T = value  # in a task: what its sum starts from

    @property
    def value(self) -> T:
        """The sum so far; only the driver may read it; as PySpark."""
        self._only_driver()
        return self._value

    @value.setter
    def value(self, value: T) -> None:
        self._only_driver()
        self._value = value

    def _only_driver(self) -> None:
        if self._deserialized:
            raise PySparkRuntimeError(
                errorClass="VALUE_NOT_ACCESSIBLE", messageParameters={"value": "Accumulator.value"}
            )

    def add(self, term: T) -> None:
        """Add ``term``; as PySpark."""
        environment = current_environment()
        if not self._deserialized or environment is None:
            self._value = self.accum_param.addInPlace(self._value, term)
            return
        sums = environment.accumulators
        start = sums[self.aid] if self.aid in sums else copy.deepcopy(self._zero)
        sums[self.aid] = self.accum_param.addInPlace(start, term)

    def __iadd__(self, term: T) -> Accumulator[T]:
        self.add(term)
        return self

    def _share(self, engine: EngineContext) -> None:
        """Let tasks of ``engine`` add to this accumulator."""
        self._shared = engine.accumulator(None, self._merge)
        self.aid = self._shared.id

    def _merge(self, _: Any, partial: Any) -> None:
        """Take in what one task added."""
        self._value = self.accum_param.addInPlace(self._value, partial)

    def __str__(self) -> str:
        return str(self._local())

    def __repr__(self) -> str:
        return f"Accumulator<id={self.aid}, value={self._local()}>"

    def _local(self) -> T:
        environment = current_environment() if self._deserialized else None
        return self._value if environment is None else environment.accumulators.get(self.aid, self._zero)

    def __reduce__(self) -> tuple[Any, ...]:
        param = self.accum_param
        return _in_worker, (self.aid, param.zero(self._value), param)


def _in_worker(aid: int, zero: Any, param: AccumulatorParam[Any]) -> Accumulator[Any]:
    made: Accumulator[Any] = Accumulator(aid, zero, param)
    made._deserialized = True
    return made


def param_for(value: Any) -> AccumulatorParam[Any]:
    """The parameter for plain numbers. Raises TypeError for other types."""
    for kind, zero in ((int, 0), (float, 0.0), (complex, 0j)):
        if isinstance(value, kind):
            return cast("AccumulatorParam[Any]", AddingAccumulatorParam(zero))
    raise TypeError(f"No default accumulator param for type {type(value)}")
