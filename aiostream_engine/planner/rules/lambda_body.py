"""Read the expression of a lambda, for certain or not at all.

The text comes from the source file, which may have changed since, at the place that the compiled
code names. It counts only when compiling it again gives the very same code.
"""

from __future__ import annotations

import ast
import builtins
import linecache
import types
from collections.abc import Sequence
from typing import Any

__all__ = ["lambda_body"]

_CHARACTERS_MAX = 200
_MARK = "_aiostream_{}_"

# Generators, coroutines, *args and **kwargs: a call of these is no evaluation of their expression.
_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x200

_NODES = (
    ast.Name,
    ast.Load,
    ast.Constant,
    ast.Attribute,
    ast.Subscript,
    ast.Slice,
    ast.Call,
    ast.keyword,
    ast.Starred,
    ast.BinOp,
    ast.operator,
    ast.UnaryOp,
    ast.unaryop,
    ast.BoolOp,
    ast.boolop,
    ast.Compare,
    ast.cmpop,
    ast.IfExp,
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.Dict,
    ast.JoinedStr,
    ast.FormattedValue,
)

# What these give depends on the frame that calls them.
_FRAME_BUILTINS = frozenset(
    {
        "breakpoint",
        "compile",
        "dir",
        "eval",
        "exec",
        "globals",
        "input",
        "locals",
        "super",
        "vars",
        "__import__",
    }
)


def lambda_body(call: Any, placeholders: Sequence[str]) -> str | None:
    """The expression of a lambda with ``{placeholder}`` for each of its parameters, or None.

    Conditions: a lambda with that many plain parameters and neither defaults nor closure; every
    other name is a builtin that its module does not shadow; no lambda, comprehension, assignment,
    ``await`` or ``yield`` inside; the source is at hand, short, and compiles to the same code.
    """
    if type(call) is not types.FunctionType or call.__name__ != "<lambda>" or call.__defaults__:
        return None
    code = call.__code__
    plain = not (code.co_flags & _FLAGS or code.co_kwonlyargcount or code.co_freevars or code.co_cellvars)
    if not plain or code.co_argcount != len(placeholders) or code.co_nlocals != len(placeholders):
        return None
    segment = _segment(call)
    return None if segment is None else _rewritten(call, segment, placeholders)


def _segment(call: types.FunctionType) -> str | None:
    """The text between the first and the last place that any instruction names."""
    places = [
        ((line, column), (end_line, end_column))
        for line, end_line, column, end_column in call.__code__.co_positions()
        if line
        and end_line
        and column is not None
        and end_column
        and (line, column) != (end_line, end_column)
    ]
    if not places:
        return None
    (first, start), (last, end) = min(begin for begin, _ in places), max(stop for _, stop in places)
    lines = linecache.getlines(call.__code__.co_filename, call.__globals__)[first - 1 : last]
    if len(lines) != last - first + 1 or sum(map(len, lines)) > 10 * _CHARACTERS_MAX:
        return None
    rows = [line.encode() for line in lines]
    rows[-1] = rows[-1][:end]
    rows[0] = rows[0][start:]
    return b"".join(rows).decode(errors="replace")


def _rewritten(call: types.FunctionType, segment: str, placeholders: Sequence[str]) -> str | None:
    code = call.__code__
    parameters = code.co_varnames
    try:
        tree = ast.parse(f"({segment}\n)", mode="eval").body
    except (SyntaxError, ValueError):
        return None
    if not _evaluates_alike(tree, parameters, call.__globals__) or _spells(tree, placeholders):
        return None
    marks = {name: _MARK.format(place) for name, place in zip(parameters, placeholders, strict=True)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = marks.get(node.id, node.id)
    text = ast.unparse(tree)
    if len(text) > _CHARACTERS_MAX or "\n" in text or not _same_code(code, text, list(marks.values())):
        return None
    for place in placeholders:
        text = text.replace(_MARK.format(place), "{" + place + "}")
    return text


def _evaluates_alike(tree: ast.expr, parameters: Sequence[str], module: dict[str, Any]) -> bool:
    """True when the expression means the same wherever it stands."""
    for node in ast.walk(tree):
        if not isinstance(node, _NODES):
            return False
        if isinstance(node, ast.Name) and node.id not in parameters:
            shadowed = node.id in module or node.id in _FRAME_BUILTINS
            if shadowed or not hasattr(builtins, node.id):
                return False
    return True


def _spells(tree: ast.expr, placeholders: Sequence[str]) -> bool:
    """True when a text in the expression looks like a placeholder."""
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return any("{" + place + "}" in text for text in texts for place in placeholders)


def _same_code(code: types.CodeType, text: str, parameters: Sequence[str]) -> bool:
    try:
        source = compile(f"lambda {', '.join(parameters)}: ({text})", "<lambda>", "eval", dont_inherit=True)
        other: types.CodeType = eval(source, {}).__code__
    except (SyntaxError, ValueError):
        return False
    return (
        code.co_code == other.co_code
        and code.co_names == other.co_names
        and not other.co_flags & _FLAGS
        and list(map(_constant, code.co_consts)) == list(map(_constant, other.co_consts))
    )


def _constant(value: Any) -> Any:
    """What tells 1 from True and 0.0 from -0.0, also inside of a tuple."""
    if isinstance(value, tuple):
        return tuple, tuple(map(_constant, value))
    if isinstance(value, frozenset):
        return frozenset, frozenset(map(_constant, value))
    return type(value), repr(value)
