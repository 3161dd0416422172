"""What the pages on the inside call by name is there: files, classes, functions and methods."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "aiostream_engine"
PAGES = [ROOT / "docs" / name for name in ("architecture.md", "life-of-a-batch.md")]


@cache
def members() -> dict[str, set[str]]:
    """Names that are defined in each class of the package; functions of modules under an empty name."""
    found: dict[str, set[str]] = {"": set()}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).update(defined(node.body))
            found[""].update(defined([node]))
    return found


def defined(body: list[ast.stmt]) -> set[str]:
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return names


def quoted(page: Path) -> list[str]:
    """What stands in backticks outside of code blocks."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page: Path):
    paths = [name for name in quoted(page) if re.fullmatch(r"[\w./]+(\.py|/)", name) and name != "/"]
    roots = (PACKAGE, ROOT, Path("/"))
    missing = [name for name in paths if not any((root / name).exists() for root in roots)]
    assert paths
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_method_that_is_named_exists(page: Path):
    methods = [name.split(".") for name in quoted(page) if re.fullmatch(r"_?[A-Z]\w+\.\w+", name)]
    assert methods
    assert [f"{owner}.{name}" for owner, name in methods if name not in members().get(owner, set())] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_class_that_is_named_exists(page: Path):
    classes = [name for name in quoted(page) if re.fullmatch(r"_?[A-Z][a-z]\w+", name)]
    assert classes
    assert [name for name in classes if name not in members()[""]] == []


def test_every_function_of_the_life_of_a_batch_exists():
    found = re.findall(r"`(\w+)`\s+(?:in|\()\s*`([\w/]+\.py)`", PAGES[1].read_text())
    assert found
    for name, path in found:
        assert name in defined(ast.parse((PACKAGE / path).read_text()).body), f"{name} in {path}"


def test_every_room_is_in_the_table_of_the_architecture():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    table = PAGES[0].read_text().split("## Who may import whom")[0]
    assert [room for room in sorted(rooms) if f"`{room}/`" not in table] == []


def test_the_layers_of_the_page_are_those_of_the_contract():
    contract = (ROOT / ".importlinter").read_text()
    (shown,) = re.findall(r"^```text\n(.*?)^```$", PAGES[0].read_text(), re.MULTILINE | re.DOTALL)
    layers = re.search(r"^layers =\n((?: .*\n|#.*\n)+)", contract, re.MULTILINE)
    assert layers is not None
    real = [re.sub(r"[()]", "", line.strip()) for line in layers[1].splitlines() if line.startswith(" ")]
    for line, floor in zip(shown.splitlines(), real, strict=True):
        if "," not in line:  # the public face is shortened
            assert line == floor
