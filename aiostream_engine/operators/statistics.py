"""Count, mean, variance and extremes of numbers in one pass, mergeable (Welford, Chan et al.)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["StatCounter"]


@dataclass(slots=True)
class StatCounter:
    """Running statistics of numbers; ``m2`` is the sum of squared distances from the mean."""

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0
    max: float = -math.inf
    min: float = math.inf

    @classmethod
    def of(cls, values: Iterable[float]) -> StatCounter:
        """Statistics of ``values``."""
        result = cls()
        for value in values:
            result.count += 1
            delta = value - result.mean
            result.mean += delta / result.count
            result.m2 += delta * (value - result.mean)
            result.max = max(result.max, value)
            result.min = min(result.min, value)
        return result

    def merge(self, other: StatCounter) -> StatCounter:
        """Statistics of both sets of values."""
        count = self.count + other.count
        if count == 0:
            return StatCounter()
        delta = other.mean - self.mean
        mean = self.mean + delta * other.count / count
        m2 = self.m2 + other.m2 + delta * delta * self.count * other.count / count
        return StatCounter(count, mean, m2, max(self.max, other.max), min(self.min, other.min))

    @property
    def sum(self) -> float:
        return self.mean * self.count

    @property
    def variance(self) -> float:
        """Variance of the population; NaN for no values."""
        return self.m2 / self.count if self.count else math.nan

    @property
    def sample_variance(self) -> float:
        """Variance estimated from a sample; NaN below two values."""
        return self.m2 / (self.count - 1) if self.count > 1 else math.nan

    @property
    def stdev(self) -> float:
        return math.sqrt(self.variance)

    @property
    def sample_stdev(self) -> float:
        return math.sqrt(self.sample_variance)
