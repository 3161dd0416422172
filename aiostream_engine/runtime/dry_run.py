"""What a batch will be, without one: the lineage of each output over stand-ins for its data.

Used to explain a stream before it runs. Functions of ``transform`` are the user's and may run actions,
so that they are shown as a leaf and not called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..plan.graph import (
    InputStream,
    InverseWindowStream,
    OutputNode,
    SnapshotStream,
    StateStream,
    StreamNode,
    TransformStream,
    WindowStream,
)
from ..plan.nodes import Exchange, Node, Source, StateNode
from ..state.specs import Snapshot
from ..types import BatchTime

__all__ = ["dry_lineages"]


class _Factory(Protocol):
    default_parallelism: int

    def from_node(self, node: Node) -> Any: ...

    def union(self, rdds: Sequence[Any]) -> Any: ...


def dry_lineages(factory: _Factory, outputs: Sequence[OutputNode]) -> list[tuple[str, Node]]:
    """(name of the output, lineage of its RDD) for each output."""
    run = _DryRun(factory)
    return [(output.name, run.rdd(output.parent).node) for output in outputs]


class _DryRun:
    def __init__(self, factory: _Factory) -> None:
        self._factory = factory
        self._made: dict[int, Any] = {}

    def rdd(self, node: StreamNode) -> Any:
        if node.id not in self._made:
            self._made[node.id] = self._make(node)
        return self._made[node.id]

    def _make(self, node: StreamNode) -> Any:
        match node:
            case InputStream(source=source):
                return self._leaf(node.name, source.format, source.format_args)
            case TransformStream(opaque=False):
                return node.build([self.rdd(parent) for parent in node.parents], BatchTime(0))
            case WindowStream():
                return self._factory.union(
                    [self.rdd(node.parents[0]), self._leaf(f"earlier batches of {node.name}")]
                )
            case StateStream() | InverseWindowStream():
                return self._state(node)
            case SnapshotStream():
                return self._leaf(node.name)
        return self._leaf(f"{node.name} of {', '.join(parent.name for parent in node.parents)}")

    def _leaf(self, name: str, format: str = "pickle", args: tuple[Any, ...] = ()) -> Any:
        count = self._factory.default_parallelism
        parts: tuple[Any, ...] = ((),) * count
        return self._factory.from_node(
            Source(name=name, parts=parts, partitions=count, format=format, format_args=args)
        )

    def _state(self, node: StateStream | InverseWindowStream) -> Any:
        parent: Node = self.rdd(node.parents[0]).node
        count = node.partitioner.partitions
        if parent.partitioner != node.partitioner:
            parent = Exchange(name=node.name, parent=parent, partitions=count, partitioner=node.partitioner)
        # Shown as one step: in a batch the state is brought forward first and read afterwards.
        spec = node.spec if isinstance(node, StateStream) else Snapshot()
        return self._factory.from_node(
            StateNode(
                name=node.name,
                state_id=node.state_id,
                spec=spec,
                inputs=(parent,),
                batch=0,
                partitions=count,
                partitioner=None if spec.mapped else node.partitioner,
            )
        )
