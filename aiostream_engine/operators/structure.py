"""The plan of one task as a frozen tree: what a stage does to a partition.

Leaves read blocks, record operators work one record at a time and fuse into one loop, partition
operators see a whole iterator, and a terminal says what becomes of the result. Leaves are bound
to the task's inputs in depth-first order, so that one tree serves all partitions and batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import OptionError
from ..types import OnError
from .function import Fn
from .partitioners import Partitioner

__all__ = [
    "Combiner",
    "Concat",
    "CountTerminal",
    "ErrorPolicy",
    "Leaf",
    "Merge",
    "Multi",
    "PartitionOp",
    "Partitioned",
    "Record",
    "RecordOp",
    "StateScan",
    "Structure",
    "Terminal",
    "ToBlocks",
    "ToBuckets",
    "ToValue",
    "Words",
    "children_of",
    "error_policy",
    "refuse_policy",
    "walk",
]


@dataclass(frozen=True, slots=True)
class ErrorPolicy:
    """What a step does with a record on which its function raised, after ``attempts`` calls."""

    on_error: OnError = OnError.FAIL
    attempts: int = 1

    @property
    def gives_dead_letters(self) -> bool:
        """True when records that were given up go to the dead letters of the step."""
        return self.on_error is OnError.DEAD_LETTER


def error_policy(on_error: OnError | str, retries: int = 0) -> ErrorPolicy | None:
    """The policy of a step; None for plain failing, which costs nothing. Raises OptionError."""
    if retries < 0:
        raise OptionError(f"retries is {retries}: it must be at least 0")
    try:
        decision = OnError(on_error)
    except ValueError:
        known = ", ".join(repr(item.value) for item in OnError)
        raise OptionError(f"on_error is {on_error!r}: use one of {known}") from None
    if decision is OnError.FAIL and retries == 0:
        return None
    return ErrorPolicy(decision, retries + 1)


def refuse_policy(step: str, on_error: OnError | str, why: str) -> None:
    """Raise OptionError unless the step is to fail: it has no unit that could be given up alone."""
    policy = error_policy(on_error)
    if policy is not None:
        raise OptionError(f"{step} cannot have on_error={policy.on_error.value!r}: {why}")


@dataclass(frozen=True, slots=True)
class RecordOp:
    """A step that handles one record at a time.

    kind: ``map``, ``flat_map``, ``filter``, ``map_values``, ``flat_map_values``, ``key_by``,
        ``keys`` or ``values``; the last two need no function.
    expression: Python source of the function's body over ``{x}``, when a rule inlined it.
    in_c: set by a rule: the function needs no frame, so that C may call it for a whole chunk.
    """

    kind: str
    step: str
    fn: Fn | None = None
    policy: ErrorPolicy | None = None
    expression: str | None = None
    in_c: bool = False


@dataclass(frozen=True, slots=True)
class PartitionOp:
    """A step that turns the iterator of a partition into another.

    passes: what the function gets besides the iterator: ``""`` nothing, ``index`` the partition's
        index before it, ``task`` the environment's task before it.
    """

    step: str
    fn: Fn
    passes: str = ""


@dataclass(frozen=True, slots=True)
class Combiner:
    """How values of one key become one (combineByKey); ``create`` None means the value itself.

    merge_expression: Python source of ``merge_value`` over ``{a}`` and ``{b}``, when a rule inlined it.
    """

    step: str
    merge_value: Fn
    merge_combiners: Fn
    create: Fn | None = None
    map_side: bool = True
    merge_expression: str | None = None


# -- trees -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leaf:
    """Reads blocks of one format."""

    format: str
    format_args: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Words:
    """Reads text blocks and yields their white-space separated words; made by a rule."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Reads one reducer's segments of a shuffle and combines them."""

    combiner: Combiner | None


@dataclass(frozen=True, slots=True)
class Record:
    op: RecordOp
    child: Structure


@dataclass(frozen=True, slots=True)
class Partitioned:
    op: PartitionOp
    child: Structure


@dataclass(frozen=True, slots=True)
class Concat:
    """One child after the other."""

    children: tuple[Structure, ...]


@dataclass(frozen=True, slots=True)
class Multi:
    """A function of several iterators: zip, cartesian, cogroup."""

    op: PartitionOp
    children: tuple[Structure, ...]


@dataclass(frozen=True, slots=True)
class StateScan:
    """Brings a keyed state to the batch and yields what its specification says.

    spec is a picklable, hashable object with ``update(store, iterators, task)`` and
    ``output(store, mapped)``: see :mod:`aiostream_engine.state.spec`.
    """

    spec: Any
    step: str
    children: tuple[Structure, ...]


Structure = Leaf | Words | Merge | Record | Partitioned | Concat | Multi | StateScan


# -- terminals -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToBlocks:
    """Keep the records as blocks."""


@dataclass(frozen=True, slots=True)
class ToBuckets:
    """Write one segment a reducer, combined before when a combiner is given."""

    partitioner: Partitioner
    combiner: Combiner | None
    counter: bool = False  # set by a rule: records are keys to be counted
    distinct: bool = False  # set by a rule: records are keys to be kept once


@dataclass(frozen=True, slots=True)
class ToValue:
    """Reduce the partition to a value: ``fn(iterator)``, or ``fn(index, iterator)``."""

    step: str
    fn: Fn
    passes: str = ""


@dataclass(frozen=True, slots=True)
class CountTerminal:
    """Only count the records."""


Terminal = ToBlocks | ToBuckets | ToValue | CountTerminal


def children_of(structure: Structure) -> tuple[Structure, ...]:
    """The direct children of a tree node, in order."""
    if isinstance(structure, Record | Partitioned):
        return (structure.child,)
    if isinstance(structure, Concat | Multi | StateScan):
        return structure.children
    return ()


def walk(structure: Structure) -> Iterator[Structure]:
    """The node and all below it, depth first, in the order in which leaves are bound."""
    yield structure
    for child in children_of(structure):
        yield from walk(child)
