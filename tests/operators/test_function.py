"""Functions as values: equal by content, blamed by name, refused at start when they cannot be sent."""

from __future__ import annotations

import functools
import operator
import pickle
import threading
from typing import Any

import cloudpickle
import pytest

from aiostream_engine.errors import UnpicklableError
from aiostream_engine.operators import kernels
from aiostream_engine.operators.function import Fn, describe_callable
from aiostream_engine.operators.kernels import kernel


def adding(n: int) -> Any:
    return lambda x: x + n


def test_functions_of_equal_content_are_equal() -> None:
    assert Fn(adding(1)) == Fn(adding(1))
    assert hash(Fn(adding(1))) == hash(Fn(adding(1)))
    assert Fn(operator.add) == Fn(operator.add)


def test_functions_that_captured_other_values_differ() -> None:
    assert Fn(adding(1)) != Fn(adding(2))


def test_a_function_keeps_its_identity_through_a_pickle() -> None:
    fn = Fn(adding(1), "step")
    copy = pickle.loads(cloudpickle.dumps(fn))
    assert copy == fn
    assert copy.call(1) == 2
    assert copy.step == "step"


def test_kernels_are_equal_by_name_and_parameters() -> None:
    assert kernel(kernels.first_n, 3) == kernel(kernels.first_n, 3)
    assert kernel(kernels.first_n, 3) != kernel(kernels.first_n, 4)
    assert kernel(kernels.sort_pairs, True) != kernel(kernels.sort_pairs, 1)
    assert kernel(kernels.looked_up, "1") != kernel(kernels.looked_up, 1)
    assert kernel(kernels.reduced, Fn(adding(1))) != kernel(kernels.reduced, Fn(adding(2)))


def test_only_kernels_without_a_function_of_the_user_may_run_in_the_driver() -> None:
    assert kernel(kernels.first_n, 3).builtin
    assert not kernel(kernels.reduced, Fn(max)).builtin
    assert not kernel(sum).builtin


def test_an_unpicklable_capture_is_named_with_its_step() -> None:
    """A18: the error says which step, which variable, and what to do."""
    lock = threading.Lock()
    with pytest.raises(
        UnpicklableError, match=r"step 'guard': .* because of its captured variable 'lock' \(lock\)"
    ):
        _ = Fn(lambda x: (lock, x), "guard").id


LOCK = threading.Lock()


def test_an_unpicklable_global_is_named() -> None:
    """A18: of a function that is sent by value, globals are captured too."""
    function = eval("lambda x: (LOCK, x)", {"LOCK": LOCK, "__name__": "__main__"})
    with pytest.raises(UnpicklableError, match="global 'LOCK'"):
        _ = Fn(function, "guard").id


def test_descriptions_are_short_and_say_where_a_lambda_is() -> None:
    assert describe_callable(str.split) == "str.split"
    assert describe_callable(operator.add) == "add"
    assert describe_callable(functools.partial(int, base=2)) == "partial"
    line = adding.__code__.co_firstlineno + 1
    assert describe_callable(adding(1)) == f"lambda@test_function.py:{line}"


def test_what_a_closure_captured_is_frozen_when_it_is_read_first() -> None:
    """The content that names a plan is the content that workers get, also when it is sent again."""
    captured = {"n": 1}
    fn = Fn(lambda x: x + captured["n"])
    first = fn.id
    captured["n"] = 100
    again = pickle.loads(cloudpickle.dumps(fn))
    assert (again.call(1), again.id) == (2, first)


def test_an_own_function_with_parameters_carries_the_frozen_content_of_them() -> None:
    captured = {"n": 1}
    fn = kernel(kernels.reduced, Fn(lambda a, b: a + b + captured["n"]))
    captured["n"] = 100
    assert pickle.loads(cloudpickle.dumps(fn)).call([1, 2]) == [4]
