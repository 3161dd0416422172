"""Each scenario that a release must hold is named by a test, and the page of guarantees says by which."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "guarantees.md"

GATE_OF_GROUP = {
    "A": (1, 3, 5, 6, 8, 10, 12, 16, 17, 18, 23, 24),
    "B": (1, 2, 3, 4, 5, 6, 7, 9, 12, 13),
    "C": (1, 3, 4, 5, 6, 8, 10, 16),
    "D": (1, 2),
    "E": (1, 3, 5, 6, 8, 14),
    "F": (1, 3, 4, 9),
    "G": (1, 8),
    "H": (3,),
    "I": (1, 3, 4),
}
GATE = [f"{group}{number}" for group, numbers in GATE_OF_GROUP.items() for number in numbers]
WHOLE_GROUPS = {"B": 14, "C": 17, "H": 12}
REQUIRED = {*GATE, *(f"{group}{n}" for group, count in WHOLE_GROUPS.items() for n in range(1, count + 1))}


@cache
def docstrings(path: Path) -> dict[str, str]:
    """Of the test functions of a file."""
    return {
        node.name: ast.get_docstring(node) or ""
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def table() -> dict[str, str]:
    """Scenario -> test, as the page has them."""
    section = PAGE.read_text().split("### Scenario by scenario")[1].split("\n### ")[0]
    rows = re.findall(r"^\| ([A-J]\d+) \|.*\| `([^`|]+)` \|$", section, re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a scenario is listed twice"
    return dict(rows)


def test_the_gate_has_its_forty_eight_scenarios() -> None:
    assert len(set(GATE)) == 48


@pytest.mark.parametrize("scenario", sorted(REQUIRED))
def test_each_scenario_is_named_by_a_test(scenario: str) -> None:
    name = re.compile(rf"\b{scenario}\b")
    assert any(name.search(text) for path in TESTS.rglob("test_*.py") for text in docstrings(path).values())


def test_the_page_lists_each_scenario() -> None:
    assert REQUIRED - table().keys() == set()


@pytest.mark.parametrize(("scenario", "test"), table().items())
def test_the_test_that_the_page_names_is_there_and_names_the_scenario(scenario: str, test: str) -> None:
    file, _, function = test.partition("::")
    assert re.search(rf"\b{scenario}\b", docstrings(TESTS / file)[function])
