"""Functions over whole partitions that RDD operations are made of.

Each is a plain function or a small picklable callable; ``kernel(name, *params)`` gives it as a
:class:`Fn` whose identity is its name and parameters, so that no pickling is needed to compare.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import pickle
import random
import subprocess
from bisect import bisect_right
from collections import _count_elements  # type: ignore[attr-defined]
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..errors import BadKeyError
from .copies import own_copy
from .function import Fn, bound
from .hashing import bounded

__all__ = ["count_into", "fill_into", "kernel"]

_COUNTED_AT_ONCE = 4096  # where one of them cannot be counted, they are looked through once more


def kernel(function: Callable[..., Any], *params: Any) -> Fn:
    """``function`` with leading parameters bound; comparable without pickling when they are plain values."""
    step = function.__name__.strip("_")
    identity = ",".join(_identity(param) for param in params)
    own = function.__module__ == __name__ and not any(isinstance(param, Fn) for param in params)
    return bound(function, params, step, f"{step}:{identity}", own)


def _identity(param: Any) -> str:
    if isinstance(param, Fn):
        return param.id
    if param is None or isinstance(param, str | int | float | bytes):
        return repr(param)
    return Fn(param).id  # anything else by its pickled content


# -- one partition -----------------------------------------------------------------------------


def glom(records: Iterable[Any]) -> Iterator[list[Any]]:
    yield list(records)


def unique_ids(partitions: int, index: int, records: Iterable[Any]) -> Iterator[tuple[Any, int]]:
    for number, record in enumerate(records):
        yield record, number * partitions + index


def indexed(starts: tuple[int, ...], index: int, records: Iterable[Any]) -> Iterator[tuple[Any, int]]:
    return zip(records, itertools.count(starts[index]))


def sample_bernoulli(low: float, high: float, seed: int, index: int, records: Iterable[Any]) -> Iterator[Any]:
    draw = random.Random(seed * 1_000_003 + index).random
    return (record for record in records if low <= draw() < high)


def sample_poisson(fraction: float, seed: int, index: int, records: Iterable[Any]) -> Iterator[Any]:
    generator = random.Random(seed * 1_000_003 + index)
    for record in records:
        yield from itertools.repeat(record, _poisson(fraction, generator))


def _poisson(mean: float, generator: random.Random) -> int:
    # Exponential gaps until the mean is used up; fractions are small, so this is short.
    total, count = generator.expovariate(1.0), 0
    while total < mean:
        total += generator.expovariate(1.0)
        count += 1
    return count


def reservoir(size: int, seed: int, index: int, records: Iterable[Any]) -> tuple[list[Any], int]:
    """A uniform sample of at most ``size`` records, and how many there were."""
    generator = random.Random(seed * 1_000_003 + index)
    chosen: list[Any] = []
    seen = 0
    for seen, record in enumerate(records, 1):
        if len(chosen) < size:
            chosen.append(record)
        elif (slot := generator.randrange(seen)) < size:
            chosen[slot] = record
    return chosen, seen


def weighted_keys(
    size: int, seed: int, index: int, pairs: Iterable[tuple[Any, Any]]
) -> list[tuple[Any, float]]:
    """Keys of a sample, each with the number of records that it stands for."""
    sample, seen = reservoir(size, seed, index, pairs)
    return [(key, seen / len(sample)) for key, _ in sample]


def range_bounds(count: int, weighted: Iterable[tuple[Any, float]]) -> list[Any]:
    """At most ``count - 1`` rising keys that cut the keys into ranges of like weight."""
    keys = sorted(weighted, key=_first)
    bounds: list[Any] = []
    step = sum(weight for _, weight in keys) / count
    passed = 0.0
    for key, weight in keys:
        passed += weight
        if (
            len(bounds) < count - 1
            and passed >= step * (len(bounds) + 1)
            and not (bounds and key == bounds[-1])
        ):
            bounds.append(key)
    return bounds


def sort_pairs(ascending: bool, pairs: Iterable[tuple[Any, Any]]) -> Iterable[Any]:
    return sorted(pairs, key=_first, reverse=not ascending)


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]


def combine_locally(
    create: Callable[[Any], Any] | None, merge: Callable[[Any, Any], Any], pairs: Iterable[tuple[Any, Any]]
) -> Iterable[tuple[Any, Any]]:
    """Combine by key without a shuffle, where equal keys are in one partition already."""
    acc: dict[Any, Any] = {}
    for key, value in pairs:
        if key in acc:
            acc[key] = merge(acc[key], value)
        else:
            acc[key] = create(value) if create else value
    return acc.items()


def combined_values(
    create: Callable[[Any], Any] | None,
    merge: Callable[[Any, Any], Any],
    group: tuple[Any, Sequence[Any]],
) -> tuple[Any, Any]:
    """All values of a key as one; a first value to which ``merge`` adds in place stays as it is."""
    key, values = group
    rest = iter(values)
    first = next(rest)
    # If it fails later on, the values are all that there is of the key.
    combined = create(first) if create else own_copy(first)
    return key, functools.reduce(merge, rest, combined)


def pipe(command: tuple[str, ...], records: Iterable[Any]) -> Iterator[str]:
    """The lines that ``command`` writes when the records are its input, a line each."""
    text = "".join(f"{record}\n" for record in records)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    yield from done.stdout.splitlines()


# -- several partitions --------------------------------------------------------------------------

_END = object()


def zipped(columns: Sequence[Iterable[Any]]) -> Iterator[tuple[Any, Any]]:
    left, right = columns
    for a, b in itertools.zip_longest(left, right, fillvalue=_END):
        if a is _END or b is _END:
            raise ValueError("zip needs the same number of records in each partition of both sides")
        yield a, b


def product(columns: Sequence[Iterable[Any]]) -> Iterator[tuple[Any, Any]]:
    left, right = columns
    return itertools.product(left, list(right))


def zipped_partitions(call: Callable[..., Iterable[Any]], columns: Sequence[Iterable[Any]]) -> Iterable[Any]:
    return call(*columns)


def cogrouped(columns: Sequence[Iterable[tuple[Any, Any]]]) -> Iterable[tuple[Any, tuple[list[Any], ...]]]:
    """(key, (values of each side)) over the union of keys."""
    width = len(columns)
    groups: dict[Any, tuple[list[Any], ...]] = {}
    for side, pairs in enumerate(columns):
        for key, value in pairs:
            group = groups.get(key)
            if group is None:
                group = groups[key] = tuple([] for _ in range(width))
            group[side].append(value)
    return groups.items()


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for key, value in pairs:
        if key in groups:
            groups[key].append(value)
        else:
            groups[key] = [value]
    return groups


def joined(kind: str, columns: Sequence[Iterable[tuple[Any, Any]]]) -> Iterator[tuple[Any, tuple[Any, Any]]]:
    """Inner, left, right or full join of two sides; a missing side is None (row PR-7)."""
    right = _grouped(columns[1])
    matched: set[Any] = set()
    keep_left, keep_right = kind in ("left", "full"), kind in ("right", "full")
    for key, a in columns[0]:
        others = right.get(key)
        if others is not None:
            if keep_right:
                matched.add(key)
            for b in others:
                yield key, (a, b)
        elif keep_left:
            yield key, (a, None)
    if keep_right:
        for key, others in right.items():
            if key not in matched:
                for b in others:
                    yield key, (None, b)


def subtracted(columns: Sequence[Iterable[tuple[Any, Any]]]) -> Iterator[tuple[Any, Any]]:
    gone = {key for key, _ in columns[1]}
    return (pair for pair in columns[0] if pair[0] not in gone)


def intersected(columns: Sequence[Iterable[tuple[Any, Any]]]) -> Iterator[tuple[Any, None]]:
    common = {key for key, _ in columns[1]}
    mine = dict(columns[0])
    return ((key, None) for key in mine if key in common)


# -- results of actions --------------------------------------------------------------------------


def first_n(n: int, records: Iterable[Any]) -> list[Any]:
    return list(itertools.islice(records, n))


def smallest(n: int, key: Callable[[Any], Any] | None, records: Iterable[Any]) -> list[Any]:
    return heapq.nsmallest(n, records, key)


def largest(n: int, key: Callable[[Any], Any] | None, records: Iterable[Any]) -> list[Any]:
    return heapq.nlargest(n, records, key)


def reduced(call: Callable[[Any, Any], Any], records: Iterable[Any]) -> list[Any]:
    """No element for an empty partition, else one."""
    iterator = iter(records)
    for first in iterator:
        return [functools.reduce(call, iterator, first)]
    return []


def folded(zero: bytes, call: Callable[[Any, Any], Any], records: Iterable[Any]) -> list[Any]:
    """One element, from a fresh copy of the zero value, which ``call`` may change."""
    return [functools.reduce(call, records, pickle.loads(zero))]


def counted_by_value(records: Iterable[Any]) -> dict[Any, int]:
    counts: dict[Any, int] = {}
    count_into(counts, records)
    return counts


def counted_by_key(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, int]:
    return counted_by_value(key for key, _ in pairs)


def count_into(counts: dict[Any, int], records: Iterable[Any]) -> None:
    """Count in C; raises BadKeyError naming the record that cannot be counted."""
    iterator = iter(records)
    while chunk := list(itertools.islice(iterator, _COUNTED_AT_ONCE)):
        try:
            _count_elements(counts, chunk)
        except TypeError as error:
            culprit = next((record for record in chunk if not _hashable(record)), chunk)
            raise BadKeyError(f"{bounded(culprit)} cannot be counted: {error}") from error


def fill_into(keys: dict[Any, None], records: Iterable[Any]) -> None:
    """Keep each record once, the first of equal ones; raises BadKeyError naming one that is no key."""
    iterator = iter(records)
    while chunk := list(itertools.islice(iterator, _COUNTED_AT_ONCE)):
        try:
            keys.update(dict.fromkeys(chunk))
        except TypeError as error:
            culprit = next((record for record in chunk if not _hashable(record)), chunk)
            raise BadKeyError(f"{bounded(culprit)} cannot be a key: {error}") from error


def _hashable(record: Any) -> bool:
    try:
        hash(record)
    except TypeError:
        return False
    return True


def counted(records: Iterable[Any]) -> int:
    return sum(1 for _ in records)


def picked(places: tuple[tuple[int, ...], ...], index: int, records: Iterable[Any]) -> list[Any]:
    """The records at the given places of this partition, which rise and may repeat."""
    wanted = places[index]
    found: list[Any] = []
    for place, record in enumerate(records):
        while len(found) < len(wanted) and wanted[len(found)] == place:
            found.append(record)
        if len(found) == len(wanted):
            break
    return found


def looked_up(key: Any, pairs: Iterable[tuple[Any, Any]]) -> list[Any]:
    return [value for k, value in pairs if k == key]


def visited_partition(call: Callable[[Iterable[Any]], Any], records: Iterable[Any]) -> None:
    call(iter(records))


def histogram_of(bounds: tuple[float, ...], records: Iterable[Any]) -> list[int]:
    """Counts per bucket; all are closed on the left, the last on both sides."""
    counts = [0] * (len(bounds) - 1)
    low, high, last = bounds[0], bounds[-1], len(counts) - 1
    for value in records:
        if value is not None and low <= value <= high:
            counts[min(bisect_right(bounds, value) - 1, last)] += 1
    return counts


# -- combiners -----------------------------------------------------------------------------------


def in_list(value: Any) -> list[Any]:
    return [value]


def appended(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return values


def extended(values: list[Any], more: list[Any]) -> list[Any]:
    values.extend(more)
    return values


def keep_first(first: Any, _: Any) -> Any:
    return first


def created_from_zero(zero: bytes, call: Callable[[Any, Any], Any], value: Any) -> Any:
    """A fresh copy of the zero value for each key, so that a mutable one is not shared."""
    return call(pickle.loads(zero), value)


def pair_with_none(record: Any) -> tuple[Any, None]:
    return record, None


def pair_none_with(record: Any) -> tuple[None, Any]:
    return None, record


def pair_with_one(x: Any) -> tuple[Any, int]:
    return (x, 1)


def one(_: Any) -> int:
    return 1


def has_count(pair: tuple[Any, int]) -> bool:
    return pair[1] > 0


def joined_lists(values: list[Any], more: list[Any]) -> list[Any]:
    return values + more
