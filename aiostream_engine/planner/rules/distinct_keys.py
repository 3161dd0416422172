"""``distinct`` keeps keys, so that neither pairs nor a merge function are needed before its shuffle."""

from __future__ import annotations

from dataclasses import replace

from ...operators import kernels
from ...operators.structure import Combiner, Record, Structure, Terminal, ToBuckets

__all__ = ["distinct_keys"]


def distinct_keys(structure: Structure, terminal: Terminal) -> tuple[Structure, Terminal]:
    """Applies when the terminal combines before a shuffle by keeping the first value, and the last step
    pairs each record with None: what ``RDD.distinct`` makes.
    """
    if not (isinstance(terminal, ToBuckets) and isinstance(terminal.combiner, Combiner)):
        return structure, terminal
    combiner = terminal.combiner
    keeps = combiner.map_side and combiner.create is None and combiner.merge_value.call is kernels.keep_first
    if not (keeps and isinstance(structure, Record) and structure.op.kind == "map"):
        return structure, terminal
    op = structure.op
    if op.fn is None or op.policy is not None or op.fn.call is not kernels.pair_with_none:
        return structure, terminal
    return structure.child, replace(terminal, distinct=True)
