"""The stream graph: frozen nodes, each a recipe ``batch time -> RDD``.

Node kinds that only reshape the RDD of the same batch are all :class:`TransformStream`; those
that look at other batches or keep state have a kind of their own, which the runtime translates.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..config import StateConfig
from ..operators.partitioners import Partitioner

__all__ = [
    "InputStream",
    "InverseWindowStream",
    "OutputNode",
    "SideStream",
    "SnapshotStream",
    "StateStream",
    "StreamNode",
    "TransformStream",
    "WindowStream",
    "walk_streams",
]

_ids = itertools.count(1)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Base:
    """A number, a name for people, the step from one RDD to the next in milliseconds."""

    id: int = field(default_factory=_ids.__next__)
    name: str
    slide_ms: int
    parents: tuple[StreamNode, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class InputStream(_Base):
    """A source; ``stream_id`` numbers inputs in order of definition (row SRC-23)."""

    source: Any
    stream_id: int


@dataclass(frozen=True, eq=False, kw_only=True)
class TransformStream(_Base):
    """``build(rdds of the parents, batch time)`` gives the RDD, None for no RDD, or an awaitable of these.

    A parent without an RDD in this batch is handed in as an empty one (row TR-11).
    opaque: calls code of the user, or looks at data, so that it must not be called to explain a plan.
    takes_missing: is called also when no parent has an RDD, and gets None for one that has none.
    """

    build: Callable[[Sequence[Any], Any], Any]
    opaque: bool = False
    takes_missing: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class WindowStream(_Base):
    """The union of the parent's RDDs with a label in (T - window, T] (row WIN-1).

    named: the user gave the name, so that it can be found again after a change of the program.
    """

    window_ms: int
    named: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class StateStream(_Base):
    """A keyed state that each batch brings forward; yields what its specification says.

    schema: version of what the user keeps in it. migrate: ``migrate(old version, key, state)`` gives
    the state in the form of this version.
    rests_when_missing: a batch in which the parent has no RDD leaves the state as it is (row UST-4).
    state: where it lies, when that is not where the states of the engine do.
    """

    spec: Any
    state_id: str
    partitioner: Partitioner
    initial: Any = None
    named: bool = False
    schema: int = 1
    migrate: Callable[[int, Any, Any], Any] | None = None
    rests_when_missing: bool = False
    state: StateConfig | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class SnapshotStream(_Base):
    """All pairs of the parent's state, each batch (row MWS-4)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class InverseWindowStream(_Base):
    """A reduced window kept as state: the parent gives reduced pairs, partitioned alike (row WIN-14).

    state: as of a :class:`StateStream`.
    """

    window_ms: int
    spec: Any
    state_id: str
    partitioner: Partitioner
    named: bool = False
    state: StateConfig | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class SideStream(_Base):
    """The dead letters of the parent's step."""


StreamNode = (
    InputStream
    | TransformStream
    | WindowStream
    | StateStream
    | SnapshotStream
    | InverseWindowStream
    | SideStream
)


@dataclass(frozen=True, eq=False, kw_only=True)
class OutputNode:
    """An output operation: ``run(rdd, batch)`` for each batch that has an RDD.

    sink: the sink it writes to, None for plain functions.
    """

    id: int
    name: str
    parent: StreamNode
    run: Callable[[Any, Any], Awaitable[None]]
    sink: Any = None


def walk_streams(nodes: Sequence[StreamNode]) -> Iterator[StreamNode]:
    """All nodes that ``nodes`` need, parents first, each once."""
    seen: set[int] = set()
    stack: list[tuple[StreamNode, bool]] = [(node, False) for node in reversed(nodes)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            yield node
        elif node.id not in seen:
            seen.add(node.id)
            stack.append((node, True))
            stack.extend((parent, False) for parent in reversed(node.parents))
