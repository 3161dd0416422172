"""Pickle records so that another process can read them, wherever their classes were defined.

A class of the user's script is ``__main__.Order``, which in a worker names nothing. Such values are
pickled again with the class by value (cloudpickle), which also finds the first class again when they
come back. All others take the plain, fast way.
"""

from __future__ import annotations

import pickle
from typing import Any

__all__ = ["dumps"]

PROTOCOL = 5
_MAIN = b"__main__"


def dumps(value: Any) -> bytes:
    """``value`` as bytes. Raises whatever pickling raises."""
    try:
        payload = pickle.dumps(value, protocol=PROTOCOL)
    except Exception:
        return _by_value(value)
    return _by_value(value) if _MAIN in payload else payload


def _by_value(value: Any) -> bytes:
    from .by_value import dumps_by_value

    return dumps_by_value(value)
