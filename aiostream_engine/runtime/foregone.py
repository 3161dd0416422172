"""Results that are known without running a task: most of them of empty batches."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

from ..executors.base import TaskResult
from ..operators.structure import (
    Combiner,
    Concat,
    CountTerminal,
    Leaf,
    Merge,
    Record,
    Structure,
    Terminal,
    ToBlocks,
    ToBuckets,
    ToValue,
    Words,
    children_of,
)
from ..types import BlockRef

__all__ = ["foregone_result"]


def foregone_result(
    structure: Structure, terminal: Terminal, inputs: Sequence[tuple[BlockRef, ...]], index: int
) -> TaskResult | None:
    """What a task would give, or None when it must run.

    Blocks that are only kept as blocks are the result already. With no input, steps that work
    record by record give nothing; functions of whole partitions must be called even then (TR-2).
    """
    if isinstance(terminal, ToBlocks) and structure == Leaf("pickle"):
        return TaskResult(0, outputs=inputs[0])
    if any(inputs) or not _by_record(structure):
        return None
    match terminal:
        case ToBlocks():
            return TaskResult(0)
        case CountTerminal():
            return TaskResult(0, value=pickle.dumps(0))
        case ToBuckets(partitioner=partitioner, combiner=combiner):
            return TaskResult(0, outputs=(_empty_segment(combiner),) * partitioner.partitions)
        case ToValue(fn=fn, passes=passes) if fn.builtin:
            value = fn.call(index, iter(())) if passes == "index" else fn.call(iter(()))
            return TaskResult(0, value=pickle.dumps(value, protocol=5))
    return None


def _by_record(structure: Structure) -> bool:
    if isinstance(structure, Record | Concat):
        return all(_by_record(child) for child in children_of(structure))
    return isinstance(structure, Leaf | Merge | Words)


def _empty_segment(combiner: Combiner | None) -> BlockRef:
    return BlockRef("pickle", pickle.dumps({} if combiner and combiner.map_side else []), records=0)
