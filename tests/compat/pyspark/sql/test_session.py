"""SparkSession as the way to a SparkContext."""

from __future__ import annotations

import pytest

from aiostream_engine.compat.pyspark import SparkConf, SparkContext
from aiostream_engine.compat.pyspark.missing import NotInThisLayerError
from aiostream_engine.compat.pyspark.sql import SparkSession


@pytest.fixture
def spark():
    with (
        SparkSession.builder.master("local[1]").appName("door").config("spark.some", True).getOrCreate() as it
    ):
        yield it


def test_a_session_leads_to_a_context(spark):
    assert spark.sparkContext.appName == "door"
    assert spark.sparkContext.parallelize([1, 2]).sum() == 3
    assert spark.version == spark.sparkContext.version


def test_there_is_one_session(spark):
    assert SparkSession.builder.config("spark.later", 1).getOrCreate() is spark
    assert SparkSession.getActiveSession() is spark
    assert (spark.conf.get("spark.some"), spark.conf.get("spark.later")) == ("true", "1")


def test_its_configuration_may_be_changed(spark):
    spark.conf.set("spark.mine", False)
    assert spark.conf.getAll["spark.mine"] == "false"
    spark.conf.unset("spark.mine")
    assert spark.conf.get("spark.mine", "none") == "none"
    assert not spark.conf.isModifiable("spark.mine")


def test_sql_of_a_session_tells_what_to_do_instead(spark):
    with pytest.raises(NotInThisLayerError, match=r"SparkSession.createDataFrame is not there.*DuckDB"):
        spark.createDataFrame([(1,)])


def test_it_begins_on_a_context_that_is_there_and_ends_with_it():
    with SparkContext("local[1]", "first") as sc:
        session = SparkSession.builder.config(conf=SparkConf().set("spark.x", "y")).getOrCreate()
        assert session.sparkContext is sc
        assert session.conf.get("spark.x") == "y"
        assert SparkSession.builder.enableHiveSupport().getOrCreate() is session
    assert SparkSession.getActiveSession() is None


def test_other_names_of_the_package_say_what_to_do_instead():
    with pytest.raises(ImportError, match=r"pyspark.sql.Row is not there.*a SQL lane is planned"):
        from aiostream_engine.compat.pyspark.sql import Row  # noqa: F401
