"""The lineage of an RDD: frozen nodes that say what to compute, never how.

Nodes are compared by identity and numbered in order of making, which is the order in which plans
print them.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..operators.partitioners import Partitioner
from ..operators.structure import Combiner, PartitionOp, RecordOp
from ..types import BlockRef

__all__ = [
    "Aligned",
    "Cartesian",
    "Coalesced",
    "Deferred",
    "Exchange",
    "Narrow",
    "Node",
    "Side",
    "Source",
    "StateNode",
    "Union",
    "Zipped",
    "parents_of",
    "walk_nodes",
]

_ids = itertools.count(1)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Base:
    """What all nodes have: a number, a name for people, and how the result is partitioned."""

    id: int = field(default_factory=_ids.__next__)
    name: str = ""
    partitions: int = 1
    partitioner: Partitioner | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Source(_Base):
    """Blocks that exist; one tuple a partition."""

    parts: tuple[tuple[BlockRef, ...], ...]
    format: str = "pickle"
    format_args: tuple[Any, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Narrow(_Base):
    """A step on each partition of its parent alone."""

    parent: Node
    op: RecordOp | PartitionOp
    gives_dead_letters: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Union(_Base):
    """The partitions of all parents, one after the other."""

    parents: tuple[Node, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Aligned(_Base):
    """Parents of one partitioner: partition i is the i-th of each, so that no shuffle is needed."""

    parents: tuple[Node, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Coalesced(_Base):
    """Fewer partitions without a shuffle; ``groups`` names the parent's partitions of each."""

    parent: Node
    groups: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Zipped(_Base):
    """A function of the i-th partitions of all parents."""

    parents: tuple[Node, ...]
    op: PartitionOp


@dataclass(frozen=True, eq=False, kw_only=True)
class Cartesian(_Base):
    """A function of each pair of partitions."""

    left: Node
    right: Node
    op: PartitionOp


@dataclass(frozen=True, eq=False, kw_only=True)
class Exchange(_Base):
    """A shuffle: records go to the partition that the partitioner says, combined on the way."""

    parent: Node
    combiner: Combiner | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class StateNode(_Base):
    """A keyed state, brought to ``batch`` by its inputs, all partitioned alike; or only read (``scan``)."""

    state_id: str
    spec: Any
    inputs: tuple[Node, ...]
    batch: int
    scan: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Side(_Base):
    """A further output of a node, such as its dead letters."""

    parent: Node
    side: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Deferred(_Base):
    """A node that must look at data before it can be planned (a sort's sample, an index's counts).

    ``resolve(runner, parents)`` gives the node to use instead; parents are materialised before.
    """

    parents: tuple[Node, ...]
    gives_dead_letters: bool = False
    resolve: Callable[[Any, tuple[Source, ...]], Awaitable[Node]]


Node = (
    Source
    | Narrow
    | Union
    | Aligned
    | Coalesced
    | Zipped
    | Cartesian
    | Exchange
    | StateNode
    | Side
    | Deferred
)


def parents_of(node: Node) -> tuple[Node, ...]:
    """The nodes that a node reads, in order."""
    match node:
        case Narrow() | Coalesced() | Exchange() | Side():
            return (node.parent,)
        case Union() | Aligned() | Zipped() | Deferred():
            return node.parents
        case Cartesian():
            return node.left, node.right
        case StateNode():
            return node.inputs
    return ()


def walk_nodes(node: Node, replaced: Mapping[int, Node] | None = None) -> Iterator[Node]:
    """All nodes of a lineage, parents first, each once.

    replaced: nodes by the id of those whose place they take; of these the parents are visited.
    """
    seen: set[int] = set()
    stack: list[tuple[Node, bool]] = [(node, False)]
    while stack:
        current, expanded = stack.pop()
        if expanded:
            yield current
        elif current.id not in seen:
            seen.add(current.id)
            stack.append((current, True))
            instead = replaced.get(current.id, current) if replaced else current
            stack.extend((parent, False) for parent in reversed(parents_of(instead)))
