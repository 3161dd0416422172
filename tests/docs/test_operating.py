"""The limits that docs/operating.md lists are those of the code, by name and default."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine import config
from aiostream_engine.engine import EngineContext
from aiostream_engine.observe import events

PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
CONFIGS = [
    value
    for name in config.__all__
    if dataclasses.is_dataclass(value := getattr(config, name)) and name != "Master"
]


def section(title: str) -> str:
    found = re.search(rf"^### {title}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/operating.md has no section {title}"
    return found[1]


def listed(title: str) -> dict[str, Any]:
    """Name and default of each row of the section's table."""
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \| (.+) \|$", section(title), re.MULTILINE)
    return {name: ast.literal_eval(default) for name, default, _ in rows}


@pytest.mark.parametrize("value", CONFIGS, ids=lambda value: value.__name__)
def test_every_option_is_listed_with_its_default(value: type):
    defaults = {field.name: field.default for field in dataclasses.fields(value)}
    assert listed(value.__name__) == {
        name: default for name, default in defaults.items() if default is not dataclasses.MISSING
    }


def test_every_section_of_limits_is_of_a_configuration():
    titles = re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)
    assert set(titles) == {value.__name__ for value in CONFIGS} | {"EngineContext"}


def test_the_limits_of_an_engine_are_its_parameters():
    parameters = inspect.signature(EngineContext).parameters
    for name, default in listed("EngineContext").items():
        assert parameters[name].default == default, name


def test_every_event_is_named():
    kinds = {name for name in events.__all__ if issubclass(getattr(events, name), events.Event)} - {"Event"}
    assert [kind for kind in sorted(kinds) if f"`{kind}`" not in PAGE] == []
