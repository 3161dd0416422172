"""The life of a batch after its cut, as far as it concerns what is true: one order, one place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..durable.crash import crash_point
from ..errors import GraphError
from ..operators.partitioners import HashPartitioner
from ..plan.graph import OutputNode, StateStream
from ..sources.base import BatchInput
from ..types import BatchTime
from .checkpoint import CheckpointWriter
from .entries import PreparedEntry
from .inputs import Inputs
from .machine import Batch
from .records import FrozenBatch, FrozenInput, Position, StateChange, plain
from .sink_driver import SinkDriver
from .state_registry import StateRegistry
from .translator import Translator, has_state, stored_state_id

__all__ = ["CommitProtocol"]

_log = logging.getLogger("aiostream_engine.commit")


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
        self._written: dict[str, Any] = {}  # the last position of each input that was handed to the journal
        self._point = _commit_point(self._sinks)
        self._described_inputs: dict[int, dict[str, Any]] = {}  # of batches in flight
        self._idle: dict[int, tuple[Batch, FrozenBatch]] = {}  # in flight, and not frozen
        self._begun: asyncio.Future[None] | None = None  # of the last batch that was frozen
        self._keepers = {node.state_id: node for node in translator.nodes if has_state(node)}
        self._state_ids = {stored_state_id(node): name for name, node in self._keepers.items()}

    def begin(self, batch: Batch, contents: Sequence[BatchInput]) -> None:
        """Freeze the content of a batch; costs nothing without a journal.

        Its record is written while the batch is already being computed; what can be seen outside, the
        output operations and the writes of sinks, waits for :meth:`.machine.Batch.frozen`. A batch that takes
        nothing from its inputs is frozen when somebody waits for that, or a later one is.
        """
        if self._point is not None:
            self._described_inputs[batch.id] = {
                node.name: content.metadata
                for node, content in zip(self._inputs.nodes, contents, strict=True)
            }
        if self._writer is None:
            return
        frozen = self._frozen(self._writer, batch, contents)
        self._idle[batch.id] = batch, frozen
        batch.freeze = partial(self._freeze, self._writer, batch.id)
        if not frozen.is_idle:
            batch.freeze()

    def _freeze(self, writer: CheckpointWriter, last: int) -> None:
        """Write the intents of batch ``last`` and of those before it, in their order."""
        for batch_id in [batch_id for batch_id in self._idle if batch_id <= last]:
            batch, frozen = self._idle.pop(batch_id)
            batch.freeze = None
            batch.begun = asyncio.get_running_loop().create_task(
                self._write_intent(writer, frozen, self._begun), name=f"aiostream-intent-{batch_id}"
            )
            batch.begun.add_done_callback(_retrieve)
            self._begun = batch.begun

    @staticmethod
    async def _write_intent(
        writer: CheckpointWriter, frozen: FrozenBatch, previous: asyncio.Future[None] | None
    ) -> None:
        if previous is not None and previous.done():
            previous.result()  # no batch begins behind one that failed before it came to the journal
        crash_point("before_intent")
        await writer.intent(frozen)
        crash_point("after_intent")

    def _frozen(self, writer: CheckpointWriter, batch: Batch, contents: Sequence[BatchInput]) -> FrozenBatch:
        layout = self._translator.layout
        head = {
            "batch": batch.id,
            "time": int(batch.time),
            "missed": batch.ticks_missed,
            "parallelism": layout.parallelism,
            "steps": layout.steps,
        }
        inputs, positions = {}, {}
        for node, content in zip(self._inputs.nodes, contents, strict=True):
            if content.datasets:
                raise GraphError(
                    f"input {node.name!r} hands over RDDs, which no checkpoint can hold: hand over lists"
                )
            described: dict[str, Any] = {"records": content.records, "bytes": content.bytes}
            if content.recipe is not None:
                described["recipe"] = content.recipe
            inputs[node.name] = FrozenInput(
                content.blocks if content.recipe is None else (),
                {**described, "metadata": plain(content.metadata)},
            )
            position = self._position(writer, node.name, content)
            if position is not None:
                positions[node.name] = position
        return FrozenBatch(batch.id, head, inputs, positions)

    def _position(self, writer: CheckpointWriter, name: str, content: BatchInput) -> Position | None:
        """What has to be written of an input's position; None when it stays as it was."""
        if content.position is None:
            return None
        track = writer.live.positions.get(name)
        due = track is None or track.is_long or track.first < writer.overdue
        if content.position_change is not None and not due:
            return Position(content.position_change, True) if content.position_change else None
        whole = content.position() if callable(content.position) else content.position
        if not due and name in self._written and self._written[name] == whole:
            return None
        self._written[name] = whole
        return Position(whole, False)

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

        A batch of which nothing was or will be seen, that took nothing from its inputs and changed no state,
        is not waited for in step 2: its records are written with those of the next batch, or within
        :data:`.checkpoint.IDLE_S`. After a crash it was never cut; no later batch can be true without it.

        With a sink that is the commit point, and output for it in the batch, step 2 is:

        2a. A prepared record is written and synced, with all that the commit record would cover. The
            batch is not true.
        2b. **The sink's transaction is committed, with the mark of the batch: from here it is true.**
        2c. The commit record is written, which only names the prepared one. When a crash comes before
            it, recovery asks the sink for its mark, and writes this record or drops what was prepared.
        """
        point = self._point if self._point is not None and self._point.has_output(batch) else None
        await self._decide(point, batch)
        self._described_inputs.pop(batch.id, None)
        if self._writer is not None:
            crash_point("after_commit")
        for sink in self._sinks:
            await sink.publish(batch.id, batch.time, batch.tokens.pop(sink.name, None))
            crash_point("mid_publish")
        await self._inputs.committed(batch.time)
        crash_point("after_publish")
        self._translator.forget(batch)
        if self._writer is not None:
            await self._writer.collect_garbage()
            crash_point("after_collect")

    async def _decide(self, point: SinkDriver | None, batch: Batch) -> None:
        """Make the batch true."""
        prepared = None
        if self._writer is not None:
            prepared = await self._write(self._writer, batch, point)
        if point is not None:
            crash_point("after_prepare")
            await point.commit_batch(batch, self._described_inputs.get(batch.id, {}))
            crash_point("after_transaction")
        if self._writer is not None and prepared is not None:
            await self._writer.confirm(prepared)

    async def _write(
        self, writer: CheckpointWriter, batch: Batch, point: SinkDriver | None
    ) -> PreparedEntry | None:
        """Write the commit, or, with a sink that decides, what it will cover."""
        for state_id, partition in writer.overdue_chains():
            if state_id in self._state_ids:
                self._states.rewrite(self._state_ids[state_id], partition, batch.time)
        changes = self._states.take_changes(batch.time, self._keepers.keys())
        content = {
            **self._clock,
            "fired": self._translator.fired(),
            "horizons": self._translator.horizons(batch),
            "tokens": batch.tokens,
        }
        kept = self._translator.kept_blocks(batch)
        try:
            described = [self._described(change) for change in changes]
            if batch.id in self._idle and not (described or kept or batch.tokens):
                _, frozen = self._idle.pop(batch.id)
                batch.freeze = None
                await writer.idle(frozen, int(batch.time), content)
                return None
            await batch.frozen()
            crash_point("before_commit")
            if point is None:
                await writer.commit(batch.id, int(batch.time), described, kept, content)
                return None
            tokens = {name: token for name, token in batch.tokens.items() if name != point.name}
            content |= {"tokens": tokens, "commit_point": point.commit_point}
            return await writer.prepare(batch.id, int(batch.time), described, kept, content)
        finally:
            self._states.release_changes(changes)

    def _described(self, change: StateChange) -> StateChange:
        node = self._keepers[change.state_id]
        hashed = isinstance(node.partitioner, HashPartitioner)
        schema = node.schema if isinstance(node, StateStream) else 1
        return change._replace(state_id=stored_state_id(node), schema=schema, hashed=hashed)

    async def abort(self, batch: Batch) -> None:
        """Throw away what a failed batch staged."""
        self._described_inputs.pop(batch.id, None)
        for sink in self._sinks:
            try:
                await sink.abort(batch)
            except Exception as error:
                _log.warning("sink %s did not abort batch %s well: %r", sink.name, batch.time, error)

    async def redo(self, batch: int, time: BatchTime, tokens: dict[str, Any]) -> None:
        """Repeat the publishing of the last commit, which a crash may have cut short."""
        for sink in self._sinks:
            await sink.publish(batch, time, tokens.get(sink.name))


def _commit_point(sinks: Sequence[SinkDriver]) -> SinkDriver | None:
    """The sink whose transaction makes batches true. Raises GraphError for a second one."""
    points = [sink for sink in sinks if sink.commit_point is not None]
    if len(points) > 1:
        raise GraphError(
            f"sinks {points[0].name!r} and {points[1].name!r} would both decide whether a batch is true: one "
            "transaction can do that. Let one sink write to several topics (topic= takes a function of the "
            "record), or give the other one no transactional_id, which makes it at least once"
        )
    return points[0] if points else None


def _retrieve(task: asyncio.Future[None]) -> None:
    """A failure is met again by whoever waits for the intent; there may be nobody left to do so."""
    if not task.cancelled():
        task.exception()
