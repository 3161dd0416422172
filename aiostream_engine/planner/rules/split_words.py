"""Lines that are split at white space at once are words: split whole chunks of text in C."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...blocks.formats import TEXT_FORMATS
from ...operators.structure import Leaf, Partitioned, Record, Structure, Terminal, Words
from .shapes import same_code

__all__ = ["split_words"]


def _split(line: Any) -> Any:
    return line.split()


def split_words(structure: Structure, terminal: Terminal) -> tuple[Structure, Terminal]:
    """Applies to ``flat_map(str.split)`` or ``flat_map(lambda line: line.split())`` without an error
    policy right over a text leaf. ``str.split`` without arguments takes the line end for white
    space too, so that the words of a text are the words of its lines, in the same order.
    """
    return _rewrite(structure), terminal


def _rewrite(node: Structure) -> Structure:
    if isinstance(node, Record):
        op, child = node.op, node.child
        splits = op.kind == "flat_map" and op.policy is None and op.fn is not None and _is_split(op.fn.call)
        if splits and isinstance(child, Leaf) and child.format in TEXT_FORMATS:
            return Words()
        return replace(node, child=_rewrite(child))
    if isinstance(node, Partitioned):
        return replace(node, child=_rewrite(node.child))
    return node


def _is_split(call: Any) -> bool:
    return call is str.split or same_code(call, _split)  # type: ignore[arg-type]
