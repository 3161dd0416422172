"""What each source -> output pair promises, computed from the classes of its ends."""

from __future__ import annotations

from collections.abc import Sequence

from ..plan.graph import InputStream, OutputNode, walk_streams
from ..sinks.base import IdempotentSink, Sink, TransactionalSink
from ..sources.base import EphemeralSource, ReplayableSource, Source
from ..types import Guarantee

__all__ = ["guarantee", "guarantees_of"]


def guarantee(source: Source, sink: Sink | None, *, durable: bool = False) -> Guarantee:
    """The delivery across a crash of the driver.

    sink: None for a plain function. durable: there is a checkpoint directory, where positions are
    written and the blocks of receivers logged; for these the promise begins with the log.
    """
    if source.at_least_once:
        return Guarantee.AT_LEAST_ONCE
    if not durable or isinstance(source, EphemeralSource):
        return Guarantee.AT_MOST_ONCE
    if isinstance(sink, IdempotentSink | TransactionalSink):
        return Guarantee.EFFECTIVELY_ONCE
    return Guarantee.AT_LEAST_ONCE


def guarantees_of(
    inputs: Sequence[InputStream], outputs: Sequence[OutputNode], *, durable: bool = False
) -> list[str]:
    """A sentence for each pair of input and output that the graph connects."""
    lines = []
    for output in outputs:
        reached = {node.id for node in walk_streams([output.parent])}
        sink = output.sink.sink if output.sink is not None else None
        for node in inputs:
            if node.id in reached:
                lines.append(_sentence(node, output, sink, durable))
    return lines


def _sentence(node: InputStream, output: OutputNode, sink: Sink | None, durable: bool) -> str:
    kind = "replayable" if isinstance(node.source, ReplayableSource) else "receiver"
    kind = "ephemeral" if isinstance(node.source, EphemeralSource) else kind
    promise = guarantee(node.source, sink, durable=durable).name.lower().replace("_", " ")
    why = "" if durable else " (no checkpoint directory)"
    if durable and kind == "receiver":
        why = " from the moment that it is logged"
    if node.source.at_least_once:
        kind, why = "shared", " (what is not committed is read again, maybe by another program)"
    return (
        f"source {node.name} ({kind}) -> {output.name} ({_sink_kind(sink)}): a lost worker loses and doubles "
        f"no record of the state; across a lost driver {promise}{why}"
    )


def _sink_kind(sink: Sink | None) -> str:
    if isinstance(sink, TransactionalSink):
        return "transactional"
    return "idempotent" if isinstance(sink, IdempotentSink) else "plain"
