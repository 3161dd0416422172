"""An expression is read for certain or not at all."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any

import pytest

from aiostream_engine.planner.rules.lambda_body import lambda_body

WORD = "ERROR"
sorted = sorted  # shadows a builtin, although with itself


@pytest.mark.parametrize(
    ("call", "body"),
    [
        (lambda x: x.split(" "), "{x}.split(' ')"),
        (lambda word: (word, 1), "({x}, 1)"),
        (lambda x: "a" if x else "b", "'a' if {x} else 'b'"),
        (lambda x: 1 < x <= 5 and not x % 2, "1 < {x} <= 5 and (not {x} % 2)"),
        (lambda line: "ERROR" in line, "'ERROR' in {x}"),
        (lambda x: len(x) + -x[1:2][0], "len({x}) + -{x}[1:2][0]"),
        (lambda x: [x, {x: 1}, {x}, *x], "[{x}, {{x}: 1}, {{x}}, *{x}]"),
        (lambda x: f"{x}!{len(x)!r:>5}", "f'{{x}}!{len({x})!r:>5}'"),
        (lambda x: "ä" + x, "'ä' + {x}"),
        (lambda x: print(x, end=""), "print({x}, end='')"),
        (
            lambda x: (
                x  # over several lines
                + 1
            ),
            "{x} + 1",
        ),
        (lambda x: x, "{x}"),
    ],
)
def test_an_expression_is_read_from_the_source(call: Callable[..., Any], body: str) -> None:
    assert lambda_body(call, ("x",)) == body


def test_a_function_of_two_arguments_is_read_too() -> None:
    assert lambda_body(lambda a, b: a * b + a, ("a", "b")) == "{a} * {b} + {a}"
    assert lambda_body(lambda new, old: old + new, ("a", "b")) == "{b} + {a}"
    assert lambda_body(lambda a, b: a, ("x",)) is None


def named(x: Any) -> Any:
    return x + 1


def capturing(n: int) -> Callable[..., Any]:
    return lambda x: x + n


class Mangled:
    read = staticmethod(lambda x: x.__secret)


@pytest.mark.parametrize(
    "call",
    [
        named,
        capturing(1),
        len,
        str.upper,
        Mangled.read,
        lambda x, y=1: x + y,
        lambda *x: x,
        lambda **x: x,
        lambda x, *, y: x + y,
        lambda x: WORD in x,
        lambda x: sorted(x),
        lambda x: [y + 1 for y in x],
        lambda x: {y: y + 1 for y in x},
        lambda x: (y + 1 for y in x),
        lambda x: (lambda: x),
        lambda x: (y := x) + y,
        lambda x: (yield x),
        lambda x: locals(),
        lambda x: eval("x"),
        lambda x: undefined_name(x),  # noqa: F821
        lambda x: x + "{x}",
        lambda x: x + 1 if x else (x * 2 + 3 if x is None else f"{x}" * 100 + "long" * 3 + str(x) * 9 + str(x)) + (str(x) + str(x) + str(x) + str(x) + str(x) + str(x) + str(x) + str(x) + str(x) + str(x) + str(x)),  # noqa: E501
        __import__("functools").partial(int, base=2),
        type("Callable", (), {"__call__": lambda self, x: x})(),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_left_alone(call: Any) -> None:
    """Closures, globals, defaults, nested code, walrus, mangled names, what depends on the frame."""
    assert lambda_body(call, ("x",)) is None


def lambda_of(source: str, filename: str) -> Any:
    return eval(compile(source, filename, "eval"), {})


def test_a_source_that_changed_since_is_not_believed() -> None:
    call = lambda_of("lambda x: x + 1", "<changed>")
    assert lambda_body(call, ("x",)) is None  # no source at all
    for text, body in {
        "lambda x: x + 1": "{x} + 1",
        "lambda x: x + 2": None,
        "lambda x: x - 1": None,
        "lambda x: x + y": None,
        "something else": None,
        "": None,
    }.items():
        linecache.cache["<changed>"] = (len(text), None, [text + "\n"], "<changed>")
        assert lambda_body(call, ("x",)) == body
    del linecache.cache["<changed>"]


@pytest.mark.parametrize(
    ("ours", "theirs"), [("1", "True"), ("1", "1.0"), ("0.0", "-0.0"), ("(1, 2)", "(1, True)")]
)
def test_constants_are_compared_with_their_types(ours: str, theirs: str) -> None:
    call = lambda_of(f"lambda x: (x, {ours})", "<constant>")
    text = f"lambda x: (x, {theirs})"
    linecache.cache["<constant>"] = (len(text), None, [text + "\n"], "<constant>")
    assert lambda_body(call, ("x",)) is None
    del linecache.cache["<constant>"]
