"""Functions that run in the workers, with the order of records that PySpark's have.

Workers import this module: nothing here may need the driver.
"""

from __future__ import annotations

import bisect
import contextlib
import copy
import heapq
import itertools
import math
import os
import pickle
import random
import shlex
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from ...operators.kernels import kernel
from ...operators.partitioners import FunctionPartitioner
from .errors import PySparkRuntimeError
from .resultiterable import ResultIterable

__all__ = ["PortableHashPartitioner", "portable_hash"]

Pair = tuple[Any, Any]

# -- placing keys ------------------------------------------------------------------------------

_TUPLE_SEED, _TUPLE_FACTOR = 3430008, 1000003


def portable_hash(x: Any) -> int:
    """PySpark's hash of a key: Python's own, with None and tuples made the same in every process.

    Raises PySparkRuntimeError where PYTHONHASHSEED is not set; it always is in workers.
    """
    if "PYTHONHASHSEED" not in os.environ:
        raise PySparkRuntimeError(errorClass="PYTHON_HASH_SEED_NOT_SET", messageParameters={})
    return _hashed(x)


def _hashed(x: Any) -> int:
    if x is None:
        return 0
    if not isinstance(x, tuple):
        return hash(x)
    result = _TUPLE_SEED
    for item in x:
        result = ((result ^ _hashed(item)) * _TUPLE_FACTOR) & sys.maxsize
    return result ^ len(x)


class _Places(dict[Any, int]):
    """Key -> partition, remembered for the length of one task."""

    __slots__ = ("partitions",)

    def __init__(self, partitions: int) -> None:
        super().__init__()
        self.partitions = partitions

    def __missing__(self, key: Any) -> int:
        number = self[key] = _hashed(key) % self.partitions
        return number


@dataclass(frozen=True, slots=True)
class PortableHashPartitioner(FunctionPartitioner):
    """By :func:`portable_hash`; each key of a task is hashed once."""

    def lookup(self) -> Callable[[Any], int]:
        """A fast key -> partition function for the length of one task."""
        return _Places(self.partitions).__getitem__


def portable(partitions: int) -> PortableHashPartitioner:
    """The partitioner of PySpark's operations on pairs."""
    return PortableHashPartitioner(partitions, kernel(portable_hash))


def range_place(
    bounds: Sequence[Any], keyfunc: Callable[[Any], Any] | None, ascending: bool, partitions: int, key: Any
) -> int:
    """The partition of ``key`` in a sort."""
    place = bisect.bisect_left(bounds, key if keyfunc is None else keyfunc(key))
    return place if ascending else partitions - 1 - place


def sorted_pairs(
    keyfunc: Callable[[Any], Any] | None, ascending: bool, pairs: Iterable[Pair]
) -> Iterable[Pair]:
    key = _first if keyfunc is None else lambda pair: keyfunc(pair[0])
    return sorted(pairs, key=key, reverse=not ascending)


def _first(pair: Pair) -> Any:
    return pair[0]


# -- sides -------------------------------------------------------------------------------------


def _grouped(columns: Sequence[Iterable[Pair]]) -> Iterable[tuple[Any, tuple[list[Any], ...]]]:
    """(key, values of each side), keys in the order in which the sides, one after the other, show them."""
    groups: dict[Any, tuple[list[Any], ...]] = {}
    for side, pairs in enumerate(columns):
        for key, value in pairs:
            if key not in groups:
                groups[key] = tuple([] for _ in columns)
            groups[key][side].append(value)
    return groups.items()


def _regrouped(width: int, pairs: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    for key, tagged in pairs:
        group: tuple[list[Any], ...] = tuple([] for _ in range(width))
        for side, value in tagged:
            group[side].append(value)
        yield key, group


def as_cogroup(groups: Iterable[Any]) -> Iterator[Pair]:
    for key, group in groups:
        yield key, tuple(ResultIterable(values) for values in group)


def as_join(left: bool, right: bool, groups: Iterable[Any]) -> Iterator[Pair]:
    """``left``: keep keys that only the left side has; ``right`` likewise."""
    for key, (mine, theirs) in groups:
        found = mine or ([None] if right else [])
        others = theirs or ([None] if left else [])
        for pair in itertools.product(found, others):
            yield key, pair


def as_subtraction(groups: Iterable[Any]) -> Iterator[Pair]:
    for key, (mine, theirs) in groups:
        if not theirs:
            for value in mine:
                yield key, value


def as_intersection(groups: Iterable[Any]) -> Iterator[Pair]:
    return ((key, None) for key, sides in groups if all(sides))


def on_sides(finish: Callable[[Iterable[Any]], Any], columns: Sequence[Iterable[Pair]]) -> Any:
    """``finish`` of the groups that the sides give."""
    return finish(_grouped(columns))


def on_tagged(finish: Callable[[Iterable[Any]], Any], width: int, pairs: Iterable[Any]) -> Any:
    """``finish`` of groups of values that carry the number of their side."""
    return finish(_regrouped(width, pairs))


def tag(side: int, value: Any) -> tuple[int, Any]:
    return side, value


def same(value: Any) -> Any:
    return value


def pair_with_none(record: Any) -> tuple[Any, None]:
    return record, None


def keep_first(first: Any, _: Any) -> Any:
    return first


# -- sampling ----------------------------------------------------------------------------------


def generator(seed: int, index: int) -> random.Random:
    """The random numbers of one partition; the first few are thrown away."""
    made = random.Random(seed ^ index)
    for _ in range(10):
        made.randint(0, 1)
    return made


def sampled(replaced: bool, fraction: float, seed: int, index: int, records: Iterable[Any]) -> Iterator[Any]:
    numbers = generator(seed, index)
    if replaced:
        return (item for item in records for _ in range(poisson(fraction, numbers)))
    return (item for item in records if numbers.random() < fraction)


def sampled_range(low: float, high: float, seed: int, index: int, records: Iterable[Any]) -> Iterator[Any]:
    numbers = generator(seed, index)
    return (item for item in records if low <= numbers.random() < high)


def sampled_by_key(
    replaced: bool, fractions: dict[Any, float], seed: int, index: int, pairs: Iterable[Pair]
) -> Iterator[Pair]:
    numbers = generator(seed, index)
    if replaced:
        return (pair for pair in pairs for _ in range(poisson(fractions[pair[0]], numbers)))
    return (pair for pair in pairs if numbers.random() < fractions[pair[0]])


def poisson(mean: float, numbers: random.Random) -> int:
    """A Poisson number by products of uniform ones, or by sums of exponential ones for large means."""
    count = 0
    if mean < 20.0:
        limit, product = math.exp(-mean), numbers.random()
        while product > limit:
            count += 1
            product *= numbers.random()
        return count
    total = numbers.expovariate(mean)
    while total < 1.0:
        count += 1
        total += numbers.expovariate(mean)
    return count


# -- partial results of actions ----------------------------------------------------------------


def reduced(call: Callable[[Any, Any], Any], records: Iterable[Any]) -> list[Any]:
    iterator = iter(records)
    for value in iterator:
        for item in iterator:
            value = call(value, item)
        return [value]
    return []


def folded(zero: bytes, call: Callable[[Any, Any], Any], records: Iterable[Any]) -> Any:
    value = pickle.loads(zero)
    for item in records:
        value = call(value, item)
    return value


def folded_list(zero: bytes, call: Callable[[Any, Any], Any], records: Iterable[Any]) -> list[Any]:
    return [folded(zero, call, records)]


def largest(size: int, key: Callable[[Any], Any] | None, records: Iterable[Any]) -> list[Any]:
    return heapq.nlargest(size, records, key)


def smallest(size: int, key: Callable[[Any], Any] | None, records: Iterable[Any]) -> list[Any]:
    return heapq.nsmallest(size, records, key)


def extremes(records: Iterable[Any]) -> tuple[Any, Any] | None:
    ends: tuple[Any, Any] | None = None
    for record in records:
        ends = (record, record) if ends is None else (min(ends[0], record), max(ends[1], record))
    return ends


def reduced_by_key(call: Callable[[Any, Any], Any], pairs: Iterable[Pair]) -> dict[Any, Any]:
    values: dict[Any, Any] = {}
    for key, value in pairs:
        values[key] = call(values[key], value) if key in values else value
    return values


def counted(records: Iterable[Any]) -> dict[Any, int]:
    counts: dict[Any, int] = defaultdict(int)
    for record in records:
        counts[record] += 1
    return counts


def counted_in_buckets(bounds: Sequence[Any], width: float | None, records: Iterable[Any]) -> list[int]:
    """Counts per bucket; the last is closed on both sides. ``width``: of buckets that are all alike."""
    low, high = bounds[0], bounds[-1]
    counts = [0] * len(bounds)
    for value in records:
        if is_missing(value) or value < low or value > high:
            continue
        place = bisect.bisect_right(bounds, value) - 1 if width is None else int((value - low) / width)
        counts[place] += 1
    last = counts.pop()
    counts[-1] += last
    return counts


def is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_present(value: Any) -> bool:
    return not is_missing(value)


def visited(call: Callable[[Iterator[Any]], Any], records: Iterable[Any]) -> Iterator[Any]:
    """Run a partition function for its effect, and through what it gives if it is a generator."""
    given = call(iter(records))
    if given is not None:
        try:
            items = iter(given)
        except TypeError:
            return
        for _ in items:
            pass
    yield from ()


def fresh(zero: Any, call: Callable[[Any, Any], Any], value: Any) -> Any:
    """The first combined value of a key, from a copy of the zero value."""
    return call(copy.deepcopy(zero), value)


# -- outside programs --------------------------------------------------------------------------


def piped(
    command: str, environment: tuple[tuple[str, str], ...], check: bool, records: Iterable[Any]
) -> Iterator[str]:
    """The lines that ``command`` writes while the records are fed to it, a line each."""
    words = shlex.split(command)
    with subprocess.Popen(
        words, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        feeder = threading.Thread(target=_feed, args=(process.stdin, records), daemon=True)
        feeder.start()
        for line in process.stdout:
            yield line.rstrip(b"\n").decode()
        feeder.join()
        if process.wait() and check:
            raise PySparkRuntimeError(
                errorClass="PIPE_FUNCTION_EXITED",
                messageParameters={"func_name": command, "error_code": str(process.returncode)},
            )


def _feed(pipe: IO[bytes], records: Iterable[Any]) -> None:
    with contextlib.suppress(BrokenPipeError), pipe:  # a program need not read all
        for record in records:
            pipe.write(str(record).rstrip("\n").encode() + b"\n")


# -- files -------------------------------------------------------------------------------------


def file_bytes(path: str) -> tuple[str, bytes]:
    with open(path, "rb") as file:
        return f"file:{path}", file.read()


def file_text(path: str) -> tuple[str, str]:
    url, content = file_bytes(path)
    return url, content.decode("utf-8", "replace")
