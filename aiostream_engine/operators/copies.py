"""Copies of values that a user's function may change in place before it fails."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

from ..blocks.pickling import dumps

__all__ = ["IMMUTABLE", "copies_of", "own_copy"]

# Values of these types cannot change in place: the same object means the same value.
IMMUTABLE = frozenset({int, float, str, bytes, bool, type(None), complex})


def copies_of(value: Any) -> Callable[[], Any]:
    """Gives ``value`` as it is now at each call, whatever became of the copies given before."""
    if _is_immutable(value):
        return partial(_same, value)
    return partial(pickle.loads, dumps(value))


def own_copy(value: Any) -> Any:
    """``value`` itself where it cannot change in place, else a copy."""
    return value if _is_immutable(value) else pickle.loads(dumps(value))


def _is_immutable(value: Any) -> bool:
    kind = type(value)
    return kind in IMMUTABLE or (kind is tuple and all(type(item) in IMMUTABLE for item in value))


def _same(value: Any) -> Any:
    return value
