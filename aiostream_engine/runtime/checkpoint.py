"""What makes batches survive the driver: one journal, in which two records frame each batch.

State and kept blocks stand before their COMMIT in the same file: the sync of the COMMIT covers
them, and without it none of them counts. All writers share one queue and one thread: what waits
together is synced together, in the order in which it came. The records are in :mod:`.records`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..blocks.storage import read_bytes
from ..durable.checkpoint_directory import CheckpointDirectory
from ..durable.files import Files
from ..durable.journal import SEGMENT_BYTES, DiskFullError, Journal
from ..durable.seal import Seal
from ..errors import StorageError
from ..types import BlockRef
from .live_records import Live, LiveRecords
from .records import (
    Draft,
    FrozenBatch,
    KeptBlock,
    Kind,
    StateChange,
    block_content,
    encode,
    file_place,
    in_users_file,
    seal_record,
)

__all__ = ["CheckpointWriter", "WriterStatistics"]

T = TypeVar("T")
_log = logging.getLogger("aiostream_engine.checkpoint")

CLOSE_TIMEOUT_S = 10.0
_FULL_WAIT_S = (0.05, 2.0)  # first and longest wait before a full disk is tried again
_FULL_LOG_S = 10.0
_SEGMENTS_MIN = 3
_SEGMENTS_MAX = 64  # each start begins one, however small

Build = Callable[[int], Sequence[Draft]]
Apply = Callable[[Sequence[Live]], None]


def _nothing(_: Sequence[Live]) -> None:
    return None


@dataclass(slots=True)
class _Entry:
    """Records to be written together, all or none.

    build: makes them, given the number that the first one will have; runs in the thread.
    appended: told where they are, before they count, and again when they had to be written again.
    synced: told where they are when they count.
    """

    build: Build
    appended: Apply
    synced: Apply
    done: asyncio.Future[None]
    error: Exception | None = None


@dataclass(slots=True)
class WriterStatistics:
    """Figures since start; ``syncs`` below ``entries`` is what sharing them saved."""

    entries: int = 0
    records: int = 0
    bytes: int = 0
    syncs: int = 0
    segments_dropped: int = 0
    full_disk_waits: int = 0


@dataclass
class CheckpointWriter:
    """Writes the records of one driver; on its event loop, with one thread for the files.

    Parameters
    ----------
    directory: opened and locked.
    number, checksum: of the last record that counts.
    live: records of earlier drivers that are still needed.
    disk_full_wait_s: how long a full disk is waited for. Meanwhile nobody is told that anything is
        durable, so that batches wait, queues fill and senders are held back.

    Raises StorageError when the journal cannot be written and FencedError when another driver took
    over: from then on always. ConfigurationError for what is no plain data concerns its call alone.
    """

    directory: CheckpointDirectory
    number: int
    checksum: int
    seal: Seal
    live: LiveRecords = field(default_factory=LiveRecords)
    files: Files = field(default_factory=Files)
    disk_full_wait_s: float = 300.0
    segment_bytes: int = SEGMENT_BYTES
    statistics: WriterStatistics = field(default_factory=WriterStatistics)

    def __post_init__(self) -> None:
        self._journal = Journal(
            self.directory.journal_path,
            epoch=self.directory.epoch,
            number=self.number,
            checksum=self.checksum,
            files=self.files,
            segment_bytes=self.segment_bytes,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aiostream-journal")
        self._waiting: list[_Entry] = []
        self._flusher: asyncio.Task[None] | None = None
        self._dead: Exception | None = None
        self._closing = asyncio.Event()
        self._declared = 0  # the first record that is needed, by the last COMMIT of this driver
        self._segments = 0  # at the last look for a crowd
        self.problem: str | None = None
        """Why nothing can be written at the moment, None when all is well."""
        self.overdue = 0
        """Records below this number should be written again where they are needed: they hold much else."""

    # -- writing -------------------------------------------------------------------------------

    def _submit(self, build: Build, appended: Apply = _nothing, synced: Apply = _nothing) -> _Entry:
        """Queue records at once, so that the order of calls is that of the records."""
        if self._dead is not None:
            raise self._dead
        loop = asyncio.get_running_loop()
        entry = _Entry(build, appended, synced, loop.create_future())
        entry.done.add_done_callback(_retrieve)
        self._waiting.append(entry)
        if self._flusher is None or self._flusher.done():
            self._flusher = loop.create_task(self._flush(), name="aiostream-journal")
        return entry

    async def _write(self, build: Build, appended: Apply = _nothing, synced: Apply = _nothing) -> None:
        """Durable when it returns; waits together with whatever else is being written."""
        await asyncio.shield(self._submit(build, appended, synced).done)

    async def _flush(self) -> None:
        while self._waiting:
            entries, self._waiting = self._waiting, []
            error: Exception | None = None
            try:
                await self._patiently(entries)
            except (Exception, asyncio.CancelledError) as failure:
                self._dead = error = _as_error(failure)
                entries += self._waiting
                self._waiting = []
            for entry in entries:
                entry.error = entry.error or error
                if entry.error is not None:
                    entry.done.set_exception(entry.error)
                else:
                    entry.done.set_result(None)

    async def _patiently(self, entries: list[_Entry]) -> None:
        """Write entries; wait for room while the disk is full."""
        loop = asyncio.get_running_loop()
        began, told, wait = loop.time(), -_FULL_LOG_S, _FULL_WAIT_S[0]
        while True:
            try:
                await self._in_thread(lambda: self._write_group(entries))
                self.problem = None
                return
            except DiskFullError as error:
                waited = loop.time() - began
                self.problem = str(error)
                self.statistics.full_disk_waits += 1
                if self._closing.is_set() or waited >= self.disk_full_wait_s:
                    raise StorageError(f"{error}; waited {waited:.0f} s for room") from error
                if loop.time() - told >= _FULL_LOG_S:
                    told = loop.time()
                    _log.warning("%s: batches and senders wait for room", error)
            try:
                await asyncio.wait_for(self._closing.wait(), wait)
            except TimeoutError:
                wait = min(2 * wait, _FULL_WAIT_S[1])

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _write_group(self, entries: Sequence[_Entry]) -> None:
        """Append and sync entries; an entry that cannot be built fails alone. In the thread."""
        self.directory.check_epoch()
        self._journal.begin()
        written = [(entry, lives) for entry in entries if (lives := self._append(entry))]
        if not written:
            return
        self._journal.sync()
        # A driver that was stopped in between may have been replaced: then it must not believe itself.
        self.directory.check_epoch()
        self.statistics.syncs += 1
        for entry, lives in written:
            self.statistics.entries += 1
            self.statistics.records += len(lives)
            self.statistics.bytes += sum(live.bytes for live in lives)
            entry.synced(lives)

    def _append(self, entry: _Entry) -> list[Live]:
        entry.error = None
        number = self._journal.number
        try:
            records = []
            for index, draft in enumerate(entry.build(number + 1)):
                text = encode(draft.content, f"a {draft.kind.name} record")
                meta = seal_record(self.seal, draft.kind, number + 1 + index, text, draft.payload)
                records.append((draft.kind, meta, draft.payload))
        except Exception as error:
            entry.error = error
            return []
        lives = []
        for kind, meta, payload in records:
            ref = self._journal.append(kind, meta, payload)
            lives.append(Live(ref.number, len(meta) + len(payload)))
        entry.appended(lives)
        return lives

    async def opened(self, zero_ms: int, interval_ms: int, dropped: Sequence[str] = ()) -> None:
        """A driver begins to work on the directory. dropped: steps whose state is given up."""
        content = {
            "epoch": self.directory.epoch,
            "zero_ms": zero_ms,
            "interval_ms": interval_ms,
            "dropped": list(dropped),
        }
        await self._write(lambda _: [Draft(Kind.OPEN, content)])

    async def log_blocks(self, stream: str, blocks: Sequence[BlockRef]) -> None:
        """Blocks of a receiver, durable before their sender is told that the engine has them."""

        def appended(lives: Sequence[Live]) -> None:
            for block, live in zip(blocks, lives, strict=True):
                self.live.log(block, live)

        await self._write(lambda _: [block_draft(stream, block, None) for block in blocks], appended)

    # -- the two ends of a batch ---------------------------------------------------------------

    async def intent(self, frozen: FrozenBatch) -> None:
        """Freeze the content of a batch; from here it has the same in every repetition."""
        blocks: list[tuple[BlockRef, Live | int]] = []
        positions = {
            name: (encode(position.data, f"the position of input {name!r}").decode(), position.is_change)
            for name, position in frozen.positions.items()
        }

        def build(first: int) -> Sequence[Draft]:
            blocks.clear()
            drafts = self._block_drafts(frozen, first, blocks)
            return [*drafts, self._intent_draft(frozen, blocks, positions)]

        def synced(lives: Sequence[Live]) -> None:
            written = {live.number: live for live in lives}
            known = [(block, at if isinstance(at, Live) else written[at]) for block, at in blocks]
            self.live.begin_batch(frozen.batch, lives[-1].number, known)
            for name, (text, is_change) in positions.items():
                self.live.move(name, lives[-1].number, len(text), is_change)

        await self._write(build, synced=synced)

    def _block_drafts(
        self, frozen: FrozenBatch, first: int, blocks: list[tuple[BlockRef, Live | int]]
    ) -> list[Draft]:
        """The blocks that the journal does not hold yet; ``blocks`` gets the place of all."""
        drafts: list[Draft] = []
        for name, content in frozen.inputs.items():
            for block in content.blocks:
                if in_users_file(block):
                    continue
                place: Live | int | None = self.live.logged(block)
                if place is None:
                    place = first + len(drafts)
                    drafts.append(block_draft(name, block, frozen.batch))
                blocks.append((block, place))
        return drafts

    def _intent_draft(
        self,
        frozen: FrozenBatch,
        blocks: Sequence[tuple[BlockRef, Live | int]],
        positions: Mapping[str, tuple[str, bool]],
    ) -> Draft:
        numbers = iter(place if isinstance(place, int) else place.number for _, place in blocks)
        inputs = {
            name: {
                **content.plain,
                "blocks": [
                    {**block_content(block), "file": file_place(block)}
                    if in_users_file(block)
                    else next(numbers)
                    for block in content.blocks
                ],
            }
            for name, content in frozen.inputs.items()
        }
        texts = {name: {"change" if change else "whole": text} for name, (text, change) in positions.items()}
        content = {**frozen.head, "epoch": self.directory.epoch, "inputs": inputs, "positions": texts}
        return Draft(Kind.INTENT, content)

    async def commit(
        self,
        batch: int,
        time: int,
        states: Sequence[StateChange],
        kept: Sequence[KeptBlock],
        content: Mapping[str, Any],
    ) -> None:
        """The one point at which a batch becomes true: when this returns, it is.

        states, kept: what the batch changed, and what later windows read of it.
        content: JSON data of the commit: fired windows, tokens, and as ``horizons`` for each window the
            label up to which the RDDs that it reads may go.
        """
        commit = {"batch": batch, "time": time, "epoch": self.directory.epoch, **content}

        def build(_: int) -> Sequence[Draft]:
            drafts = [_state_draft(change) for change in states]
            drafts += [self._kept_draft(batch, time, item) for item in kept]
            commit["needs"] = self.live.first_needed()
            return [*drafts, Draft(Kind.COMMIT, commit)]

        def synced(lives: Sequence[Live]) -> None:
            for change, live in zip(states, lives, strict=False):
                self.live.resize(change.state_id, change.partitions)
                self.live.extend_chain(change, live)
            for item, live in zip(kept, lives[len(states) :], strict=False):
                place = self.live.of_batch(batch, item.block)
                if place is not None:
                    self.live.keep(item.windows, time, place)
                self.live.keep(item.windows, time, live)
            self.live.end_batch(batch, lives[-1].number)
            self.live.forget_kept(content["horizons"])
            self._declared = commit["needs"]

        await self._write(build, synced=synced)

    def _kept_draft(self, batch: int, time: int, item: KeptBlock) -> Draft:
        """A kept block; one that the journal holds already, or that lies in a user's file, is not copied."""
        content = {
            **block_content(item.block),
            "windows": item.windows,
            "time": time,
            "partition": item.partition,
            "partitions": item.partitions,
            "placed": item.placed,
        }
        if in_users_file(item.block):
            return Draft(Kind.KEPT, {**content, "file": file_place(item.block)})
        place = self.live.of_batch(batch, item.block)
        if place is not None:
            return Draft(Kind.KEPT, {**content, "record": place.number})
        return Draft.of_data(Kind.KEPT, content, read_bytes(item.block))

    # -- forgetting ----------------------------------------------------------------------------

    async def collect_garbage(self) -> None:
        """Drop segments that nothing needs any more. Raises StorageError."""
        if self._journal.segments > 1:
            await self._in_thread(self._collect)

    def _collect(self) -> None:
        # Only what a durable record says is not needed: so that a missing segment can be missed (C8).
        unneeded = min(self._declared, self.live.first_needed())
        self.statistics.segments_dropped += self._journal.drop_before(unneeded)
        if self._journal.segments != self._segments:
            self._segments = self._journal.segments
            self.overdue = self._journal.second_oldest if self._is_crowded() else 0

    def _is_crowded(self) -> bool:
        """True when a small record that is needed for long holds all that was written after it."""
        spare = _SEGMENTS_MIN * self.segment_bytes
        if self._journal.segments > _SEGMENTS_MAX:
            return True
        return self._journal.bytes > spare and self._journal.bytes > 2 * self.live.bytes() + spare

    def overdue_chains(self) -> list[tuple[str, int]]:
        """Partitions of states whose chains begin before :attr:`overdue`; ask between two batches."""
        if not self.overdue:
            return []
        return [key for key, chain in self.live.chains.items() if chain and chain[0].number < self.overdue]

    @property
    def last_number(self) -> int:
        """Number of the last record that counts."""
        return self._journal.durable

    # -- ending --------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Finish what is being written, close the files, unlock the directory; bounded in time."""
        self._closing.set()
        close = asyncio.get_running_loop().create_task(self._close(), name="aiostream-journal-close")
        _, late = await asyncio.wait({close}, timeout=CLOSE_TIMEOUT_S)
        if late:
            _log.error(
                "the disk of %s does not answer since %g s: it is left as it is",
                self.directory.path,
                CLOSE_TIMEOUT_S,
            )
            for task in (close, self._flusher):
                if task is not None:
                    task.cancel()
            await asyncio.wait({close})
            for call in (self._journal.close, self.directory.close):  # when the disk answers again
                self._thread.submit(call)
        self._thread.shutdown(wait=False)

    async def _close(self) -> None:
        while self._flusher is not None and not self._flusher.done():
            await asyncio.wait({self._flusher})
        self._dead = self._dead or StorageError(f"the checkpoint directory {self.directory.path} is closed")
        try:
            await self._in_thread(self._journal.close)
        except OSError as error:
            _log.warning("the journal in %s was not closed well: %s", self.directory.path, error)
        finally:
            await self._in_thread(self.directory.close)


def _as_error(failure: BaseException) -> Exception:
    """What to tell the writers; a cancellation is the end of a disk that did not answer."""
    return failure if isinstance(failure, Exception) else StorageError("the disk did not answer in time")


def _retrieve(done: asyncio.Future[None]) -> None:
    """Nobody may wait any more for what failed: then it is not reported as never retrieved."""
    if not done.cancelled():
        done.exception()


def block_draft(stream: str, block: BlockRef, batch: int | None) -> Draft:
    """A block; with ``batch`` it counts only if the intent of that batch does."""
    content = {"stream": stream, "batch": batch, **block_content(block)}
    return Draft.of_data(Kind.BLOCK, content, read_bytes(block))


def _state_draft(change: StateChange) -> Draft:
    content = {
        "state": change.state_id,
        "partition": change.partition,
        "partitions": change.partitions,
        "version": change.version,
        "first": change.first,
        "keys": change.keys,
        "schema": change.schema,
        "hashed": change.hashed,
    }
    return Draft.of_data(Kind.STATE, content, read_bytes(change.block))
