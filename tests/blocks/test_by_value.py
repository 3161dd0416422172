"""Functions sent by value come back as they were, and their tracebacks name their file."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable

import pytest

from aiostream_engine.blocks.by_value import dumps_by_value


def nested(base: int) -> Callable[[int], Callable[[], float]]:
    return lambda x: lambda: base / x


def test_a_copy_works_and_keeps_what_it_captured() -> None:
    copy = pickle.loads(dumps_by_value(nested(6)))
    assert copy(3)() == 2.0


def test_an_error_in_a_copy_names_file_and_line_at_every_depth() -> None:
    copy = pickle.loads(dumps_by_value(nested(6)))
    assert copy.__code__.co_filename == __file__
    with pytest.raises(ZeroDivisionError) as caught:
        copy(0)()
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.filename, last.lineno) == (__file__, nested.__code__.co_firstlineno + 1)


def test_methods_of_a_class_by_value_name_their_file() -> None:
    class Order:
        def total(self) -> int:
            return 3

    copy = pickle.loads(dumps_by_value(Order))
    assert copy is Order or copy().total() == 3
    assert copy.total.__code__.co_filename == __file__


def test_equal_functions_give_equal_bytes() -> None:
    first, second = nested(1), nested(1)
    assert dumps_by_value(first) == dumps_by_value(second)


def test_what_cannot_be_pickled_raises() -> None:
    with pytest.raises(TypeError, match="generator"):
        dumps_by_value(x for x in ())
