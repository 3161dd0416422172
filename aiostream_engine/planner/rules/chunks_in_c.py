"""A step whose function is written in C takes a whole chunk at a time: no line of Python a record."""

from __future__ import annotations

import operator
import types
from dataclasses import replace
from typing import Any

from ...operators.structure import Record, Structure, Terminal
from .trees import rewritten

__all__ = ["chunks_in_c", "runs_in_c"]

_FUNCTIONS = (abs, ascii, bin, chr, hash, hex, len, oct, ord, repr)
_TYPES = (bool, bytes, float, frozenset, int, str, tuple)


def chunks_in_c(structure: Structure, terminal: Terminal) -> tuple[Structure, Terminal]:
    """Applies to ``map``, ``filter`` and ``flat_map`` without an error policy whose function is a builtin
    without effects, a method of an immutable builtin type such as ``str.upper``, or an ``itemgetter``,
    right over the chunks of an input. (Of two such steps in a row only the first gains.) Records still
    go through all steps one after the other; that of an error is where the iterator stopped.
    """
    return rewritten(structure, _marked), terminal


def _marked(node: Structure) -> Structure:
    if not isinstance(node, Record):
        return node
    op = node.op
    plain = op.kind in ("map", "filter", "flat_map") and op.policy is None and op.expression is None
    if plain and op.fn is not None and runs_in_c(op.fn.call):
        return replace(node, op=replace(op, in_c=True))
    return node


def runs_in_c(call: Any) -> bool:
    """True for a callable that is known to be written in C and to have no effects of its own."""
    if type(call) is types.MethodDescriptorType:
        return call.__objclass__ in _TYPES
    return type(call) is operator.itemgetter or any(call is known for known in (*_FUNCTIONS, *_TYPES))
