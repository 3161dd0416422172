"""The actions of an RDD: coroutines that run its lineage and give a result."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import inspect
import itertools
import math
import os
import pickle
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import reduce as fold_left
from typing import TYPE_CHECKING, Any, cast

from .blocks.formats import read_chunks
from .blocks.pickling import dumps
from .durable.saving import save_pickle_partition, save_text_partition
from .errors import AiostreamError, ConfigurationError, OptionError, UnpicklableError
from .operators import kernels
from .operators.function import Fn, describe_callable, is_coroutine_function
from .operators.kernels import kernel
from .operators.partitioners import HashPartitioner
from .operators.statistics import StatCounter
from .operators.structure import CountTerminal, Terminal, ToBlocks, ToValue
from .plan.emptiness import is_certainly_empty
from .plan.nodes import Node, Source
from .types import BlockRef

if TYPE_CHECKING:
    from .engine import EngineContext
    from .executors.base import TaskResult
    from .rdd import RDD

__all__ = ["Actions", "as_fn"]

# Unpickling more than this would be felt by other users of the loop: it goes to a thread.
_LOOP_BYTES_MAX = 512 * 1024
_LOOP_KEYS_MAX = 20_000


def as_fn(function: Callable[..., Any] | Fn, step: str) -> Fn:
    """A user's function as a value; one that is wrapped already stays as it is."""
    if isinstance(function, Fn):
        return function
    if not callable(function):
        raise OptionError(f"step {step!r} needs a function, not {type(function).__name__} {function!r}")
    if is_coroutine_function(function) or inspect.isasyncgenfunction(function):
        raise OptionError(
            f"step {step!r} needs a plain function: it runs in the workers, which do not await "
            f"{describe_callable(function)}; for coroutines there are map_async() and its family"
        )
    return Fn(function, step)


class Actions:
    """Mixed into :class:`~aiostream_engine.rdd.RDD`.

    Results come in the order of partitions and, within one, in the order of records. An action that
    is cancelled abandons its tasks. User errors are raised as StepError.
    """

    context: EngineContext
    node: Node

    if TYPE_CHECKING:

        def _record(self, kind: str, function: Any, name: str | None) -> RDD[Any]: ...

    # -- plumbing ----------------------------------------------------------------------------

    async def _run(self, terminal: Terminal) -> list[TaskResult]:
        return await self.context.runner.run(self.node, terminal, self.context.current_batch)

    async def _values(self, fn: Fn, step: str, passes: str = "") -> list[Any]:
        """The result of ``fn(iterator)`` of each partition."""
        results = await self._run(ToValue(step, fn, passes))
        return await _decoded([result.value for result in results])

    def _is_certainly_empty(self) -> bool:
        """Known without a task; empty batches are many, and should cost little."""
        _ = self.context.runner  # a closed context is an error for an empty RDD too
        return is_certainly_empty(self.node)

    async def collect(self) -> list[Any]:
        """All records as one list. Mind the size: :meth:`iterate` holds one partition at a time."""
        if self._is_certainly_empty():
            return []
        async with self.context.runner.job(self.context.current_batch) as job:
            results = await job.run_terminal(self.node, ToBlocks())
            return await _read([ref for result in results for ref in result.outputs])

    async def iterate(self) -> AsyncIterator[Any]:
        """The records one by one, computing one partition at a time (toLocalIterator)."""
        async with self.context.runner.job(self.context.current_batch) as job:
            execution = await job.execution(self.node, ToBlocks())
            await execution.run([])
            held = job.blocks_owned
            for index in range(execution.partitions):
                (result,) = await execution.run([index])
                for ref in result.outputs:
                    for record in await _read([ref]):
                        yield record
                job.release(since=held)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self.iterate()

    async def collect_as_map(self) -> dict[Any, Any]:
        """The pairs as a dict; of equal keys the last one stays."""
        return dict(await self.collect())

    async def count(self) -> int:
        """Number of records."""
        if self._is_certainly_empty():
            return 0
        return sum(await _decoded([result.value for result in await self._run(CountTerminal())]))

    async def count_by_key(self) -> dict[Any, int]:
        """Number of pairs of each key."""
        return await _added(await self._values(kernel(kernels.counted_by_key), "count_by_key"))

    async def count_by_value(self) -> dict[Any, int]:
        """Number of times that each record occurs."""
        return await _added(await self._values(kernel(kernels.counted_by_value), "count_by_value"))

    # -- a few records -------------------------------------------------------------------------

    async def take(self, n: int) -> list[Any]:
        """The first ``n`` records; computes one partition, then more as needed (row RDD-5)."""
        taken: list[Any] = []
        if n <= 0 or self._is_certainly_empty():
            return taken
        async with self.context.runner.job(self.context.current_batch) as job:
            terminal = ToValue("take", kernel(kernels.first_n, n))
            execution = await job.execution(self.node, terminal)
            done, step = 0, 1
            while done < execution.partitions and len(taken) < n:
                indices = range(done, min(done + step, execution.partitions))
                results = await execution.run(indices)
                for records in await _decoded([result.value for result in results]):
                    taken.extend(records)
                done, step = indices.stop, step * 4
        return taken[:n]

    async def first(self) -> Any:
        """The first record. Raises ValueError when there is none."""
        return _one(await self.take(1), "first")

    async def is_empty(self) -> bool:
        """True when there is no record."""
        return not await self.take(1)

    async def take_ordered(self, n: int, key: Callable[[Any], Any] | None = None) -> list[Any]:
        """The ``n`` smallest records, in order."""
        return await self._merged("take_ordered", kernel(kernels.smallest, n, _key(key)))

    async def top(self, n: int, key: Callable[[Any], Any] | None = None) -> list[Any]:
        """The ``n`` largest records, largest first."""
        return await self._merged("top", kernel(kernels.largest, n, _key(key)))

    async def take_sample(self, with_replacement: bool, n: int, seed: int | None = None) -> list[Any]:
        """``n`` records drawn at random, fewer when there are fewer and none is put back."""
        seed = random.randrange(2**31) if seed is None else seed
        generator = random.Random(seed)
        if n < 0:
            raise OptionError(f"take_sample needs a number of at least 0, not {n}")
        if with_replacement:
            return await self._draw(n, generator)
        parts = await self._values(kernel(kernels.reservoir, n, seed), "take_sample", "index")
        return _weighted_sample(parts, n, generator)

    async def _draw(self, n: int, generator: random.Random) -> list[Any]:
        """``n`` records, each put back: where they lie is drawn first, then only those are fetched."""
        counts = await self._values(kernel(kernels.counted), "take_sample")
        total = sum(counts)
        ends = list(itertools.accumulate(counts))
        places: list[list[int]] = [[] for _ in counts]
        for number in sorted(generator.randrange(total) for _ in range(n if total else 0)):
            index = bisect.bisect_right(ends, number)
            places[index].append(number - (ends[index] - counts[index]))
        wanted = tuple(tuple(part) for part in places)
        parts = await self._values(kernel(kernels.picked, wanted), "take_sample", "index")
        drawn = [record for part in parts for record in part]
        generator.shuffle(drawn)
        return drawn

    async def lookup(self, key: Any) -> list[Any]:
        """The values of ``key``; looks into one partition only where it is known which."""
        terminal = ToValue("lookup", kernel(kernels.looked_up, key))
        partitioner = self.node.partitioner
        place = [partitioner.lookup()(key)] if isinstance(partitioner, HashPartitioner) else None
        async with self.context.runner.job(self.context.current_batch) as job:
            execution = await job.execution(self.node, terminal)
            results = await execution.run(place)
        return [value for part in await _decoded([result.value for result in results]) for value in part]

    # -- reductions ----------------------------------------------------------------------------

    async def reduce(self, f: Callable[[Any, Any], Any]) -> Any:
        """All records as one, by an associative and commutative function. ValueError when there is none."""
        return await self.tree_reduce(f, depth=1)

    async def tree_reduce(self, f: Callable[[Any, Any], Any], depth: int = 2) -> Any:
        """:meth:`reduce`, in ``depth`` levels of tasks: for many partitions with large results."""
        fn = kernel(kernels.reduced, as_fn(f, "reduce"))
        return _one(await self._merged("reduce", fn, depth=depth), "reduce")

    async def fold(self, zero: Any, op: Callable[[Any, Any], Any]) -> Any:
        """:meth:`reduce` from a zero value in each partition and once more for the whole."""
        return await self.aggregate(zero, op, op)

    async def aggregate(
        self, zero: Any, seq_op: Callable[[Any, Any], Any], comb_op: Callable[[Any, Any], Any]
    ) -> Any:
        """Add records to a value of another type, then the partitions' values to each other.

        Each partition starts from a copy of ``zero``, and so does the whole.
        """
        return await self.tree_aggregate(zero, seq_op, comb_op, depth=1)

    async def tree_aggregate(
        self, zero: Any, seq_op: Callable[[Any, Any], Any], comb_op: Callable[[Any, Any], Any], depth: int = 2
    ) -> Any:
        """:meth:`aggregate`, in ``depth`` levels of tasks: for many partitions with large results."""
        start, comb = dumps(zero), as_fn(comb_op, "aggregate")
        first = kernel(kernels.folded, start, as_fn(seq_op, "aggregate"))
        merge, last = kernel(kernels.reduced, comb), kernel(kernels.folded, start, comb)
        return (await self._merged("aggregate", first, merge, last, depth=depth))[0]

    async def _merged(
        self, step: str, first: Fn, merge: Fn | None = None, last: Fn | None = None, *, depth: int = 1
    ) -> list[Any]:
        """``first`` of each partition, then of what it gave, in the workers: no user code in the driver.

        All three functions give lists, whose pickles are the blocks of the next level. ``merge``
        and ``last`` are ``first`` when not given; without ``last`` one partition is done at once.
        """
        if depth < 1:
            raise OptionError(f"depth is {depth}: it must be at least 1")
        results = await self._run(ToValue(step, first))
        fan_in = max(2, math.ceil(len(results) ** (1 / depth)))
        while len(results) > fan_in:
            results = await self._level(results, fan_in, ToValue(step, merge or first))
        if last is not None or len(results) != 1:
            results = await self._level(results, max(1, len(results)), ToValue(step, last or first))
        return cast("list[Any]", (await _decoded([results[0].value]))[0])

    async def _level(self, results: Sequence[TaskResult], fan_in: int, terminal: ToValue) -> list[TaskResult]:
        refs = [BlockRef("pickle", result.value) for result in results]
        parts = tuple(tuple(refs[at : at + fan_in]) for at in range(0, len(refs), fan_in)) or ((),)
        source = Source(name=terminal.step, partitions=len(parts), parts=parts)
        return await self.context.runner.run(source, terminal, self.context.current_batch)

    async def max(self, key: Callable[[Any], Any] | None = None) -> Any:
        """The largest record. ValueError when there is none."""
        return _one(await self.top(1, key), "max")

    async def min(self, key: Callable[[Any], Any] | None = None) -> Any:
        """The smallest record. ValueError when there is none."""
        return _one(await self.take_ordered(1, key), "min")

    async def sum(self) -> Any:
        """Sum of the records; 0 for none."""
        return sum(await self._values(kernel(sum), "sum"))

    async def stats(self) -> StatCounter:
        """Count, mean, variance and extremes in one pass."""
        parts: list[StatCounter] = await self._values(kernel(StatCounter.of), "stats")
        return fold_left(StatCounter.merge, parts, StatCounter())

    async def mean(self) -> float:
        """Mean of the records; NaN for none."""
        stats = await self.stats()
        return stats.mean if stats.count else float("nan")

    async def histogram(self, buckets: int | list[Any]) -> tuple[list[Any], list[int]]:
        """Bounds and counts, for evenly spaced ``buckets`` or given bounds; the last bucket is closed."""
        if isinstance(buckets, int):
            if buckets < 1:
                raise OptionError(f"histogram needs at least one bucket, not {buckets}")
            stats = await self.stats()
            if stats.count == 0:
                raise ValueError("histogram of an empty RDD needs explicit bucket bounds")
            width = (stats.max - stats.min) / buckets
            bounds = [stats.min + i * width for i in range(buckets)] + [stats.max]
            if width == 0:
                bounds = [stats.min, stats.max]
        else:
            bounds = list(buckets)
            if len(bounds) < 2 or sorted(set(bounds)) != bounds:
                raise OptionError(f"histogram bounds must rise and be at least two, not {bounds!r}")
        parts = await self._values(kernel(kernels.histogram_of, tuple(bounds)), "histogram")
        return bounds, [sum(column) for column in zip(*parts, strict=True)] or [0] * (len(bounds) - 1)

    # -- effects -------------------------------------------------------------------------------

    async def foreach(self, f: Callable[[Any], Any]) -> None:
        """Call ``f(record)`` in the workers, for its effect."""
        await self._record("map", f, "foreach").count()

    async def foreach_partition(self, f: Callable[[Iterator[Any]], Any] | Fn) -> None:
        """Call ``f(iterator)`` in the workers, once a partition: the place to open connections."""
        fn = kernel(kernels.visited_partition, as_fn(f, "foreach_partition"))
        await self._values(fn, "foreach_partition")

    async def save_as_text_file(self, path: str, *, overwrite: bool = False) -> None:
        """A directory with one text file a partition, then ``_SUCCESS``; each appears whole or not at all."""
        await self._save(path, save_text_partition, overwrite)

    async def save_as_pickle_file(self, path: str, *, overwrite: bool = False) -> None:
        """A directory with one file of pickled lists a partition, then ``_SUCCESS``."""
        await self._save(path, save_pickle_partition, overwrite)

    async def _save(self, path: str, save: Callable[..., int], overwrite: bool) -> None:
        await asyncio.to_thread(_make_output_directory, path, overwrite)
        sizes = await self._values(kernel(save, path), "save", "index")
        await asyncio.to_thread(_finish_output_directory, path, len(sizes))


def _make_output_directory(path: str, overwrite: bool) -> None:
    if not overwrite and os.path.exists(path):
        raise ConfigurationError(f"{path} exists already: choose another path, or overwrite=True")
    os.makedirs(path, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(path, "_SUCCESS"))


def _finish_output_directory(path: str, partitions: int) -> None:
    """Remove the further parts of an overwritten directory, then say that it is whole."""
    for name in os.listdir(path):
        if (match := re.fullmatch(r"part-(\d{5,})", name)) and int(match[1]) >= partitions:
            os.unlink(os.path.join(path, name))
    with open(os.path.join(path, "_SUCCESS"), "wb"):
        pass


def _key(key: Callable[[Any], Any] | None) -> Fn | None:
    return None if key is None else as_fn(key, "key")


def _one(records: list[Any], action: str) -> Any:
    if not records:
        raise ValueError(f"{action}() of an RDD without records")
    return records[0]


async def _added(parts: Sequence[dict[Any, int]]) -> dict[Any, int]:
    if sum(map(len, parts)) > _LOOP_KEYS_MAX:
        return await asyncio.to_thread(_sum_of, parts)
    return _sum_of(parts)


def _sum_of(parts: Sequence[dict[Any, int]]) -> dict[Any, int]:
    total = parts[0] if parts else {}
    for part in parts[1:]:
        for key, number in part.items():
            total[key] = total.get(key, 0) + number
    return total


def _weighted_sample(parts: list[tuple[list[Any], int]], n: int, generator: random.Random) -> list[Any]:
    """Merge uniform samples of partitions of different size into one uniform sample."""
    pools = [(list(records), seen) for records, seen in parts if seen]
    chosen: list[Any] = []
    while pools and len(chosen) < n:
        index = generator.choices(range(len(pools)), [seen for _, seen in pools])[0]
        records, seen = pools[index]
        chosen.append(records.pop(generator.randrange(len(records))))
        pools[index] = (records, seen - 1)
        if not records or seen == 1:
            pools.pop(index)
    generator.shuffle(chosen)
    return chosen


async def _decoded(payloads: list[bytes]) -> list[Any]:
    if sum(map(len, payloads)) > _LOOP_BYTES_MAX:
        return await asyncio.to_thread(_loads, payloads)
    return _loads(payloads)


def _loads(payloads: list[bytes]) -> list[Any]:
    try:
        return [pickle.loads(payload) for payload in payloads]
    except Exception as error:
        raise UnpicklableError(
            f"a result cannot be unpickled in the driver: {type(error).__name__}: {error}"
        ) from error


async def _read(refs: list[Any]) -> list[Any]:
    if sum(ref.size for ref in refs) > _LOOP_BYTES_MAX:
        return await asyncio.to_thread(_read_all, refs)
    return _read_all(refs)


def _read_all(refs: list[Any]) -> list[Any]:
    try:
        return [record for ref in refs for chunk in read_chunks(ref) for record in chunk]
    except (AiostreamError, OSError):
        raise
    except Exception as error:
        raise UnpicklableError(
            f"a result cannot be unpickled in the driver: {type(error).__name__}: {error}"
        ) from error
