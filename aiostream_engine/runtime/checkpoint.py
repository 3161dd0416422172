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

from ..durable.checkpoint_directory import CheckpointDirectory
from ..durable.files import Files
from ..durable.journal import SEGMENT_BYTES, DiskFullError, Journal
from ..durable.seal import Seal, digest_of
from ..errors import StorageError
from ..types import BlockRef
from .entries import (
    BlocksEntry,
    CommitEntry,
    ConfirmEntry,
    Entry,
    IntentEntry,
    OpenEntry,
    PreparedEntry,
)
from .live_records import Live, LiveRecords
from .records import FrozenBatch, KeptBlock, Payload, StateChange, encode, seal_record

__all__ = ["CheckpointWriter", "WriterStatistics"]

T = TypeVar("T")
_log = logging.getLogger("aiostream_engine.checkpoint")

CLOSE_TIMEOUT_S = 10.0
DIGEST_ALONE_BYTES = 64 * 1024  # below it the hand-over costs more
DIGEST_APART_BYTES = 1024 * 1024
DIGEST_THREADS = 2  # hashing takes longer than writing to a fast disk
_FULL_WAIT_S = (0.05, 2.0)  # first and longest wait before a full disk is tried again
_FULL_LOG_S = 10.0
IDLE_S = 1.0  # so long, at most, an idle batch stays unwritten
IDLE_BATCHES_MAX = 256
_SEGMENTS_MIN = 3
_SEGMENTS_MAX = 64  # each start begins one, however small


@dataclass(slots=True)
class _Waiting:
    """An entry, and who waits for it. behind: it needs the intents of all batches up to this one."""

    entry: Entry
    done: asyncio.Future[None]
    behind: int = 0
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
        self._digests = ThreadPoolExecutor(DIGEST_THREADS, thread_name_prefix="aiostream-digest")
        self._waiting: list[_Waiting] = []
        self._flusher: asyncio.Task[None] | None = None
        self._dead: Exception | None = None
        self._closing = asyncio.Event()
        self._idle: asyncio.TimerHandle | None = None  # set while only idle batches wait
        self._gap: tuple[int, Exception] | None = None  # a batch whose intent could not be made, and why
        self._declared = 0  # the first record that is needed, by the last COMMIT of this driver
        self._collected = 0  # syncs at the last look for what is not needed
        self._segments = 0  # at the last look for a crowd
        self.problem: str | None = None
        """Why nothing can be written at the moment, None when all is well."""
        self.overdue = 0
        """Records below this number should be written again where they are needed: they hold much else."""

    # -- writing -------------------------------------------------------------------------------

    async def _write(self, entry: Entry, *, behind: int = 0) -> None:
        """Durable when it returns; waits together with whatever else is being written.

        Queued at once, so that the order of calls is that of the records.
        """
        if self._dead is not None:
            raise self._dead
        done = self._enqueue(entry, behind)
        self._start()
        await asyncio.shield(done)

    def _enqueue(self, entry: Entry, behind: int) -> asyncio.Future[None]:
        waiting = _Waiting(entry, asyncio.get_running_loop().create_future(), behind)
        waiting.done.add_done_callback(_retrieve)
        self._waiting.append(waiting)
        return waiting.done

    def _start(self) -> None:
        """Write what waits."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._waiting and not self._is_writing:
            self._flusher = asyncio.get_running_loop().create_task(self._flush(), name="aiostream-journal")

    @property
    def _is_writing(self) -> bool:
        return self._flusher is not None and not self._flusher.done()

    async def _flush(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            error: Exception | None = None
            try:
                await self._patiently(group)
            except (Exception, asyncio.CancelledError) as failure:
                self._dead = error = _as_error(failure)
                group += self._waiting
                self._waiting = []
            for waiting in group:
                waiting.error = waiting.error or error
                if waiting.error is not None:
                    waiting.done.set_exception(waiting.error)
                else:
                    waiting.done.set_result(None)

    async def _patiently(self, group: list[_Waiting]) -> None:
        """Write entries; wait for room while the disk is full."""
        loop = asyncio.get_running_loop()
        began, told, wait = loop.time(), -_FULL_LOG_S, _FULL_WAIT_S[0]
        while True:
            try:
                await self._in_thread(lambda: self._write_group(group))
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

    def _write_group(self, group: Sequence[_Waiting]) -> None:
        """Append and sync entries; one that cannot be built fails alone. In the thread."""
        self.directory.check_epoch()
        self._journal.begin()
        written = [(waiting.entry, lives) for waiting in group if (lives := self._append(waiting))]
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

    def _append(self, waiting: _Waiting) -> list[Live]:
        waiting.error = self._refusal(waiting)
        if waiting.error is not None:
            return []
        number = self._journal.number
        try:
            records = []
            for index, draft in enumerate(waiting.entry.build(number + 1)):
                text = encode(draft.content, f"a {draft.kind.name} record")
                meta = seal_record(self.seal, draft.kind, number + 1 + index, text, draft.payload.digest)
                records.append((draft.kind, meta, draft.payload))
        except Exception as error:
            waiting.error = error
            if isinstance(waiting.entry, IntentEntry):
                self._gap = (waiting.behind + 1, error)
            return []
        lives = []
        for kind, meta, payload in records:
            ref = self._journal.append(kind, meta, payload.data, payload.crc)
            lives.append(Live(ref.number, len(meta) + len(payload.data)))
        waiting.entry.appended(lives)
        return lives

    def _refusal(self, waiting: _Waiting) -> Exception | None:
        """No batch is frozen behind one that could not be: recovery would miss that one."""
        if self._gap is None or waiting.behind < self._gap[0]:
            return None
        batch, error = self._gap
        return StorageError(f"batch {batch} could not be written to the journal: {error}")

    def _payload(self, block: BlockRef) -> Callable[[], Payload]:
        """A block to be written; a large one is digested beside what the journal is writing meanwhile.

        When it writes nothing there is nothing to overlap with: then the two sums of a large block are made
        beside each other, and a small one is not handed over at all.
        """
        writes = self._is_writing
        if self._dead is not None or block.size < (DIGEST_ALONE_BYTES if writes else DIGEST_APART_BYTES):
            return lambda: Payload.of(block)
        if writes:
            return self._digests.submit(Payload.of, block).result
        return lambda: Payload.of(block, lambda data: self._digests.submit(digest_of, data).result)

    # -- records -------------------------------------------------------------------------------

    async def opened(self, zero_ms: int, interval_ms: int, dropped: Sequence[str] = ()) -> None:
        """A driver begins to work on the directory. dropped: steps and inputs that are given up."""
        await self._write(OpenEntry(self.directory.epoch, zero_ms, interval_ms, dropped))

    async def log_blocks(self, stream: str, blocks: Sequence[BlockRef]) -> None:
        """Blocks of a receiver, durable before their sender is told that the engine has them."""
        await self._write(BlocksEntry(self.live, self._payload, stream, blocks))

    async def intent(self, frozen: FrozenBatch) -> None:
        """Freeze the content of a batch; from here it has the same in every repetition."""
        try:
            entry = IntentEntry(self.live, self._payload, frozen, self.directory.epoch)
        except Exception as error:
            self._gap = self._gap or (frozen.batch, error)
            raise
        await self._write(entry, behind=frozen.batch - 1)

    async def idle(self, frozen: FrozenBatch, time: int, content: Mapping[str, Any]) -> None:
        """A batch that changes nothing and of which nothing was seen: its intent and its commit.

        Both are written before whatever is written next, or within :data:`IDLE_S`, and not waited for: a
        crash makes as if the batch had not been cut. Only when too many wait, this does as well.
        """
        if self._dead is not None:
            raise self._dead
        content = {**content, "epoch": self.directory.epoch}
        commit = CommitEntry(self.live, self._payload, frozen.batch, time, (), (), content)
        self._enqueue(IntentEntry(self.live, self._payload, frozen, self.directory.epoch), frozen.batch - 1)
        done = self._enqueue(commit, frozen.batch)
        done.add_done_callback(lambda _: self._declare(commit.needs))
        if len(self._waiting) > 2 * IDLE_BATCHES_MAX:
            self._start()
            await asyncio.shield(done)
        elif self._idle is None and not self._is_writing:
            self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._start)

    def _declare(self, needs: int) -> None:
        self._declared = max(self._declared, needs)

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
        content = {**content, "epoch": self.directory.epoch}
        entry = CommitEntry(self.live, self._payload, batch, time, states, kept, content)
        await self._write(entry)
        self._declared = entry.needs

    async def prepare(
        self,
        batch: int,
        time: int,
        states: Sequence[StateChange],
        kept: Sequence[KeptBlock],
        content: Mapping[str, Any],
    ) -> PreparedEntry:
        """Make durable what :meth:`commit` would, of a batch about which a transaction outside decides.

        content: has ``commit_point`` besides, where a recovery has to ask. Give the result to
        :meth:`confirm` when the transaction was committed; without that the batch is not true.
        """
        content = {**content, "epoch": self.directory.epoch}
        entry = PreparedEntry(self.live, self._payload, batch, time, states, kept, content)
        await self._write(entry)
        return entry

    async def confirm(self, prepared: PreparedEntry) -> None:
        """Note that a prepared batch is true."""
        await self._write(prepared.confirmation(self.directory.epoch))
        self._declared = prepared.needs

    async def confirm_found(self, batch: int, time: int, prepared: int) -> None:
        """Note that a batch is true that an earlier driver had prepared in record ``prepared``."""
        await self._write(ConfirmEntry(batch, time, prepared, self.directory.epoch))

    # -- forgetting ----------------------------------------------------------------------------

    async def collect_garbage(self) -> None:
        """Drop segments that nothing needs any more. Raises StorageError."""
        if self._journal.segments > 1 and self._collected != self.statistics.syncs:
            self._collected = self.statistics.syncs
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
        self._digests.shutdown(wait=False)

    async def _close(self) -> None:
        self._start()
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
