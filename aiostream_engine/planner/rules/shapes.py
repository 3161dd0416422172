"""Recognise what a function does from its compiled code, for certain or not at all."""

from __future__ import annotations

import types
from typing import Any

__all__ = ["same_code"]

# *args, **kwargs, generator, coroutine and async generator: what changes the meaning of a call.
_CALLING_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x200


def same_code(call: Any, reference: types.FunctionType) -> bool:
    """True when ``call`` is a plain function whose code does exactly what ``reference`` does.

    Names of variables may differ; instructions, constants (and their types) and names may not. A
    function with defaults, closure or keyword-only parameters never matches.
    """
    if type(call) is not types.FunctionType:
        return False
    code, other = call.__code__, reference.__code__
    return (
        code.co_code == other.co_code
        and code.co_argcount == other.co_argcount
        and code.co_kwonlyargcount == 0
        and code.co_flags & _CALLING_FLAGS == other.co_flags & _CALLING_FLAGS
        and not code.co_freevars
        and call.__defaults__ is None
        and code.co_names == other.co_names
        and [(type(c), c) for c in _constants(code)] == [(type(c), c) for c in _constants(other)]
    )


def _constants(code: types.CodeType) -> list[Any]:
    # The first constant of a ``def`` may be its docstring, or None.
    return [
        constant
        for constant in code.co_consts
        if not (constant is None or isinstance(constant, types.CodeType))
    ]
