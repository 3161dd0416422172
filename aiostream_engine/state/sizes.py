"""How much memory a value takes, about: for bounds, not for bills."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Iterable
from types import MemberDescriptorType
from typing import Any

__all__ = ["estimated_bytes"]

_SAMPLES = 8
_DEPTH_MAX = 4
_FLAT = frozenset({int, float, complex, bool, type(None), str, bytes, bytearray})
_SEQUENCES = (list, tuple)
_OTHERS = (set, frozenset, deque)


def estimated_bytes(value: Any, depth: int = _DEPTH_MAX) -> int:
    """Bytes of ``value`` and what it holds; of a large container a few items stand for all.

    What several values share is counted with each, so that it is rather too much than too little.
    """
    if type(value) in _FLAT:
        return sys.getsizeof(value)
    size = _own_bytes(value)
    if depth == 0:
        return size
    if isinstance(value, dict):
        pairs = itertools.islice(value.items(), _SAMPLES)
        return size + _extrapolated((item for pair in pairs for item in pair), 2 * len(value), depth)
    if isinstance(value, _SEQUENCES):
        return size + _extrapolated(value[:: max(1, len(value) // _SAMPLES)], len(value), depth)
    if isinstance(value, _OTHERS):
        return size + _extrapolated(itertools.islice(value, _SAMPLES), len(value), depth)
    return size + sum(estimated_bytes(item, depth - 1) for item in _attributes(value))


def _own_bytes(value: Any) -> int:
    try:
        return sys.getsizeof(value)
    except Exception:  # a __sizeof__ of the user
        return 64


def _extrapolated(samples: Iterable[Any], count: int, depth: int) -> int:
    sizes = [estimated_bytes(item, depth - 1) for item in samples]
    return count * sum(sizes) // len(sizes) if sizes else 0


def _attributes(value: Any) -> Iterable[Any]:
    """What an object of a class refers to; no property of it is called."""
    found = getattr(value, "__dict__", None)
    if isinstance(found, dict):
        yield found
    for base in type(value).__mro__:
        names = base.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            slot = base.__dict__.get(name)
            if isinstance(slot, MemberDescriptorType):
                try:
                    yield slot.__get__(value)
                except AttributeError:  # not set
                    continue
