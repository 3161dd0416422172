"""Which partition a key belongs to: by hash, by range, or by a function of the user."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import BadKeyError, OptionError
from .function import Fn
from .hashing import PartitionOf

__all__ = ["FunctionPartitioner", "HashPartitioner", "Partitioner", "RangePartitioner", "RoundRobin"]


@dataclass(frozen=True, slots=True)
class HashPartitioner:
    """By :func:`~aiostream_engine.operators.hashing.stable_hash`, modulo the number of partitions."""

    partitions: int

    def __post_init__(self) -> None:
        _check_width(self.partitions)

    def lookup(self) -> Callable[[Any], int]:
        """A fast key -> partition function for the length of one task."""
        return PartitionOf(self.partitions).__getitem__


@dataclass(frozen=True, slots=True)
class RangePartitioner:
    """By order: partition i holds the keys up to ``bounds[i]``; one partition more than bounds.

    width: number of partitions; those that the bounds do not reach are empty.
    """

    bounds: tuple[Any, ...]
    ascending: bool = True
    width: int = 0

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return max(self.width, len(self.bounds) + 1)

    def lookup(self) -> Callable[[Any], int]:
        """Key -> partition; a key that cannot be compared with the bounds raises what comparing raises."""
        bounds, last = list(self.bounds), len(self.bounds)
        if self.ascending:
            return lambda key: bisect_left(bounds, key)
        return lambda key: last - bisect_left(bounds, key)


@dataclass(frozen=True, slots=True)
class FunctionPartitioner:
    """By ``fn(key) % partitions``; the function must be the same in every process."""

    partitions: int
    fn: Fn

    def __post_init__(self) -> None:
        _check_width(self.partitions)

    def lookup(self) -> Callable[[Any], int]:
        call, partitions = self.fn.call, self.partitions

        def place(key: Any) -> int:
            number = call(key)
            if not isinstance(number, int):
                raise BadKeyError(f"the partition function gave {number!r} for key {key!r}: an int is needed")
            return number % partitions

        return place


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """Deals records out in turn, whatever they are; starts at another partition for each input."""

    partitions: int

    def __post_init__(self) -> None:
        _check_width(self.partitions)

    def lookup(self) -> Callable[[Any], int]:
        raise TypeError("round-robin has no place for a key")


def _check_width(partitions: int) -> None:
    if partitions < 1:
        raise OptionError(f"a partitioner needs at least 1 partition, not {partitions}")


Partitioner = HashPartitioner | RangePartitioner | FunctionPartitioner | RoundRobin
