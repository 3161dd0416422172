"""``map(lambda x: (x, 1))`` before a sum by key is a counter: count in C, make no pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...operators.structure import Combiner, Record, Structure, Terminal, ToBuckets
from .additions import is_addition
from .shapes import same_code

__all__ = ["count_values"]


def _pair_with_one(x: Any) -> Any:
    return (x, 1)


def count_values(structure: Structure, terminal: Terminal) -> tuple[Structure, Terminal]:
    """Applies when the terminal combines before a shuffle, values are kept as they are first seen
    (no ``create``), the merge function only adds, and the last step pairs each record with the
    int 1 and has no error policy. Sums of ones are then counts.
    """
    if not (isinstance(terminal, ToBuckets) and isinstance(terminal.combiner, Combiner)):
        return structure, terminal
    combiner = terminal.combiner
    counts = combiner.map_side and combiner.create is None and is_addition(combiner.merge_value.call)
    if not (counts and isinstance(structure, Record) and structure.op.kind == "map"):
        return structure, terminal
    op = structure.op
    if op.fn is None or op.policy is not None or not same_code(op.fn.call, _pair_with_one):  # type: ignore[arg-type]
        return structure, terminal
    return structure.child, replace(terminal, counter=True)
