"""Lineages as text."""

from __future__ import annotations

import re

from aiostream_engine import EngineContext
from aiostream_engine.plan.explain import lineage

sc = EngineContext("local", parallelism=2)


def shape(text: str) -> list[str]:
    return [re.sub(r" \[\d+\]", "", line) for line in text.splitlines()]


def test_shuffles_stand_out_and_a_parent_is_deeper() -> None:
    rdd = sc.range(4).map(lambda n: (n, n), name="pair").partition_by(3)
    assert shape(lineage(rdd.node)) == [
        "(3) +-Exchange partition_by by HashPartitioner(3)",
        "(2)   | Narrow pair",
        "(2)     | Source range (2 blocks of range)",
    ]


def test_a_shared_parent_is_printed_once() -> None:
    base = sc.range(4).map(str, name="text")
    lines = shape(lineage(base.union(base.map(len, name="length")).node))
    assert lines == [
        "(4) | Union union",
        "(2)   | Narrow text",
        "(2)     | Source range (2 blocks of range)",
        "(2)   | Narrow length",
        "(2)     | Narrow text (as above)",
    ]
