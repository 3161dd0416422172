"""Public names: what is promised is there, and is listed in order."""

import importlib
import pkgutil
from pathlib import Path

import pytest

import aiostream_engine
import aiostream_engine.testing

OPTIONAL = {"aiokafka", "rich", "typer", "ray", "pyarrow"}
PACKAGES = [aiostream_engine, aiostream_engine.testing]


def modules() -> list[str]:
    found = pkgutil.walk_packages(aiostream_engine.__path__, "aiostream_engine.")
    return [module.name for module in found if not module.name.endswith("__main__")]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_resolves(package):
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_public_names_are_sorted_listed_and_typed(package):
    assert list(package.__all__) == sorted(set(package.__all__))
    assert set(package.__all__) <= set(dir(package))
    source = Path(str(package.__file__)).read_text()
    untyped = [name for name in package.__all__ if f" import {name} as {name}\n" not in source]
    assert untyped == [], "a type checker does not see them"


def test_a_name_that_does_not_exist_is_an_attribute_error():
    for package in PACKAGES:
        with pytest.raises(AttributeError, match="no_such_name"):
            package.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", modules())
def test_what_a_module_lists_is_there_once_and_in_order(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in OPTIONAL:
            pytest.skip(f"{error.name} is not installed")
        raise
    listed = getattr(module, "__all__", [])
    assert [one for one in listed if not hasattr(module, one)] == []
    assert len(set(listed)) == len(listed)


def test_the_package_is_marked_as_typed():
    assert (Path(str(aiostream_engine.__file__)).parent / "py.typed").exists()


def test_the_version_is_that_of_the_project():
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    assert f'version = "{aiostream_engine.__version__}"' in pyproject.read_text()
