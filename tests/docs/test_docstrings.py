"""Everything on the public face says what it does."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

import aiostream_engine
from aiostream_engine import RDD, DStream, EngineContext, StreamingContext

FACE = [RDD, DStream, StreamingContext, EngineContext]
PUBLIC = [getattr(aiostream_engine, name) for name in aiostream_engine.__all__]


def public_members(cls: type) -> Iterator[tuple[str, object]]:
    for name in dir(cls):
        if name.startswith("_"):
            continue
        member = inspect.getattr_static(cls, name)
        if isinstance(member, property | staticmethod | classmethod) or inspect.isfunction(member):
            yield name, member


def docstring(member: object) -> str:
    return inspect.cleandoc(getattr(member, "__doc__", None) or "")


@pytest.mark.parametrize("cls", FACE, ids=lambda cls: cls.__name__)
def test_every_public_method_has_a_docstring(cls: type):
    members = list(public_members(cls))
    assert len(members) > 10
    assert [name for name, member in members if not docstring(member)] == []


@pytest.mark.parametrize("cls", FACE, ids=lambda cls: cls.__name__)
def test_the_first_line_of_a_docstring_is_a_sentence(cls: type):
    for name, member in public_members(cls):
        paragraph = docstring(member).split("\n\n")[0]
        assert paragraph.rstrip().endswith((".", ":", ")")), f"{cls.__name__}.{name}: {paragraph!r}"


@pytest.mark.parametrize("cls", FACE, ids=lambda cls: cls.__name__)
def test_every_public_method_is_annotated(cls: type):
    for name, member in public_members(cls):
        function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
        if inspect.isfunction(function):
            signature = inspect.signature(function)
            missing = [
                parameter.name
                for parameter in list(signature.parameters.values())[1:]
                if parameter.annotation is parameter.empty
            ]
            assert missing == [], f"{cls.__name__}.{name}"
            assert signature.return_annotation is not signature.empty, f"{cls.__name__}.{name}"


@pytest.mark.parametrize("value", PUBLIC, ids=lambda value: getattr(value, "__name__", str(value)))
def test_every_exported_class_has_a_docstring_of_its_own(value: type):
    assert docstring(value)
    # What dataclasses and named tuples write by themselves tells nothing.
    assert not docstring(value).startswith(f"{value.__name__}(")
