"""Rules change how fast an answer comes, never the answer: each chain with and without them.

The functions are those that rules recognise or nearly recognise.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiostream_engine import RDD
from aiostream_engine.errors import AiostreamError, StepError
from tests.property.engines import Engine, Parts, keys, pairs, parts_of

text = st.text(" ab\n\tä", max_size=12)
mixed = st.one_of(text, st.integers(-3, 3), st.none(), st.tuples(keys, st.integers(-2, 2)), st.floats(-1, 1))

Step = Callable[[RDD[Any]], RDD[Any]]

# Many of these fail on some of the records: then both must fail alike.
STEPS: dict[str, Step] = {
    "split": lambda r: r.flat_map(lambda line: line.split()),
    "str.split": lambda r: r.flat_map(str.split),
    "split at blanks": lambda r: r.flat_map(lambda line: line.split(" ")),
    "length": lambda r: r.map(len),
    "length by lambda": lambda r: r.map(lambda x: len(x)),
    "upper": lambda r: r.map(str.upper),
    "contains": lambda r: r.filter(lambda x: "a" in x),
    "is it": lambda r: r.filter(lambda x: x),
    "bool": lambda r: r.filter(bool),
    "not zero": lambda r: r.filter(lambda x: x != 0),
    "plus one": lambda r: r.map(lambda x: x + 1),
    "reciprocal": lambda r: r.map(lambda x: 1 / x),
    "format": lambda r: r.map(lambda x: f"{x}|{x!r}"),
    "choose": lambda r: r.map(lambda x: x if isinstance(x, str) else str(x)),
    "pair with one": lambda r: r.map(lambda x: (x, 1)),
    "pair with length": lambda r: r.map(lambda x: (str(x), len(str(x)))),
    "key by": lambda r: r.key_by(lambda x: str(x)[:1]),
    "map values": lambda r: r.map_values(lambda v: (v, v)),
    "constant values": lambda r: r.map_values(lambda v: 7),
    "flat map values": lambda r: r.flat_map_values(lambda v: [v, v]),
    "keys": lambda r: r.keys(),
    "values": lambda r: r.values(),
    "first of pair": lambda r: r.map(operator.itemgetter(0)),
    "number": lambda r: r.map(int),
    "skip": lambda r: r.map(lambda x: 1 / x, on_error="skip"),
}

ENDS: dict[str, Step] = {
    "nothing": lambda r: r,
    "counted": lambda r: r.map(lambda x: (x, 1)).reduce_by_key(lambda a, b: a + b),
    "summed": lambda r: r.reduce_by_key(operator.add),
    "summed by lambda": lambda r: r.reduce_by_key(lambda a, b: a + b),
    "larger": lambda r: r.reduce_by_key(lambda a, b: a if a > b else b),
    "joined text": lambda r: r.map(lambda x: (str(x)[:1], str(x))).reduce_by_key(lambda a, b: b + a),
    "grouped": lambda r: r.group_by_key(),
    "distinct": lambda r: r.distinct(),
}


async def outcome(rdd: RDD[Any], action: str) -> Any:
    """What an action gives, with the types of things; or which step failed on which record."""
    try:
        if action == "collect":
            return sorted(map(repr, await rdd.collect()))
        if action == "count":
            return await rdd.count()
        return repr(await rdd.reduce(lambda a, b: a + b))
    except StepError as error:
        return error.step.split("(")[0], error.error_type, error.message, error.record, error.partition
    except (AiostreamError, ValueError) as error:
        return type(error), str(error)


@given(
    parts=parts_of(mixed),
    steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=4),
    end=st.sampled_from(sorted(ENDS)),
    action=st.sampled_from(["collect", "count", "reduce"]),
)
def test_rules_change_no_answer_and_no_blame(
    engine: Engine, plain_engine: Engine, parts: Parts, steps: list[str], end: str, action: str
) -> None:
    outcomes = []
    for each in (engine, plain_engine):
        rdd = each.rdd(parts)
        for step in steps:
            rdd = STEPS[step](rdd)
        outcomes.append(each.run(outcome(ENDS[end](rdd), action)))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("step", ["split", "str.split", "split at blanks", "length", "upper", "contains"])
@given(content=text, partitions=st.integers(1, 3))
def test_rules_read_lines_alike(
    engine: Engine, plain_engine: Engine, tmp_path: Path, step: str, end: str, content: str, partitions: int
) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(content.encode())
    outcomes = []
    for each in (engine, plain_engine):
        rdd = ENDS[end](STEPS[step](each.context.text_file(str(path), partitions)))
        outcomes.append(each.run(outcome(rdd, "collect")))
    assert outcomes[0] == outcomes[1]


@given(parts=parts_of(pairs))
def test_rules_keep_the_order_of_evaluation(engine: Engine, plain_engine: Engine, parts: Parts) -> None:
    """Effects of inlined calls happen as often and in the same order."""
    seen = []
    for each in (engine, plain_engine):
        log = each.context.accumulator("", lambda a, b: f"{a},{b}")
        rdd = each.rdd(parts).map(lambda p, log=log: (log.add(p[1]), p)[1])
        each.run(rdd.filter(lambda p: p[1] % 2).map(lambda p: (p[0], p[1] + 1)).reduce_by_key(max).count())
        seen.append(log.value)
    assert seen[0] == seen[1]
