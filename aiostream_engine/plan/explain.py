"""Plans as text, from the same data that is run."""

from __future__ import annotations

from collections.abc import Sequence

from .graph import InputStream, InverseWindowStream, OutputNode, StreamNode, WindowStream, walk_streams
from .nodes import Exchange, Node, Source, parents_of

__all__ = ["lineage", "stream_graph"]


def lineage(node: Node) -> str:
    """An RDD's lineage, the result on top, a parent deeper by two columns."""
    lines: list[str] = []
    stack: list[tuple[Node, int]] = [(node, 0)]
    seen: set[int] = set()
    while stack:
        current, depth = stack.pop()
        mark = "+-" if isinstance(current, Exchange) else "| "
        again = " (as above)" if current.id in seen and not isinstance(current, Source) else ""
        lines.append(f"({current.partitions}) {'  ' * depth}{mark}{_title(current)} [{current.id}]{again}")
        if current.id not in seen:
            seen.add(current.id)
            stack.extend((parent, depth + 1) for parent in reversed(parents_of(current)))
    return "\n".join(lines)


def _title(node: Node) -> str:
    kind = type(node).__name__
    title = kind if not node.name else f"{kind} {node.name}"
    if isinstance(node, Source):
        blocks = sum(len(part) for part in node.parts)
        title += f" ({blocks} blocks of {node.format})"
    if node.partitioner is not None:
        title += f" by {type(node.partitioner).__name__}({node.partitioner.partitions})"
    return title


def stream_graph(outputs: Sequence[OutputNode], inputs: Sequence[StreamNode] = ()) -> str:
    """The stream graph, parents first, then the outputs."""
    nodes = list(walk_streams([*inputs, *(output.parent for output in outputs)]))
    numbers = {node.id: number for number, node in enumerate(nodes, 1)}
    lines = []
    for node in nodes:
        parents = ", ".join(f"#{numbers[parent.id]}" for parent in node.parents)
        arrow = f" <- {parents}" if parents else ""
        lines.append(f"#{numbers[node.id]} {node.name}{_details(node)}{arrow}")
    lines.extend(f"output {output.id}: {output.name} <- #{numbers[output.parent.id]}" for output in outputs)
    return "\n".join(lines)


def _details(node: StreamNode) -> str:
    if isinstance(node, InputStream):
        kind = next(
            (base.__name__ for base in type(node.source).__mro__ if base.__module__.endswith("sources.base")),
            "",
        )
        return f" ({kind}, every {node.slide_ms} ms)"
    if isinstance(node, WindowStream | InverseWindowStream):
        return f" (window {node.window_ms} ms, slide {node.slide_ms} ms)"
    return ""
