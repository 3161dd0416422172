"""RDDs of batches without input, made once: a stream at a short interval is idle most of the time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from ..plan.graph import InputStream, StreamNode, TransformStream

__all__ = ["EmptyBatches"]

Key = tuple[int, int]  # stream, partitions


class EmptyBatches:
    """Remembers the RDD of each stream that is the same in all batches in which no input gives anything.

    So it is below inputs and transformations of the engine that look at nothing but their parents' RDDs. An
    RDD is immutable, and that of no input holds no block; its actions compute as ever.

    Parameters
    ----------
    nodes: the graph, parents first.
    kept: ids of streams whose RDDs are kept by batch: they, and what is below them, are made anew.
    """

    def __init__(self, nodes: Sequence[StreamNode], kept: Collection[int]) -> None:
        self._inputs: dict[int, frozenset[int]] = {}
        self._rdds: dict[Key, Any] = {}
        for node in nodes:
            if node.id in kept:
                continue
            if isinstance(node, InputStream):
                self._inputs[node.id] = frozenset([node.id])
            elif isinstance(node, TransformStream) and not node.opaque:
                above = [self._inputs.get(parent.id) for parent in node.parents]
                known = [inputs for inputs in above if inputs is not None]
                if len(known) == len(above):
                    self._inputs[node.id] = frozenset().union(*known)

    def key(self, node: StreamNode, partitions: int, is_empty: Callable[[int], bool]) -> Key | None:
        """Where the RDD of a batch is to be found or put; None when it is one of its own.

        partitions: into how many an input is cut. is_empty: True of an input that gave nothing.
        """
        inputs = self._inputs.get(node.id)
        if inputs is None or not all(map(is_empty, inputs)):
            return None
        return node.id, partitions

    def get(self, key: Key) -> Any | None:
        """The RDD, None when it was not made yet."""
        return self._rdds.get(key)

    def put(self, key: Key, rdd: Any) -> None:
        """Give ``rdd`` to the batches to come."""
        self._rdds[key] = rdd

    def clear(self) -> None:
        """Forget all."""
        self._rdds.clear()
