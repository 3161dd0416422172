"""docs/pyspark.md says of every public name of PySpark what the layer makes of it."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest

from tests.compat.pyspark.real_spark import ROOT, made_environment

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]  # the first run installs PySpark


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pyspark_table", ROOT / "scripts" / "pyspark_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table() -> Any:
    made_environment()
    return script().table()


def test_each_name_and_each_signature_is_the_same_or_explained(table: Any) -> None:
    assert table.problems() == []


def test_the_document_is_up_to_date(table: Any) -> None:
    module = script()
    assert module.document(table) == module.DOCUMENT.read_text(), "run scripts/pyspark_table.py"


def test_of_streaming_only_handles_of_the_jvm_and_kinesis_are_missing(table: Any) -> None:
    owners = {
        name
        for module in ("streaming", "streaming.dstream", "streaming.kinesis")
        for name in script().CLASSES[module]
    }
    streaming = {
        name for name in table.theirs if name.split(".")[0] in owners or name.startswith("streaming")
    }
    assert len(streaming) > 50
    missing = {name for name in streaming if table.status(name)[0] == "missing"}
    assert missing <= set(table.may_be_missing)


def test_a_name_without_explanation_is_found(table: Any) -> None:
    module = script()
    poorer = module.Table(
        {"RDD.map": [["f", ""]], "RDD.news": [], "RDD.old": []},
        {"RDD.map": [["g", ""]], "RDD.old": []},
        {"RDD.old": "why"},
        {"differs": {"RDD.ghost": "x"}, "missing": {}, "signatures": {}, "may_be_missing": []},
    )
    texts = "\n".join(poorer.problems())
    assert len(poorer.problems()) == 4
    for name in (
        "RDD.map takes",
        "RDD.news is not in the layer",
        "RDD.old is said",
        "RDD.ghost is explained",
    ):
        assert name in texts
