"""A checkpoint directory in use: opened before the stream runs, and what it restores."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..blocks.directory import BlockDirectory
from ..config import CheckpointConfig
from ..durable.checkpoint_directory import CheckpointDirectory
from ..durable.crash import crash_point
from ..durable.seal import Seal
from ..errors import GraphError
from ..plan.graph import InputStream, InverseWindowStream, OutputNode, StateStream, StreamNode, WindowStream
from ..sources.base import BatchInput, ReplayableSource, Source
from ..types import BatchTime, BlockRef
from .checkpoint import CheckpointWriter
from .driver import StreamDriver
from .inputs import Inputs
from .recovery import Recovered, dealt_anew, recover
from .state_registry import StateRegistry
from .ticker import Tick
from .translator import DatasetFactory

__all__ = ["CheckpointSession"]

_log = logging.getLogger("aiostream_engine.checkpoint")


@dataclass(slots=True)
class CheckpointSession:
    """One driver's turn at a checkpoint directory.

    config: as given. writer: writes the journal. recovered: what the journal held.
    """

    config: CheckpointConfig
    writer: CheckpointWriter
    recovered: Recovered

    @classmethod
    async def open(cls, config: CheckpointConfig) -> CheckpointSession:
        """Lock the directory and read its journal, in a thread; says how long it took."""
        directory, seal, recovered = await asyncio.to_thread(_open, config)
        if recovered.records:
            _log.info(
                "recovered from %s: batch %d is committed, %d to be run again, %d records read in %.2f s",
                directory.path,
                recovered.batch,
                len(recovered.pending),
                recovered.records,
                recovered.seconds,
            )
        writer = CheckpointWriter(directory, recovered.number, recovered.checksum, seal)
        return cls(config, writer, recovered)

    @property
    def last_time(self) -> int | None:
        """The last label that was given to a batch, None for a new directory."""
        pending = self.recovered.pending
        last = pending[-1].time if pending else self.recovered.time
        return None if last < 0 else last

    # -- checks --------------------------------------------------------------------------------

    def check(self, nodes: Sequence[StreamNode], outputs: Sequence[OutputNode]) -> None:
        """Refuse a program whose steps cannot be bound to what the directory holds (scenario H3)."""
        keepers = [
            node for node in nodes if isinstance(node, StateStream | InverseWindowStream | WindowStream)
        ]
        nameless = sorted({node.name for node in keepers if not node.named})
        if nameless:
            raise GraphError(
                "with a checkpoint directory every step that keeps state needs a name of its own: give name= "
                f"to {', '.join(nameless)}. Generated names change when the program does"
            )
        sinks = [output.sink.name for output in outputs if output.sink is not None]
        inputs = [node.name for node in nodes if isinstance(node, InputStream)]
        for what, names in (("steps", [node.name for node in keepers]), ("sinks", sinks), ("inputs", inputs)):
            double = [name for name, count in Counter(names).items() if count > 1]
            if double:
                raise GraphError(
                    f"two {what} are named {double[0]!r}: with a checkpoint directory names must differ"
                )
        self._check_unknown(keepers)

    def _check_unknown(self, keepers: Sequence[StreamNode]) -> None:
        known = {node.name for node in keepers}
        stored = {state_id.removeprefix("state of ") for state_id in self.recovered.states} | set(
            self.recovered.kept
        )
        unknown = sorted(stored - known)
        if not unknown:
            return
        if not self.config.drop_unknown_state:
            raise GraphError(
                f"{self.config.directory} holds state of steps that this program does not have: "
                f"{', '.join(unknown)}. Give the steps these names again, or set drop_unknown_state=True "
                "to lose that state"
            )
        _log.warning("state of removed steps is dropped: %s", ", ".join(unknown))

    # -- restoring -----------------------------------------------------------------------------

    async def restore(
        self,
        nodes: Sequence[StreamNode],
        engine: DatasetFactory,
        driver: StreamDriver,
        zero_ms: int,
        interval_ms: int,
    ) -> None:
        """Put everything back as at the last commit, publish that again, and queue what was pending."""
        recovered, journal, runner = self.recovered, self.writer.directory.journal_path, engine.runner
        runner.states.durable = True
        driver.translator.restore(recovered.commit.get("fired", {}), recovered.kept)
        for node in nodes:
            if isinstance(node, StateStream | InverseWindowStream):
                await self._restore_state(node, runner.directory, runner.states)
        self.writer.adopt(recovered.chain_numbers, recovered.kept_numbers, recovered.stored)
        leftovers = recovered.leftovers.items()
        driver.inputs.take_over({name: [ref.to_block(journal) for ref in refs] for name, refs in leftovers})
        for item in driver.inputs.nodes:
            self._restore_source(item.name, item.source)
        crash_point("mid_recovery")
        if recovered.commit:
            time, tokens = BatchTime(recovered.time), recovered.commit.get("tokens", {})
            await driver.protocol.redo(recovered.batch, time, tokens)
        driver.resume(recovered.batch, recovered.time, self._pending(driver.inputs))
        await self.writer.opened(zero_ms, interval_ms)

    async def _restore_state(
        self, node: StateStream | InverseWindowStream, directory: BlockDirectory, states: StateRegistry
    ) -> None:
        chains = self.recovered.states.get(node.state_id, {})
        if not chains:
            return
        partitions = node.partitioner.partitions
        if len(chains) == partitions:
            for index, chain in chains.items():
                states.seed(node.state_id, index, chain.version, self.recovered.time, chain.blocks)
            return
        _log.info("state %s is dealt anew from %d to %d partitions", node.name, len(chains), partitions)
        payloads = await asyncio.to_thread(dealt_anew, chains, partitions)
        for index, payload in enumerate(payloads):
            path, _ = await asyncio.to_thread(directory.writer.write, [payload])
            block = BlockRef("pickle", None, path, 0, len(payload))
            states.seed(node.state_id, index, 1, self.recovered.time, [block], new_partitions=partitions)

    def _restore_source(self, name: str, source: Source) -> None:
        position = self.recovered.positions.get(name)
        if position is not None and isinstance(source, ReplayableSource):
            source.restore(position)
        if hasattr(source, "on_block") and source.on_block is None:

            async def log(block: BlockRef) -> None:
                await self.writer.log_blocks(name, [block])

            source.on_block = log

    def _pending(self, inputs: Inputs) -> list[tuple[Tick, list[BatchInput]]]:
        nothing = BatchInput()
        return [
            (
                Tick(BatchTime(intent.time), intent.missed),
                [intent.inputs.get(node.name, nothing) for node in inputs.nodes],
            )
            for intent in self.recovered.pending
        ]

    async def aclose(self) -> None:
        """Close the journal and unlock the directory."""
        await self.writer.aclose()


def _open(config: CheckpointConfig) -> tuple[CheckpointDirectory, Seal, Recovered]:
    directory = CheckpointDirectory(config.directory)
    try:
        seal = Seal(config.key)
        return directory, seal, recover(directory.journal_path, seal)
    except BaseException:
        directory.close()
        raise
