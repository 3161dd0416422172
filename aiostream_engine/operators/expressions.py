"""Calls of record steps outside of the fused loop, where an error policy watches each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .structure import RecordOp

__all__ = ["apply"]


def apply(op: RecordOp, record: Any) -> Any:
    """One record through one step; flat kinds give a tuple, so that a lazy failure happens here."""
    return _KINDS[op.kind](op, record)


def _flat_map_values(op: RecordOp, record: Any) -> Any:
    key, value = record
    return tuple((key, item) for item in _call(op)(value))


def _call(op: RecordOp) -> Callable[[Any], Any]:
    assert op.fn is not None
    return op.fn.call


_KINDS: dict[str, Callable[[RecordOp, Any], Any]] = {
    "map": lambda op, record: _call(op)(record),
    "filter": lambda op, record: _call(op)(record),
    "flat_map": lambda op, record: tuple(_call(op)(record)),
    "map_values": lambda op, record: (record[0], _call(op)(record[1])),
    "flat_map_values": _flat_map_values,
    "key_by": lambda op, record: (_call(op)(record), record),
    "keys": lambda op, record: record[0],
    "values": lambda op, record: record[1],
}
