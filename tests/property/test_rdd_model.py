"""However a dataset is cut into partitions, each operation of row RDD-3 gives what plain Python gives."""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiostream_engine import RDD
from tests.property.engines import Engine, Parts, keys, pairs, parts_of, records, whole

# -- the model: small functions over lists --------------------------------------------------------


def grouped(items: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for key, value in items:
        groups[key].append(value)
    return dict(groups)


def joined(kind: str, left: list[Any], right: list[Any]) -> list[Any]:
    a, b = grouped(left), grouped(right)
    both = {**dict.fromkeys(a, 0), **dict.fromkeys(b, 0)}
    result = []
    for key in both:
        xs = a.get(key, [None] if kind in ("right", "full") else [])
        ys = b.get(key, [None] if kind in ("left", "full") else [])
        result.extend((key, (x, y)) for x in xs for y in ys)
    return result


def bag(items: Iterable[Any]) -> Counter[Any]:
    """Records without their order; lists inside of them too."""
    return Counter(map(_frozen, items))


def _frozen(item: Any) -> Any:
    if isinstance(item, list):
        return "bag", frozenset(bag(item).items())
    if isinstance(item, tuple):
        return tuple(map(_frozen, item))
    if isinstance(item, set):
        return frozenset(item)
    return item


def order(item: Any) -> tuple[str, str]:
    return type(item).__name__, str(item)


# -- one dataset of single records, order kept ----------------------------------------------------

ORDERED: dict[str, tuple[Callable[[RDD[Any]], RDD[Any]], Callable[[Parts], list[Any]]]] = {
    "map": (lambda r: r.map(lambda x: (x, str(x))), lambda p: [(x, str(x)) for x in whole(p)]),
    "flat_map": (
        lambda r: r.flat_map(lambda x: str(x).split()),
        lambda p: [w for x in whole(p) for w in str(x).split()],
    ),
    "filter": (lambda r: r.filter(lambda x: x), lambda p: [x for x in whole(p) if x]),
    "key_by": (lambda r: r.key_by(str), lambda p: [(str(x), x) for x in whole(p)]),
    "keys": (lambda r: r.key_by(str).keys(), lambda p: [str(x) for x in whole(p)]),
    "values": (lambda r: r.key_by(str).values(), whole),
    "map_partitions": (lambda r: r.map_partitions(lambda it: [len(list(it))]), lambda p: [len(x) for x in p]),
    "map_partitions_with_index": (
        lambda r: r.map_partitions_with_index(lambda i, it: ((i, x) for x in it)),
        lambda p: [(i, x) for i, part in enumerate(p) for x in part],
    ),
    "map_batches": (
        lambda r: r.map_batches(lambda xs: xs[::-1]),
        lambda p: [x for part in p for x in part[::-1]],
    ),
    "glom": (lambda r: r.glom(), list),
    "zip_with_index": (lambda r: r.zip_with_index(), lambda p: list(zip(whole(p), itertools.count()))),
    "zip_with_unique_id": (
        lambda r: r.zip_with_unique_id(),
        lambda p: [(x, n * len(p) + i) for i, part in enumerate(p) for n, x in enumerate(part)],
    ),
    "union": (lambda r: r.union(r.map(str)), lambda p: whole(p) + [str(x) for x in whole(p)]),
    "coalesce": (lambda r: r.coalesce(2), whole),
    "sort_by": (lambda r: r.sort_by(order), lambda p: sorted(whole(p), key=order)),
    "sort_by, descending": (
        lambda r: r.sort_by(order, ascending=False, partitions=4),
        lambda p: sorted(whole(p), key=order, reverse=True),
    ),
    "sort_by_key": (
        lambda r: r.key_by(order).sort_by_key(partitions=2).values(),
        lambda p: sorted(whole(p), key=order),
    ),
    "zip": (lambda r: r.zip(r.map(str)), lambda p: [(x, str(x)) for x in whole(p)]),
    "zip_partitions": (
        lambda r: r.zip_partitions(r.map(str), lambda a, b: [*a, *b]),
        lambda p: [x for part in p for x in [*part, *map(str, part)]],
    ),
    "persist": (lambda r: r.map(str).persist().map(len), lambda p: [len(str(x)) for x in whole(p)]),
    "checkpoint": (lambda r: r.map(str).checkpoint(), lambda p: [str(x) for x in whole(p)]),
    "pipe": (
        lambda r: r.map(lambda x: str(x).replace(" ", "_")).pipe("cat"),
        lambda p: [str(x).replace(" ", "_") for x in whole(p)],
    ),
}

NOT_EACH_EXAMPLE = {"pipe"}  # starts a process for each partition


@pytest.mark.parametrize("operation", sorted(ORDERED.keys() - NOT_EACH_EXAMPLE))
@given(parts=parts_of(records))
def test_operations_that_keep_the_order(engine: Engine, operation: str, parts: Parts) -> None:
    ask, model = ORDERED[operation]
    assert engine.collect(ask(engine.rdd(parts))) == model(parts)


def test_an_outside_program_keeps_the_order(engine: Engine) -> None:
    parts: Parts = [["b a", 1], [], [2]]
    ask, model = ORDERED["pipe"]
    assert engine.collect(ask(engine.rdd(parts))) == model(parts)


# -- one dataset of single records, order not promised --------------------------------------------

UNORDERED: dict[str, tuple[Callable[[RDD[Any]], RDD[Any]], Callable[[list[Any]], Iterable[Any]]]] = {
    "distinct": (lambda r: r.distinct(), lambda xs: set(xs)),
    "distinct to 2": (lambda r: r.distinct(2), lambda xs: set(xs)),
    "group_by": (
        lambda r: r.group_by(lambda x: len(str(x))),
        lambda xs: grouped((len(str(x)), x) for x in xs).items(),
    ),
    "repartition": (lambda r: r.repartition(4), list),
    "coalesce with shuffle": (lambda r: r.coalesce(7, shuffle=True), list),
    "cartesian": (lambda r: r.cartesian(r.map(str)), lambda xs: ((x, str(y)) for x in xs for y in xs)),
    "subtract": (lambda r: r.subtract(r.filter(lambda x: x)), lambda xs: [x for x in xs if not x]),
    "intersection": (
        lambda r: r.intersection(r.map(lambda x: x or 5)),
        lambda xs: set(xs) & {x or 5 for x in xs},
    ),
}


@pytest.mark.parametrize("operation", UNORDERED)
@given(parts=parts_of(records))
def test_operations_that_move_records(engine: Engine, operation: str, parts: Parts) -> None:
    ask, model = UNORDERED[operation]
    assert bag(engine.collect(ask(engine.rdd(parts)))) == bag(model(whole(parts)))


# -- pairs ----------------------------------------------------------------------------------------


def reduced(items: list[Any], call: Callable[[Any, Any], Any]) -> list[Any]:
    return [(key, functools.reduce(call, values)) for key, values in grouped(items).items()]


PAIRED: dict[str, tuple[Callable[[RDD[Any]], RDD[Any]], Callable[[list[Any]], Iterable[Any]]]] = {
    "reduce_by_key, addition": (
        lambda r: r.reduce_by_key(lambda a, b: a + b),
        lambda xs: reduced(xs, lambda a, b: a + b),
    ),
    "reduce_by_key, max": (lambda r: r.reduce_by_key(max, 4), lambda xs: reduced(xs, max)),
    "reduce_by_key where it lies": (
        lambda r: r.partition_by(3).reduce_by_key(min),
        lambda xs: reduced(xs, min),
    ),
    "fold_by_key": (
        lambda r: r.fold_by_key(0, lambda a, b: a + b),
        lambda xs: reduced(xs, lambda a, b: a + b),
    ),
    "aggregate_by_key": (
        lambda r: r.aggregate_by_key(set(), lambda s, x: s | {x}, lambda s, t: s | t),
        lambda xs: [(key, set(values)) for key, values in grouped(xs).items()],
    ),
    "combine_by_key": (
        lambda r: r.combine_by_key(lambda x: [x], lambda xs, x: [*xs, x], lambda a, b: a + b),
        lambda xs: grouped(xs).items(),
    ),
    "group_by_key": (lambda r: r.group_by_key(), lambda xs: grouped(xs).items()),
    "group_by_key where it lies": (
        lambda r: r.partition_by(2).group_by_key(2),
        lambda xs: grouped(xs).items(),
    ),
    "partition_by": (lambda r: r.partition_by(4), list),
    "map_values": (lambda r: r.map_values(lambda v: (v, v)), lambda xs: [(k, (v, v)) for k, v in xs]),
    "flat_map_values": (
        lambda r: r.flat_map_values(lambda v: [v] * abs(v)),
        lambda xs: [(k, v) for k, v in xs for _ in range(abs(v))],
    ),
    "aware union": (
        lambda r: r.partition_by(3).union(r.map_values(str).partition_by(3)),
        lambda xs: [*xs, *((k, str(v)) for k, v in xs)],
    ),
    "a chain": (
        lambda r: (
            r.partition_by(3)
            .map_values(lambda v: v + 1)
            .filter(lambda p: p[1] > 0)
            .reduce_by_key(lambda a, b: a + b)
            .map(lambda p: (p[1], p[0]))
            .group_by_key(2)
        ),
        lambda xs: grouped(
            (v, k) for k, v in reduced([(k, v + 1) for k, v in xs if v + 1 > 0], lambda a, b: a + b)
        ).items(),
    ),
}


@pytest.mark.parametrize("operation", PAIRED)
@given(parts=parts_of(pairs))
def test_operations_of_pairs(engine: Engine, operation: str, parts: Parts) -> None:
    ask, model = PAIRED[operation]
    assert bag(engine.collect(ask(engine.rdd(parts)))) == bag(model(whole(parts)))


JOINS = {
    "inner": lambda a, b, n: a.join(b, n),
    "left": lambda a, b, n: a.left_outer_join(b, n),
    "right": lambda a, b, n: a.right_outer_join(b, n),
    "full": lambda a, b, n: a.full_outer_join(b, n),
}


@pytest.mark.parametrize("kind", JOINS)
@given(left=parts_of(pairs), right=parts_of(pairs), width=st.none() | st.integers(1, 4), placed=st.booleans())
def test_joins(engine: Engine, kind: str, left: Parts, right: Parts, width: int | None, placed: bool) -> None:
    a, b = engine.rdd(left), engine.rdd(right)
    if placed:
        a = a.partition_by(2)
    found = engine.collect(JOINS[kind](a, b, width))
    assert bag(found) == bag(joined(kind, whole(left), whole(right)))


@given(left=parts_of(pairs), right=parts_of(pairs))
def test_cogroups_and_what_is_left_of_a_side(engine: Engine, left: Parts, right: Parts) -> None:
    a, b = grouped(whole(left)), grouped(whole(right))
    sides = engine.rdd(left), engine.rdd(right)
    both = {**dict.fromkeys(a, 0), **dict.fromkeys(b, 0)}
    assert bag(engine.collect(sides[0].cogroup(sides[1]))) == bag(
        (k, (a.get(k, []), b.get(k, []))) for k in both
    )
    assert bag(engine.collect(sides[0].group_with(sides[1], sides[0]))) == bag(
        (k, (a.get(k, []), b.get(k, []), a.get(k, []))) for k in both
    )
    assert bag(engine.collect(sides[0].subtract_by_key(sides[1]))) == bag(
        (k, v) for k, v in whole(left) if k not in b
    )


# -- actions --------------------------------------------------------------------------------------

numbers = st.integers(-100, 100)


@given(parts=parts_of(numbers))
def test_actions_of_numbers(engine: Engine, parts: Parts) -> None:
    rdd, items = engine.rdd(parts), whole(parts)
    assert engine.run(rdd.count()) == len(items)
    assert engine.run(rdd.sum()) == sum(items)
    assert engine.run(rdd.count_by_value()) == Counter(items)
    assert engine.run(rdd.take_ordered(3)) == heapq.nsmallest(3, items)
    assert engine.run(rdd.top(3, key=abs)) == heapq.nlargest(3, items, key=abs)
    assert engine.run(rdd.fold(0, lambda a, b: a + b)) == sum(items)
    assert engine.run(rdd.is_empty()) == (not items)
    assert engine.run(rdd.take(4)) == items[:4]
    if items:
        assert engine.run(rdd.first()) == items[0]
        assert engine.run(rdd.reduce(lambda a, b: a + b)) == sum(items)
        assert (engine.run(rdd.min()), engine.run(rdd.max())) == (min(items), max(items))
        assert math.isclose(engine.run(rdd.mean()), sum(items) / len(items), abs_tol=1e-9)


@given(parts=parts_of(st.text("abc", max_size=3)), depth=st.integers(1, 4))
def test_reductions_keep_the_order_of_records(engine: Engine, parts: Parts, depth: int) -> None:
    rdd, text = engine.rdd(parts), "".join(whole(parts))
    assert engine.run(rdd.fold("", lambda a, b: a + b)) == text
    assert engine.run(rdd.tree_aggregate("", lambda a, b: a + b, lambda a, b: a + b, depth)) == text
    if whole(parts):
        assert engine.run(rdd.tree_reduce(lambda a, b: a + b, depth)) == text


@given(parts=parts_of(pairs), key=keys)
def test_actions_of_pairs(engine: Engine, parts: Parts, key: Any) -> None:
    rdd, items = engine.rdd(parts), whole(parts)
    assert engine.run(rdd.collect_as_map()) == dict(items)
    assert engine.run(rdd.count_by_key()) == Counter(k for k, _ in items)
    assert engine.run(rdd.lookup(key)) == [v for k, v in items if k == key]


@given(parts=parts_of(numbers), bounds=st.lists(st.integers(-50, 50), min_size=2, max_size=5, unique=True))
def test_histograms(engine: Engine, parts: Parts, bounds: list[int]) -> None:
    bounds.sort()
    ends = [*bounds[1:-1], bounds[-1] + 0.5]
    counts = [sum(low <= x < high for x in whole(parts)) for low, high in zip(bounds, ends, strict=False)]
    assert engine.run(engine.rdd(parts).histogram(bounds)) == (bounds, counts)


@given(parts=parts_of(numbers))
def test_iterating_gives_what_collecting_gives(engine: Engine, parts: Parts) -> None:
    async def iterated() -> list[Any]:
        return [record async for record in engine.rdd(parts).iterate()]

    assert engine.run(iterated()) == whole(parts)


# -- sampling -------------------------------------------------------------------------------------


@given(parts=parts_of(numbers), seed=st.integers(0, 2**31), fraction=st.floats(0, 1), replaced=st.booleans())
def test_a_sample_depends_on_its_seed_alone(
    engine: Engine, parts: Parts, seed: int, fraction: float, replaced: bool
) -> None:
    sample = engine.collect(engine.rdd(parts).sample(replaced, fraction, seed))
    before = engine.rdd([[0], [0]])
    moved = before.union(engine.rdd(parts).sample(replaced, fraction, seed)).coalesce(1)
    assert engine.collect(moved) == [0, 0, *sample]
    assert set(sample) <= set(whole(parts))


@given(
    parts=parts_of(numbers),
    seed=st.integers(0, 2**31),
    weights=st.lists(st.floats(0.1, 5), min_size=1, max_size=4),
)
def test_a_split_is_disjoint_and_whole(engine: Engine, parts: Parts, seed: int, weights: list[float]) -> None:
    pieces = [engine.collect(piece) for piece in engine.rdd(parts).random_split(weights, seed)]
    assert bag(x for piece in pieces for x in piece) == bag(whole(parts))


@given(parts=parts_of(numbers), n=st.integers(0, 12), seed=st.integers(0, 2**31), replaced=st.booleans())
def test_a_drawn_sample_is_part_of_the_whole(
    engine: Engine, parts: Parts, n: int, seed: int, replaced: bool
) -> None:
    drawn = engine.run(engine.rdd(parts).take_sample(replaced, n, seed))
    assert drawn == engine.run(engine.rdd(parts).take_sample(replaced, n, seed))
    items = whole(parts)
    assert len(drawn) == ((n if items else 0) if replaced else min(n, len(items)))
    assert set(drawn) <= set(items)
    if not replaced:
        assert not bag(drawn) - bag(items)
