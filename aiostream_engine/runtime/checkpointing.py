"""A checkpoint directory in use: opened before the stream runs, and what it restores."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..config import CheckpointConfig
from ..durable.checkpoint_directory import CheckpointDirectory
from ..durable.crash import crash_point
from ..durable.files import Files
from ..durable.seal import Seal
from ..errors import CorruptionError, GraphError, StorageError
from ..plan.graph import InputStream, InverseWindowStream, OutputNode, StreamNode, WindowStream
from ..sinks.base import BatchMark
from ..sources.base import BatchInput, ReplayableSource, Source
from ..types import BatchTime, BlockRef
from .checkpoint import CheckpointWriter
from .driver import StreamDriver
from .inputs import Inputs
from .recovered import Prepared, Recovered
from .recovery import recover, step_of_state
from .state_restoring import StateRestoring
from .ticker import Tick
from .translator import DatasetFactory, has_state, stored_state_id

__all__ = ["CheckpointSession"]

_log = logging.getLogger("aiostream_engine.checkpoint")


@dataclass(slots=True)
class CheckpointSession:
    """One driver's turn at a checkpoint directory.

    config: as given. writer: writes the journal. recovered: what the journal held.
    dropped: names of steps and inputs whose remains are given up, because the program has them no more.
    """

    config: CheckpointConfig
    writer: CheckpointWriter
    recovered: Recovered
    dropped: tuple[str, ...] = ()

    @classmethod
    async def open(cls, config: CheckpointConfig, files: Files | None = None) -> CheckpointSession:
        """Lock the directory and read its journal, in a thread; says how long it took.

        files: the file operations, for tests.
        """
        files = files or Files()
        opening = _Opening(config, files)
        try:
            directory, seal, recovered = await asyncio.to_thread(opening.run)
        except asyncio.CancelledError:
            opening.abandon()
            raise
        if recovered.records:
            _log.info(
                "recovered from %s: batch %d is committed, %d to be run again, %d records read in %.2f s",
                directory.path,
                recovered.batch,
                len(recovered.pending),
                recovered.records,
                recovered.seconds,
            )
        writer = CheckpointWriter(
            directory,
            recovered.number,
            recovered.checksum,
            seal,
            recovered.live,
            files,
            disk_full_wait_s=config.disk_full_wait_s,
            segment_bytes=config.segment_bytes,
        )
        return cls(config, writer, recovered)

    @property
    def last_time(self) -> int | None:
        """The last label that was given to a batch, None for a new directory."""
        return self.recovered.last_time

    # -- checks --------------------------------------------------------------------------------

    def check(self, nodes: Sequence[StreamNode], outputs: Sequence[OutputNode]) -> None:
        """Refuse a program whose steps cannot be bound to what the directory holds (scenario H3)."""
        keepers = [node for node in nodes if has_state(node) or isinstance(node, WindowStream)]
        nameless = sorted({node.name for node in keepers if not node.named})
        if nameless:
            raise GraphError(
                "with a checkpoint directory every step that keeps state needs a name of its own: give name= "
                f"to {', '.join(nameless)}. Generated names change when the program does"
            )
        sinks = [output.sink.name for output in outputs if output.sink is not None]
        inputs = [node.name for node in nodes if isinstance(node, InputStream)]
        _check_different("steps", [node.name for node in keepers])
        _check_different("sinks", sinks)
        _check_different("inputs", [name.partition("#")[0] if "#" in name else name for name in inputs])
        self._check_unknown(nodes, inputs)

    def _check_unknown(self, nodes: Sequence[StreamNode], inputs: Sequence[str]) -> None:
        recovered = self.recovered
        states = {stored_state_id(node) for node in nodes if has_state(node)}
        windows = {node.name for node in nodes if isinstance(node, WindowStream | InverseWindowStream)}
        steps = {step_of_state(state_id) for state_id in recovered.states.keys() - states}
        steps |= recovered.kept.keys() - windows
        sources = set(recovered.positions) | set(recovered.leftovers)
        sources |= {
            name
            for intent in recovered.pending
            for name, item in intent.inputs.items()
            if item.blocks or item.recipe is not None
        }
        self.dropped = tuple(sorted(steps | (sources - set(inputs))))
        if not self.dropped:
            return
        if not self.config.drop_unknown_state:
            raise GraphError(
                f"{self.config.directory} holds the state of steps or inputs that this program does not "
                f"have: {', '.join(self.dropped)}. Give them these names again, or lose what they held by "
                "drop_unknown_state=True"
            )
        _log.warning("what removed steps and inputs held is dropped: %s", ", ".join(self.dropped))
        self._drop(recovered.states.keys() - states)

    def _drop(self, state_ids: set[str]) -> None:
        recovered, live = self.recovered, self.recovered.live
        for key in [key for key in live.chains if key[0] in state_ids]:
            del live.chains[key]
        for state_id in state_ids:
            del recovered.states[state_id]
        for name in self.dropped:
            recovered.kept.pop(name, None)
            live.positions.pop(name, None)
            for block in recovered.leftovers.pop(name, ()):
                live.forget_logged(block)
            for intent in recovered.pending:
                for block in intent.inputs.pop(name, BatchInput()).blocks:
                    live.forget_logged(block)

    # -- what a transaction decided --------------------------------------------------------------

    async def resolve(self, outputs: Sequence[OutputNode]) -> None:
        """Ask the sink that makes batches true about the last prepared one; its sinks are open.

        Raises GraphError when the program has not the sink that knows, StorageError when that has
        forgotten, and CorruptionError when it is ahead of this directory.
        """
        sinks = [output.sink for output in outputs if output.sink is not None]
        point = next((sink for sink in sinks if sink.commit_point is not None), None)
        prepared = self.recovered.prepared
        if prepared is not None and (point is None or point.commit_point != prepared.commit_point):
            raise GraphError(
                f"whether batch {prepared.batch} is true is known to {prepared.commit_point} alone: start "
                "once more with the sink that writes there"
            )
        mark = None if point is None else await point.committed()
        if point is not None:
            self._check_mark(point.commit_point or "", mark, prepared)
            if mark is None:
                await point.begin(BatchMark(self.recovered.batch, max(0, self.recovered.time)))
        if prepared is None:
            return
        if mark != (prepared.batch, prepared.time):
            _log.info("batch %d was prepared, but its transaction is not committed", prepared.batch)
            return
        _log.info("batch %d is true: its transaction is committed", prepared.batch)
        crash_point("before_confirm")
        await self.writer.confirm_found(prepared.batch, prepared.time, prepared.number)
        await asyncio.to_thread(self._read_again)

    def _check_mark(self, where: str, mark: BatchMark | None, prepared: Prepared | None) -> None:
        directory = self.config.directory
        if prepared is not None and mark is None:
            raise StorageError(
                f"{where} has forgotten whether batch {prepared.batch} is true. Look there; then "
                f"have the batch run again, by `checkpoint repair {directory} --give-up-from "
                f"{prepared.number}`, or begin anew"
            )
        last = prepared.time if prepared is not None else self.recovered.time
        if mark is None or mark.time <= last:
            return
        if self.recovered.batch or prepared is not None:
            raise CorruptionError(
                f"{where} says that batch {mark.batch_id} ({mark.time}) is true, but {directory} ends before "
                "it: the directory is an old copy, or another stream uses the same transactional id"
            )
        _log.warning("%s remembers batch %d of an earlier directory: it begins anew", where, mark.batch_id)

    def _read_again(self) -> None:
        directory, writer = self.writer.directory, self.writer
        self.recovered = recover(directory.journal_path, writer.seal, writer.files, settle=False)
        writer.live = self.recovered.live

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
        recovered = self.recovered
        engine.runner.states.make_durable(node.state_id for node in nodes if has_state(node))
        driver.translator.restore(recovered.commit.get("fired", {}), recovered.kept)
        states = StateRestoring(recovered, nodes, engine, driver)
        await states.restore()
        driver.inputs.take_over({name: list(blocks) for name, blocks in recovered.leftovers.items()})
        for item in driver.inputs.nodes:
            self._restore_source(item.name, item.source)
        crash_point("mid_recovery")
        if recovered.commit:
            time, tokens = BatchTime(recovered.time), recovered.commit["tokens"]
            await driver.protocol.redo(recovered.batch, time, tokens)
        then = states.use_recorded_layout()
        driver.resume(recovered.batch, recovered.time, self._pending(driver.inputs), then)
        await self.writer.opened(zero_ms, interval_ms, self.dropped)

    def _restore_source(self, name: str, source: Source) -> None:
        position = self.recovered.positions.get(name)
        if position is not None and isinstance(source, ReplayableSource):
            source.restore(position.whole)
            for change in position.changes:
                source.advance(change)
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


def _check_different(what: str, names: Sequence[str]) -> None:
    double = [name for name, count in Counter(names).items() if count > 1]
    if double:
        raise GraphError(
            f"two {what} are named {double[0]!r}: with a checkpoint directory give each a name= of its own"
        )


class _Opening:
    """Opens a directory in a thread; nobody keeps its lock when the start was cancelled meanwhile."""

    def __init__(self, config: CheckpointConfig, files: Files) -> None:
        self._config = config
        self._files = files
        self._lock = threading.Lock()
        self._directory: CheckpointDirectory | None = None
        self._abandoned = False

    def run(self) -> tuple[CheckpointDirectory, Seal, Recovered]:
        """Lock the directory and read its journal; blocking."""
        directory = CheckpointDirectory(self._config.directory, self._files)
        try:
            seal = Seal(self._config.key)
            recovered = recover(directory.journal_path, seal, self._files)
        except OSError as error:
            directory.close()
            raise StorageError(
                f"the journal in {directory.path} cannot be read or synced: {error}"
            ) from error
        except BaseException:
            directory.close()
            raise
        with self._lock:
            self._directory = directory
            if self._abandoned:
                directory.close()
        return directory, seal, recovered

    def abandon(self) -> None:
        """Unlock the directory, now or when it is open."""
        with self._lock:
            self._abandoned = True
            if self._directory is not None:
                self._directory.close()
