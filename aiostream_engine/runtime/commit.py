"""The life of a batch after its cut, as far as it concerns what is true: one order, one place."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ..durable.crash import crash_point
from ..plan.graph import OutputNode
from ..sources.base import BatchInput
from ..types import BatchTime
from .checkpoint import CheckpointWriter, StateChange
from .inputs import Inputs
from .machine import Batch
from .sink_driver import SinkDriver
from .state_registry import StateRegistry
from .translator import Translator

__all__ = ["CommitProtocol"]

_log = logging.getLogger("aiostream_engine.commit")

# A position that has not changed for so many journal records is written again, so that it does not
# hold the segment it lies in.
POSITION_RECORDS_MAX = 1000


class CommitProtocol:
    """Makes batches true, in order.

    Parameters
    ----------
    writer: the journal; None without a checkpoint directory, where only publishing is left to do.
    zero_ms, interval_ms: of the stream, written with each commit.
    """

    def __init__(
        self,
        inputs: Inputs,
        outputs: Sequence[OutputNode],
        translator: Translator,
        states: StateRegistry,
        writer: CheckpointWriter | None,
        zero_ms: int,
        interval_ms: int,
    ) -> None:
        self._inputs = inputs
        self._sinks: list[SinkDriver] = [output.sink for output in outputs if output.sink is not None]
        self._translator = translator
        self._states = states
        self._writer = writer
        self._clock = {"zero_ms": zero_ms, "interval_ms": interval_ms}
        self._begun: dict[int, tuple[int, dict[str, Any]]] = {}  # batch -> first journal record, positions
        self._written_positions: dict[str, tuple[Any, int]] = {}
        self._last_commit = 0

    async def begin(self, batch: Batch, contents: Sequence[BatchInput]) -> None:
        """Freeze the content of a batch before any of its effects; costs nothing without a journal."""
        if self._writer is None:
            return
        first = self._writer.last_number
        named = [(node.name, content) for node, content in zip(self._inputs.nodes, contents, strict=True)]
        self._begun[batch.id] = first, {name: content.position for name, content in named}
        crash_point("before_intent")
        await self._writer.intent(batch, named)
        crash_point("after_intent")

    async def finish(self, batch: Batch) -> None:
        """Commit a batch whose outputs are over. The order is the promise:

        1. The state of each partition has been brought to the batch in its worker, and its changes lie
           in blocks; transactional sinks have staged their output and given tokens. Nothing of this
           can be seen, or it is keyed by the batch.
        2. **The commit record is written and synced: from here the batch is true.** It covers the
           changes of state, the RDDs that later windows need, positions and tokens.
        3. Transactional sinks publish what they staged, under the tokens of the record. Recovery
           repeats this step for the last batch; it may be repeated any number of times.
        4. Sources are told, so that they can acknowledge to the outside.
        5. What no later batch needs is forgotten: blocks, then segments of the journal.
        """
        if self._writer is not None:
            crash_point("before_commit")
            await self._write(self._writer, batch)
            crash_point("after_commit")
        for sink in self._sinks:
            await sink.publish(batch.id, batch.time, batch.tokens.pop(sink.name, None))
            crash_point("mid_publish")
        await self._inputs.committed(batch.time)
        crash_point("after_publish")
        self._translator.forget(batch)
        if self._writer is not None:
            await self._collect(self._writer)
            crash_point("after_collect")

    async def _write(self, writer: CheckpointWriter, batch: Batch) -> None:
        changes: list[StateChange] = self._states.take_changes(batch.time)
        _, positions = self._begun.pop(batch.id)
        due = {name: position for name, position in positions.items() if self._is_due(writer, name, position)}
        content = {
            **self._clock,
            "fired": self._translator.fired(),
            "horizons": self._translator.horizons(batch),
            "positions": due,
            "tokens": batch.tokens,
        }
        try:
            await writer.commit(batch, changes, self._translator.kept_blocks(batch), content)
        finally:
            self._states.release_changes(changes)
        self._last_commit = writer.last_number
        self._written_positions.update(
            (name, (position, self._last_commit)) for name, position in due.items()
        )

    def _is_due(self, writer: CheckpointWriter, name: str, position: Any) -> bool:
        if position is None:
            return False
        written, number = self._written_positions.get(name, (None, 0))
        # Sources hand out the same object while nothing changed, and a large one costs.
        return written is not position or writer.last_number - number > POSITION_RECORDS_MAX

    async def _collect(self, writer: CheckpointWriter) -> None:
        needed = [self._last_commit, *(first for first, _ in self._begun.values())]
        needed.extend(number for _, number in self._written_positions.values())
        await writer.collect_garbage(min(needed), self._translator.kept_horizons)

    async def abort(self, batch: Batch) -> None:
        """Throw away what a failed batch staged."""
        for sink in self._sinks:
            try:
                await sink.abort(batch)
            except Exception as error:
                _log.warning("sink %s did not abort batch %s well: %r", sink.name, batch.time, error)

    async def redo(self, batch: int, time: BatchTime, tokens: dict[str, Any]) -> None:
        """Repeat the publishing of the last commit, which a crash may have cut short."""
        for sink in self._sinks:
            await sink.publish(batch, time, tokens.get(sink.name))
