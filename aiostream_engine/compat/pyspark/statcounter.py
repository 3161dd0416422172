"""StatCounter: count, mean, variance and extremes of numbers, mergeable."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

__all__ = ["StatCounter"]


class StatCounter:
    """Running statistics; as PySpark. Differs: extremes are Python's even where NumPy is installed."""

    def __init__(self, values: Iterable[float] | None = None) -> None:
        self.n = 0
        self.mu = 0.0
        self.m2 = 0.0
        self.maxValue = -math.inf
        self.minValue = math.inf
        for value in values or ():
            self.merge(value)

    def merge(self, value: float) -> StatCounter:
        """Take one value in; as PySpark."""
        self.n += 1
        delta = value - self.mu
        self.mu += delta / self.n
        self.m2 += delta * (value - self.mu)
        self.maxValue = max(self.maxValue, value)
        self.minValue = min(self.minValue, value)
        return self

    def mergeStats(self, other: StatCounter) -> StatCounter:
        """Take the values of another counter in; as PySpark."""
        if not isinstance(other, StatCounter):
            raise TypeError(f"Can only merge StatCounter but got {type(other)}")
        theirs = other.copy() if other is self else other
        if theirs.n == 0:
            return self
        if self.n == 0:
            self.__dict__.update(theirs.__dict__)
            return self
        mine, total, delta = self.n, self.n + theirs.n, theirs.mu - self.mu
        if theirs.n * 10 < mine:  # the form whose rounding is smallest
            self.mu += delta * theirs.n / total
        elif mine * 10 < theirs.n:
            self.mu = theirs.mu - delta * mine / total
        else:
            self.mu = (self.mu * mine + theirs.mu * theirs.n) / total
        self.m2 += theirs.m2 + delta * delta * mine * theirs.n / total
        self.maxValue = max(self.maxValue, theirs.maxValue)
        self.minValue = min(self.minValue, theirs.minValue)
        self.n = total
        return self

    def copy(self) -> StatCounter:
        """A counter of its own; as PySpark."""
        return copy.deepcopy(self)

    def count(self) -> int:
        """Number of values; as PySpark."""
        return int(self.n)

    def mean(self) -> float:
        """Their mean, 0.0 for none; as PySpark."""
        return self.mu

    def sum(self) -> float:
        """Their sum; as PySpark."""
        return self.n * self.mu

    def min(self) -> float:
        """The smallest, infinity for none; as PySpark."""
        return self.minValue

    def max(self) -> float:
        """The largest, minus infinity for none; as PySpark."""
        return self.maxValue

    def variance(self) -> float:
        """Variance of the population, NaN for none; as PySpark."""
        return self.m2 / self.n if self.n else math.nan

    def sampleVariance(self) -> float:
        """Variance estimated from a sample, NaN below two; as PySpark."""
        return self.m2 / (self.n - 1) if self.n > 1 else math.nan

    def stdev(self) -> float:
        """Square root of :meth:`variance`; as PySpark."""
        return math.sqrt(self.variance())

    def sampleStdev(self) -> float:
        """Square root of :meth:`sampleVariance`; as PySpark."""
        return math.sqrt(self.sampleVariance())

    def asDict(self, sample: bool = False) -> dict[str, float]:
        """All as a dict; as PySpark, whose ``sample=False`` gives the spread estimated from a sample."""
        spread = (self.stdev(), self.variance()) if sample else (self.sampleStdev(), self.sampleVariance())
        return {
            "count": self.count(),
            "mean": self.mean(),
            "sum": self.sum(),
            "min": self.min(),
            "max": self.max(),
            "stdev": spread[0],
            "variance": spread[1],
        }

    def __repr__(self) -> str:
        return (
            f"(count: {self.count()}, mean: {self.mean()}, stdev: {self.stdev()}, "
            f"max: {self.max()}, min: {self.min()})"
        )
