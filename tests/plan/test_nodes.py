"""Lineages are walked parents first, each node once, however long they are."""

from __future__ import annotations

from typing import Any

from aiostream_engine import RDD, EngineContext
from aiostream_engine.plan.explain import lineage
from aiostream_engine.plan.nodes import Source, parents_of, walk_nodes

sc = EngineContext("local", parallelism=2)


def test_parents_come_first_and_each_node_once() -> None:
    base = sc.range(4).map(lambda n: (n, n))
    joined = base.join(base.map_values(str)).union(base)
    order = [node.id for node in walk_nodes(joined.node)]
    assert len(order) == len(set(order))
    assert order[-1] == joined.node.id
    places = {number: place for place, number in enumerate(order)}
    for node in walk_nodes(joined.node):
        assert all(places[parent.id] < places[node.id] for parent in parents_of(node))


def test_what_is_replaced_hides_its_parents() -> None:
    base = sc.range(4).map(str)
    top = base.map(len)
    stand_in = Source(name="kept", parts=((), ()), partitions=2)
    names = [node.name for node in walk_nodes(top.node, {base.node.id: stand_in})]
    assert len(names) == 2
    assert "range" not in names


def test_a_long_lineage_is_walked_and_printed_without_recursion() -> None:
    rdd: RDD[Any] = sc.range(2)
    for _ in range(5000):
        rdd = rdd.map(str)
    assert sum(1 for _ in walk_nodes(rdd.node)) == 5001
    assert lineage(rdd.node).count("\n") == 5000


def test_numbers_rise_in_the_order_of_making() -> None:
    first, second = sc.range(2), sc.range(2)
    assert first.id < second.id < first.map(str).id
