"""Fixtures that compare with real PySpark."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compat.pyspark.real_spark import Comparison, LayerEnvironment, RealSpark


@pytest.fixture(scope="session")
def real_spark() -> Iterator[RealSpark]:
    """One real SparkContext for the run; skips with the reason where there can be none, fails in CI."""
    spark = RealSpark()
    yield spark
    spark.close()


@pytest.fixture(scope="module")
def layer() -> Iterator[LayerEnvironment]:
    """The layer's context on ``local[2]``, for the tests of one module."""
    from aiostream_engine.compat.pyspark import SparkContext

    with SparkContext("local[2]", "comparison") as sc:
        yield LayerEnvironment(sc)


@pytest.fixture(scope="module")
def comparison(real_spark: RealSpark, layer: LayerEnvironment) -> Comparison:
    """Runs programs under both."""
    return Comparison(real_spark, layer)
