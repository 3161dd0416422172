"""Engines for tests that are not coroutines, and datasets cut in any way."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from hypothesis import strategies as st

from aiostream_engine import RDD, EngineContext

__all__ = ["Engine", "keys", "pairs", "parts_of", "records", "whole"]

Parts = list[list[Any]]


class Engine:
    """A context on a loop of its own, for tests that are not coroutines."""

    def __init__(self, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self.context: EngineContext = self.run(EngineContext("local", **options).start())

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What ``coroutine`` gives."""
        return self._runner.run(coroutine)

    def rdd(self, parts: Sequence[Sequence[Any]]) -> RDD[Any]:
        """A dataset of exactly these partitions."""
        context = self.context
        return context.union([context.parallelize(list(part), 1) for part in parts])

    def collect(self, rdd: RDD[Any]) -> list[Any]:
        """Its records."""
        return self.run(rdd.collect())  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close context and loop."""
        self.run(self.context.aclose())
        self._runner.close()


# Equal keys of different types are among them: 1, 1.0 and True are one key (H9).
keys = st.sampled_from([0, 1, 2, 1.0, True, -1, "a", "b", "", None, ("a", 1), ("a", True), b"a"])
records = st.one_of(st.integers(-20, 20), st.text("ab c", max_size=5))
pairs = st.tuples(keys, st.integers(-9, 9))


def parts_of(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Parts]:
    """Datasets of one to five partitions, some of them empty."""
    return st.lists(st.lists(items, max_size=8), min_size=1, max_size=5)


def whole(parts: Parts) -> list[Any]:
    """The records of a dataset, in order."""
    return [record for part in parts for record in part]
