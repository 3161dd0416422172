"""Results that are known without running a task: most of them of empty batches."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from ..blocks.formats import read_chunks
from ..blocks.pickling import dumps
from ..executors.base import TaskResult
from ..operators.partitioners import HashPartitioner
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

# About a hundred pairs: dealing them out takes some tens of microseconds of the host's loop.
DEAL_BYTES_MAX = 4096


def foregone_result(
    structure: Structure, terminal: Terminal, inputs: Sequence[tuple[BlockRef, ...]], index: int
) -> TaskResult | None:
    """What a task would give, or None when it must run.

    Blocks that are only kept as blocks are the result already. With no input, steps that work
    record by record give nothing; functions of whole partitions must be called even then (TR-2). A few
    pairs that only have to be dealt out are dealt here: no function of the user is called, and a trip to a
    worker would take longer.
    """
    if structure == Leaf("pickle"):
        if isinstance(terminal, ToBlocks):
            return TaskResult(0, outputs=inputs[0])
        if isinstance(terminal, ToBuckets) and inputs[0] and _is_small(inputs[0]):
            return _dealt(terminal, inputs[0])
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


def _is_small(blocks: Sequence[BlockRef]) -> bool:
    return all(block.data is not None for block in blocks) and sum(b.size for b in blocks) <= DEAL_BYTES_MAX


def _dealt(terminal: ToBuckets, blocks: Sequence[BlockRef]) -> TaskResult | None:
    combines = terminal.combiner is not None and terminal.combiner.map_side
    if combines or not isinstance(terminal.partitioner, HashPartitioner):
        return None
    try:
        records = [record for block in blocks for chunk in read_chunks(block) for record in chunk]
        segments: list[list[Any]] = [[] for _ in range(terminal.partitioner.partitions)]
        place = terminal.partitioner.lookup()
        for record in records:
            segments[place(record[0])].append(record)
        outputs = tuple([BlockRef("pickle", dumps(part), records=len(part)) for part in segments])
    except Exception:
        return None  # the task will fail alike, and its report names step and record
    return TaskResult(0, outputs=outputs, records_in=len(records), records_out=len(records))


def _by_record(structure: Structure) -> bool:
    if isinstance(structure, Record | Concat):
        return all(_by_record(child) for child in children_of(structure))
    return isinstance(structure, Leaf | Merge | Words)


def _empty_segment(combiner: Combiner | None) -> BlockRef:
    return BlockRef("pickle", pickle.dumps({} if combiner and combiner.map_side else []), records=0)
