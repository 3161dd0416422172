"""The small arithmetic behind every published figure."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads modules of ``benchmarks/common``, which is no installed package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield lambda name: importlib.import_module(f"common.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] == "common"]:
        del sys.modules[name]


def test_a_percentile_is_a_value_that_was_seen(common: Any) -> None:
    percentile = common("statistics").percentile
    values = [4.0, 1.0, 3.0, 2.0]
    assert [percentile(values, percent) for percent in (0, 25, 50, 51, 99, 100)] == [1, 1, 2, 3, 4, 4]


def test_a_percentile_of_nothing_is_refused(common: Any) -> None:
    with pytest.raises(ValueError, match="needs values"):
        common("statistics").percentile([], 50)


def test_a_table_keeps_its_columns_aligned(common: Any) -> None:
    table = common("table").render_table(["who", "rate"], [["engine", "5.10 M"], ["a loop", "4"]])
    assert table.splitlines() == [
        "| who    |   rate |",
        "| ------ | -----: |",
        "| engine | 5.10 M |",
        "| a loop |      4 |",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.1234, "0.123"),
        (5.678, "5.68"),
        (56.78, "56.8"),
        (9999, "9999"),
        (12_345, "12.3 k"),
        (8.6e6, "8.60 M"),
    ],
)
def test_figures_keep_three_digits(common: Any, value: float, shown: str) -> None:
    assert common("table").format_figure(value) == shown


def test_each_measurement_is_one_json_line_with_its_median(common: Any, tmp_path: Path) -> None:
    record = common("record")
    summary = common("statistics").summarize([3.0, 1.0, 2.0])
    machine = {"cpu": "any"}
    good = record.Measurement(
        "P1", "ours", "1", "rate", "words/s", "ok", summary, {}, machine, "today", False
    )
    bad = record.Measurement(
        "P1", "peer", "", "rate", "words/s", "not-installed", None, {}, machine, "today", False
    )
    record.append_measurements(tmp_path / "new" / "lines.jsonl", [good, bad])
    first, second = map(json.loads, (tmp_path / "new" / "lines.jsonl").read_text().splitlines())
    assert (first["value"], first["runs"], first["min"], first["max"]) == (2.0, 3, 1.0, 3.0)
    assert second["status"] == "not-installed"
    assert "value" not in second


def test_equal_counts_have_equal_digests_whatever_their_order(common: Any) -> None:
    digest = common("program").digest_counts
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})


def test_a_crashed_program_gives_an_error_with_its_last_words(common: Any, tmp_path: Path) -> None:
    contender = common("contender")
    program = tmp_path / "program.py"
    program.write_text("raise SystemExit('out of ideas')")
    outcome = contender.run_contender(contender.Contender("x", "X", str(program)), timeout_s=60)
    assert "exit status 1" in outcome.error
    assert "out of ideas" in outcome.error
    assert outcome.metrics == {}
