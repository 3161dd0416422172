"""Lines that are split at white space at once are words: split whole chunks of text in C."""

from __future__ import annotations

from typing import Any

from ...blocks.formats import TEXT_FORMATS
from ...operators.structure import Leaf, Record, Structure, Terminal, Words
from .shapes import same_code
from .trees import rewritten

__all__ = ["split_words"]


def _split(line: Any) -> Any:
    return line.split()


def split_words(structure: Structure, terminal: Terminal) -> tuple[Structure, Terminal]:
    """Applies to ``flat_map(str.split)`` or ``flat_map(lambda line: line.split())`` without an error
    policy right over a text leaf. ``str.split`` without arguments takes the line end for white
    space too, so that the words of a text are the words of its lines, in the same order.
    """
    return rewritten(structure, _as_words), terminal


def _as_words(node: Structure) -> Structure:
    if not (isinstance(node, Record) and isinstance(node.child, Leaf) and node.child.format in TEXT_FORMATS):
        return node
    op = node.op
    splits = op.kind == "flat_map" and op.policy is None and op.fn is not None and _is_split(op.fn.call)
    return Words() if splits else node


def _is_split(call: Any) -> bool:
    return call is str.split or same_code(call, _split)  # type: ignore[arg-type]
