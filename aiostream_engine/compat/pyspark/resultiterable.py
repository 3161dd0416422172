"""ResultIterable: the values of one key."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Generic, TypeVar

__all__ = ["ResultIterable"]

T = TypeVar("T")


class ResultIterable(Generic[T]):
    """The values of a key after a grouping: has a length and can be iterated often; as PySpark."""

    def __init__(self, data: Collection[T]) -> None:
        self.data = data
        self.index = 0
        self.maxindex = len(data)

    def __iter__(self) -> Iterator[T]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)
