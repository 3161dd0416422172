"""Budgets of size: a ratchet. A cap is only ever lowered; an exception is named with its reason."""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[2] / "aiostream_engine"

FUNCTION_LINES_MEDIAN = 9
FUNCTION_LINES_P90 = 35
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 700

# path:function -> why it is one piece.
FUNCTIONS_EXCEPTED: dict[str, str] = {}
# path -> why it is one file.
FILES_EXCEPTED: dict[str, str] = {}


class Function(NamedTuple):
    """A function and the lines of code it spans, its docstring not counted."""

    place: str
    lines: int


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def functions() -> Iterator[Function]:
    for path in files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Function(f"{path.relative_to(PACKAGE)}:{node.name}", _lines(node))


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    lines = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_no_function_is_longer_than_the_cap():
    long = {place: lines for place, lines in functions() if lines > FUNCTION_LINES_MAX}
    assert {place: lines for place, lines in long.items() if place not in FUNCTIONS_EXCEPTED} == {}


def test_functions_are_short_in_the_middle_and_at_the_ninetieth_percentile():
    lines = [function.lines for function in functions()]
    assert statistics.median(lines) <= FUNCTION_LINES_MEDIAN
    assert statistics.quantiles(lines, n=10)[-1] <= FUNCTION_LINES_P90


def test_no_file_is_longer_than_the_cap():
    long = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in files()}
    over = {path: lines for path, lines in long.items() if lines > FILE_LINES_MAX}
    assert {path: lines for path, lines in over.items() if path not in FILES_EXCEPTED} == {}


def test_every_exception_is_still_needed():
    present = {function.place: function.lines for function in functions()}
    stale = [place for place in FUNCTIONS_EXCEPTED if present.get(place, 0) <= FUNCTION_LINES_MAX]
    for path in FILES_EXCEPTED:
        file = PACKAGE / path
        if not file.exists() or len(file.read_text().splitlines()) <= FILE_LINES_MAX:
            stale.append(path)
    assert stale == []
