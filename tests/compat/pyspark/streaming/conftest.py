"""A context of the layer for the tests of streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aiostream_engine.compat.pyspark.conf import SparkConf
from aiostream_engine.compat.pyspark.context import SparkContext
from aiostream_engine.compat.pyspark.streaming import StreamingContext

INTERVAL_S = 0.05


@pytest.fixture(scope="module")
def sc() -> Iterator[SparkContext]:
    """Two workers, for all tests of a module; every missed tick has a batch, as in Spark."""
    conf = SparkConf().set("spark.aiostream.missedTicks", "every")
    with SparkContext("local[2]", "streams", conf=conf) as context:
        yield context


@pytest.fixture
def ssc(sc: SparkContext, tmp_path: Any) -> Iterator[StreamingContext]:
    """A fresh stream, stopped afterwards."""
    context = StreamingContext(sc, INTERVAL_S)
    yield context
    context.stop(stopSparkContext=False)


@pytest.fixture
def batches_of(ssc: StreamingContext) -> Callable[..., list[Any]]:
    """The first so many batches of a stream, each as a list; starts the context."""
    from tests.compat.pyspark.streaming.cases import Batches

    def run(stream: Any, count: int) -> list[Any]:
        batches = Batches(stream)
        ssc.start()
        return batches.first(count)

    return run
