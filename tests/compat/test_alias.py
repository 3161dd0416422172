"""One package under another name."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import types

import pytest

from aiostream_engine.compat.alias import ALIAS_VARIABLE, Alias, install_from_environment
from aiostream_engine.compat.pyspark.install import install_as_pyspark


@pytest.fixture
def undo():
    remove = install_as_pyspark()
    yield remove
    remove()


@pytest.fixture
def alias():
    made = Alias("stand_in", "email", {"stand_in.absent": "absent is left out: use mime"})
    made.install()
    yield made
    made.remove()


def test_the_name_gives_the_very_modules_of_the_package(alias):
    import email.mime.text

    module = importlib.import_module("stand_in.mime.text")
    assert module is email.mime.text
    assert module.__spec__.name == "email.mime.text"
    assert importlib.import_module("stand_in") is sys.modules["email"]


def test_a_module_that_is_missing_on_purpose_says_why(alias):
    with pytest.raises(ModuleNotFoundError, match="absent is left out: use mime") as caught:
        importlib.import_module("stand_in.absent.more")
    assert caught.value.name == "stand_in.absent"


def test_another_missing_module_is_reported_under_the_name_that_was_asked_for(alias):
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'stand_in.nothing'"):
        importlib.import_module("stand_in.nothing")


def test_removing_takes_the_name_and_the_variable_away(alias):
    importlib.import_module("stand_in.mime")
    assert os.environ[ALIAS_VARIABLE] == "stand_in=email"
    alias.remove()
    assert not [name for name in sys.modules if name.startswith("stand_in")]
    assert ALIAS_VARIABLE not in os.environ
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("stand_in")


def test_a_package_of_that_name_is_put_aside_and_comes_back():
    real = sys.modules["stand_in"] = types.ModuleType("stand_in")
    alias = Alias("stand_in", "email")
    try:
        alias.install()
        assert importlib.import_module("stand_in") is sys.modules["email"]
        alias.remove()
        assert importlib.import_module("stand_in") is real
    finally:
        alias.remove()
        del sys.modules["stand_in"]


def test_installing_and_removing_twice_changes_nothing(alias):
    before = list(sys.meta_path)
    alias.install()
    assert sys.meta_path == before
    alias.remove()
    alias.remove()
    assert not alias.active


def test_a_worker_takes_the_alias_from_its_environment(alias, monkeypatch):
    code = (
        "from aiostream_engine.compat.alias import install_from_environment as install\n"
        "install(); import stand_in.mime, sys; assert stand_in is sys.modules['email']\n"
        "assert 'asyncio' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    monkeypatch.setenv(ALIAS_VARIABLE, "")
    before = list(sys.meta_path)
    install_from_environment()
    assert sys.meta_path == before


def test_pyspark_is_this_layer_between_install_and_undo(undo):
    from pyspark import SparkConf, SparkContext, StorageLevel
    from pyspark.streaming import DStream, StreamingContext, StreamingListener
    from pyspark.streaming.dstream import TransformedDStream

    import aiostream_engine.compat.pyspark.streaming as layer

    assert StreamingContext is layer.StreamingContext
    assert DStream is layer.DStream
    assert issubclass(TransformedDStream, DStream)
    assert StreamingListener is layer.StreamingListener
    assert SparkContext.__module__ == "aiostream_engine.compat.pyspark.context"
    assert SparkConf.__module__.startswith("aiostream_engine")
    assert StorageLevel.MEMORY_ONLY is not None
    undo()
    assert "pyspark" not in sys.modules


def test_exceptions_of_py4j_are_those_of_the_layer(undo):
    from py4j.protocol import Py4JError, Py4JJavaError

    from aiostream_engine.compat.pyspark.errors import PythonException

    assert issubclass(PythonException, Py4JJavaError)
    assert issubclass(Py4JError, Exception)
    assert os.environ[ALIAS_VARIABLE] == "pyspark=aiostream_engine.compat.pyspark"
    undo()
    assert "py4j" not in sys.modules


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("pyspark.sql.types", "pandas, DuckDB or sqlite3"),
        ("pyspark.pandas", "pyspark.pandas is not there"),
        ("pyspark.sql.functions", "a SQL lane is planned"),
        ("pyspark.mllib.clustering", "partial_fit"),
        ("pyspark.streaming.kinesis", "no Kinesis source yet"),
    ],
)
def test_what_the_layer_lacks_tells_what_to_do_instead(undo, module, text):
    with pytest.raises(ModuleNotFoundError, match=text):
        importlib.import_module(module)
