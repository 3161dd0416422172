"""The tables of names in docs/from-spark-streaming.md are complete, and every name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aiostream_engine import DStream, StreamingContext
from aiostream_engine.engine import EngineContext
from aiostream_engine.rdd import RDD

PAGE = (Path(__file__).parents[2] / "docs" / "from-spark-streaming.md").read_text()

# The public methods of PySpark 4's classes.
PYSPARK_DSTREAM = """
cache checkpoint cogroup combineByKey context count countByValue countByValueAndWindow countByWindow filter
flatMap flatMapValues foreachRDD fullOuterJoin glom groupByKey groupByKeyAndWindow join leftOuterJoin map
mapPartitions mapPartitionsWithIndex mapValues partitionBy persist pprint reduce reduceByKey
reduceByKeyAndWindow reduceByWindow repartition rightOuterJoin saveAsTextFiles slice transform transformWith
union updateStateByKey window
"""
PYSPARK_CONTEXT = """
addStreamingListener awaitTermination awaitTerminationOrTimeout binaryRecordsStream checkpoint getActive
getActiveOrCreate getOrCreate queueStream remember socketTextStream sparkContext start stop textFileStream
transform union
"""


def rows(title: str) -> list[tuple[str, str]]:
    """Spark's cell and ours of each row of the table under ``title``."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    lines = [line.strip("| ").split(" | ") for line in found[1].splitlines() if line.startswith("|")]
    return [(line[0], line[1]) for line in lines[2:]]


def names(cell: str) -> list[str]:
    """The names in backticks, without their arguments."""
    return [name.split("(")[0] for name in re.findall(r"`([^`]+)`", cell)]


CASES = [
    pytest.param("StreamingContext", StreamingContext, PYSPARK_CONTEXT, id="StreamingContext"),
    pytest.param("DStream", DStream, PYSPARK_DSTREAM, id="DStream"),
]


@pytest.mark.parametrize(("title", "ours", "theirs"), CASES)
def test_every_name_of_pyspark_is_in_the_table(title: str, ours: type, theirs: str):
    listed = {name for cell, _ in rows(title) for name in names(cell)}
    assert sorted(set(theirs.split()) - listed) == []


@pytest.mark.parametrize(("title", "ours", "theirs"), CASES)
def test_every_name_that_the_table_promises_exists(title: str, ours: type, theirs: str):
    attributes = {*dir(ours), "context", "engine"}  # set in __init__
    promised = {name for _, cell in rows(title) for name in names(cell)} - {ours.__name__}
    assert sorted(promised - attributes) == []


@pytest.mark.parametrize(("title", "ours", "theirs"), CASES)
def test_every_public_method_of_ours_is_in_the_table(title: str, ours: type, theirs: str):
    listed = {name for _, cell in rows(title) for name in names(cell)}
    public = {name for name in dir(ours) if not name.startswith("_") and callable(getattr(ours, name))}
    assert sorted(public - listed) == []


def test_the_names_of_rdds_and_of_their_context_exist():
    for name in ("sort_by", "take_ordered", "aggregate_by_key", "iterate"):
        assert hasattr(RDD, name)
    for name in re.findall(r"`(\w+)`", PAGE[PAGE.index("`EngineContext` has") :].split(".\n")[0])[1:]:
        assert hasattr(EngineContext, name), name


def test_the_names_are_the_pep_8_forms_of_those_of_spark():
    other = {"foreachRDD": "foreach_rdd", "saveAsObjectFiles": "save_as_pickle_files"}
    for theirs, cell in rows("DStream"):
        for name in names(theirs):
            ours = other.get(name) or re.sub(r"([A-Z])", lambda found: f"_{found[1].lower()}", name)
            assert ours in names(cell) or "—" in cell, name
