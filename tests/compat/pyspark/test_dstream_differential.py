"""DStreams under real PySpark and under the layer: the same programs, compared batch by batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.compat.pyspark import dstream_programs as programs
from tests.compat.pyspark.real_spark import Comparison, LayerEnvironment

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]  # the first run installs PySpark


@pytest.fixture(scope="module")
def layer() -> Iterator[LayerEnvironment]:
    """As Spark, every tick has a batch, so that windows hold the same batches."""
    from aiostream_engine.compat.pyspark import SparkConf, SparkContext

    os.environ["PYTHONHASHSEED"] = os.environ.get("PYTHONHASHSEED", "0")
    conf = SparkConf().set("spark.aiostream.missedTicks", "every")
    with SparkContext("local[2]", "comparison", conf=conf) as sc:
        yield LayerEnvironment(sc)


# Inputs that are generated for a run of each of the two tests, beside the ones that are always there.
INPUTS = 2

numbers = st.integers(-20, 20)
partitions = st.lists(numbers, max_size=5)
states = st.lists(
    st.tuples(st.sampled_from([0, 2, 3, 4]), numbers), max_size=4, unique_by=lambda pair: pair[0]
)


def queues(batches_max: int) -> st.SearchStrategy[list[programs.Batch]]:
    """Batches with and without records and partitions."""
    batch = st.none() | st.lists(partitions, min_size=1, max_size=2)
    queue = st.lists(batch, min_size=1, max_size=batches_max)
    return queue.filter(lambda batches: sum(len(part) for batch in batches for part in batch or ()) > 3)


def several(inputs: st.SearchStrategy[list[programs.Batch]]) -> st.SearchStrategy[list[list[programs.Batch]]]:
    """Inputs for one run, one after the other in the queue: most of a run's time goes before its batches."""
    return st.lists(inputs, min_size=INPUTS, max_size=INPUTS)


def joined(inputs: list[list[programs.Batch]]) -> list[programs.Batch]:
    """All batches."""
    return [batch for queue in inputs for batch in queue]


def generated(examples: int) -> settings:
    """Each try takes seconds: few are made, and nothing is shrunk."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


# Always there, before the generated ones.
LEFT: list[programs.Batch] = [[[1, 2, 3], [4, 5]], None]
RIGHT: list[programs.Batch] = [[[1, 2], [6]], [[3], []]]
LONG: list[programs.Batch] = [[[1, 2, 3], [4, 5]], [[], [7]], None, [[2, 2, 9]], [[1], [1]]]
STATES = [(1, 5), (9, 9)]


@given(a=several(queues(3)), b=several(queues(2)))
@generated(1)
def test_operators_give_what_spark_gives_in_each_batch(comparison: Comparison, a, b):
    """Row DS-2: an RDD without partitions, one of empty partitions, and none at all are three things."""
    left, right = [*LEFT, *joined(a)], [*RIGHT, *joined(b)]
    assert_same(comparison, "on_single_batches", left, right, max(len(left), len(right)) + 1)


@given(a=several(queues(4)), initial=states)
@generated(1)
def test_windows_and_states_give_what_spark_gives_in_each_batch(comparison: Comparison, a, initial):
    """Windows begin in part; states start from pairs; both go on when there is nothing new."""
    queue = [*LONG, *joined(a)]
    assert_same(comparison, "on_many_batches", queue, [*STATES, *initial], len(queue) + 3)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@given(a=queues(7), b=queues(3), initial=states)
@generated(15)
def test_the_same_over_many_more_inputs(comparison: Comparison, a, b, initial):
    assert_same(comparison, "on_single_batches", a, b, 4)
    assert_same(comparison, "on_many_batches", a, initial, 10)


@pytest.mark.parametrize("where", ["worker", "transform", "callback"])
def test_a_failure_costs_the_outputs_that_it_costs_in_spark(comparison: Comparison, where):
    """Rows SCH-6 … SCH-8: other outputs and later batches go on; after a transform none of its batch."""
    found = assert_same(comparison, "failing", where)
    assert found["told"] == [(0, True)]
    assert [number for number, _ in found["before"]][:3] == ([0, 2] if where == "transform" else [0, 1, 2])


def assert_same(comparison: Comparison, program: str, *args: Any) -> dict[str, Any]:
    """Both give the same in each batch of each stream; gives that."""
    theirs, mine = comparison.both(programs.__name__, program, *args)
    assert theirs[0] == "ok", f"under real PySpark: {theirs[-1]}"
    assert mine[0] == "ok", f"under the layer: {mine[-1]}"
    different = [
        f"{name}, batch {number}: real PySpark gives {dict(theirs[1][name]).get(number, 'nothing')}, "
        f"the layer {dict(mine[1][name]).get(number, 'nothing')}"
        for name in theirs[1]
        for number in sorted({*dict(theirs[1][name]), *dict(mine[1][name])})
        if dict(theirs[1][name]).get(number, "nothing") != dict(mine[1][name]).get(number, "nothing")
    ]
    assert not different, "\n".join(different)
    result: dict[str, Any] = mine[1]
    return result
