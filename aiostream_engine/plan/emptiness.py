"""Whether a lineage is known to give no record, without running anything."""

from __future__ import annotations

from ..operators.structure import RecordOp
from .nodes import Aligned, Coalesced, Exchange, Narrow, Node, Source, Union, parents_of

__all__ = ["is_certainly_empty"]


def is_certainly_empty(node: Node) -> bool:
    """True when no source below holds a block and every step works record by record.

    Functions of whole partitions may make records out of nothing, and state has its own: those
    must be asked. False means "not known".
    """
    while isinstance(node, Exchange | Coalesced) or (
        isinstance(node, Narrow) and isinstance(node.op, RecordOp)
    ):
        node = node.parent
    if isinstance(node, Source):
        return not any(node.parts)
    if isinstance(node, Union | Aligned):
        return all(is_certainly_empty(parent) for parent in parents_of(node))
    return False
