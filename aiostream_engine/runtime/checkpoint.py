"""What makes batches survive the driver: one journal, in which two records frame each batch.

    BLOCK    a block of a source that cannot replay, before or with the batch that holds it
    INTENT   the frozen content of a batch, before any of its effects
    STATE    changes or a snapshot of one partition of a keyed state
    KEPT     a block of an RDD that later windows need
    COMMIT   the batch is true: positions, versions of states, tokens of sinks

State and kept blocks stand before their COMMIT in the same file: the sync of the COMMIT covers
them, and without it none of them counts. All writers share one queue: what waits together is
synced together. Control data is JSON; user data is sealed.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..blocks.storage import read_bytes
from ..durable.checkpoint_directory import CheckpointDirectory
from ..durable.files import Files
from ..durable.journal import Journal, JournalRef
from ..durable.seal import Seal
from ..errors import GraphError
from ..sources.base import BatchInput
from ..types import BlockRef
from .machine import Batch

__all__ = ["CheckpointWriter", "Kind", "StateChange", "StoredRef"]


class Kind:
    """Kinds of records in the journal."""

    OPEN = 1
    BLOCK = 2
    INTENT = 3
    STATE = 4
    KEPT = 5
    COMMIT = 6


class StateChange(NamedTuple):
    """A block that a batch added to the chain of a state's partition."""

    state_id: str
    partition: int
    partitions: int
    version: int
    is_snapshot: bool
    block: BlockRef
    batch: int = 0


class StoredRef(NamedTuple):
    """A block as the journal knows it: JSON data that becomes a BlockRef again."""

    format: str
    args: list[Any]
    records: int
    path: str
    offset: int
    length: int
    number: int  # of the journal record that holds it, -1 for a file of the user

    def to_block(self, journal_path: str) -> BlockRef:
        """The reference that workers read; journal records are named relative to the journal."""
        path = self.path if self.number < 0 else os.path.join(journal_path, self.path)
        return BlockRef(self.format, None, path, self.offset, self.length, self.records, tuple(self.args))


_Meta = bytes | Callable[[Sequence[JournalRef]], bytes]


@dataclass(slots=True)
class _Entry:
    """Records to be written together; ``meta`` may depend on where earlier ones of the entry lie."""

    records: list[tuple[int, _Meta, bytes | memoryview]]
    check_epoch: bool
    done: asyncio.Future[list[JournalRef]]


@dataclass(slots=True)
class WriterStatistics:
    """Figures since start; ``syncs`` below ``entries`` is what sharing them saved."""

    entries: int = 0
    records: int = 0
    bytes: int = 0
    syncs: int = 0
    segments_dropped: int = 0


@dataclass
class CheckpointWriter:
    """Writes the records of one driver; on its event loop, with one thread for the files.

    Parameters
    ----------
    directory: opened and locked.
    number, checksum: of the last good record.
    """

    directory: CheckpointDirectory
    number: int
    checksum: int
    seal: Seal
    files: Files = field(default_factory=Files)
    statistics: WriterStatistics = field(default_factory=WriterStatistics)

    def __post_init__(self) -> None:
        self._journal = Journal(
            self.directory.journal_path, number=self.number, checksum=self.checksum, files=self.files
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aiostream-journal")
        self._waiting: list[_Entry] = []
        self._flusher: asyncio.Task[None] | None = None
        self._logged: dict[tuple[str, int], StoredRef] = {}
        self._chains: dict[tuple[str, int], list[int]] = {}
        self._kept: dict[tuple[str, int], list[int]] = {}

    # -- writing -------------------------------------------------------------------------------

    async def _write(
        self, records: list[tuple[int, _Meta, bytes | memoryview]], *, check_epoch: bool = False
    ) -> list[JournalRef]:
        """Durable when it returns; waits together with whatever else is being written."""
        loop = asyncio.get_running_loop()
        entry = _Entry(records, check_epoch, loop.create_future())
        self._waiting.append(entry)
        if self._flusher is None or self._flusher.done():
            self._flusher = loop.create_task(self._flush(), name="aiostream-journal")
        return await asyncio.shield(entry.done)

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            entries, self._waiting = self._waiting, []
            try:
                results = await loop.run_in_executor(self._thread, self._write_all, entries)
            except Exception as error:
                for entry in entries:
                    if not entry.done.done():
                        entry.done.set_exception(error)
                continue
            for entry, refs in zip(entries, results, strict=True):
                if not entry.done.done():
                    entry.done.set_result(refs)

    def _write_all(self, entries: list[_Entry]) -> list[list[JournalRef]]:
        results = []
        if any(entry.check_epoch for entry in entries):
            self.directory.check_epoch()
        for entry in entries:
            refs: list[JournalRef] = []
            for kind, meta, payload in entry.records:
                text = meta if isinstance(meta, bytes) else meta(refs)
                refs.append(self._journal.append(kind, text, payload))
                self.statistics.bytes += len(text) + len(payload)
            self.statistics.records += len(refs)
            results.append(refs)
        self._journal.sync()
        self.statistics.syncs += 1
        self.statistics.entries += len(entries)
        return results

    async def opened(self, zero_ms: int, interval_ms: int) -> None:
        """A driver begins to work on the directory."""
        content = {"epoch": self.directory.epoch, "zero_ms": zero_ms, "interval_ms": interval_ms}
        await self._write([(Kind.OPEN, _json(content), b"")])

    async def log_blocks(self, stream: str, blocks: Sequence[BlockRef]) -> None:
        """Blocks of a receiver, durable before their sender is told that the engine has them."""
        records = [self._block_record(stream, block) for block in blocks]
        refs = await self._write(records)
        for block, ref in zip(blocks, refs, strict=True):
            self._logged[block.path, block.offset] = _stored(block, ref)

    def _block_record(self, stream: str, block: BlockRef) -> tuple[int, _Meta, bytes | memoryview]:
        payload = read_bytes(block)
        meta = {
            "stream": stream,
            "format": block.format,
            "args": block.args,
            "records": block.records,
            "seal": self.seal.of(payload),
        }
        return Kind.BLOCK, _json(meta), payload

    # -- the two ends of a batch ---------------------------------------------------------------

    async def intent(self, batch: Batch, inputs: Sequence[tuple[str, BatchInput]]) -> None:
        """Freeze the content of a batch; from here it has the same in every repetition."""
        records: list[tuple[int, _Meta, bytes | memoryview]] = []
        plans: list[tuple[str, BatchInput, list[StoredRef | int]]] = []
        for name, content in inputs:
            if content.datasets:
                raise GraphError(
                    f"input {name!r} hands over RDDs, which no checkpoint can hold: hand over lists"
                )
            places: list[StoredRef | int] = []
            for block in content.blocks:
                stored = self._known(block)
                if stored is None:
                    places.append(len(records))
                    records.append(self._block_record(name, block))
                else:
                    places.append(stored)
            plans.append((name, content, places))

        def meta(refs: Sequence[JournalRef]) -> bytes:
            return _json(
                {
                    "batch": batch.id,
                    "time": int(batch.time),
                    "previous": batch.previous,
                    "missed": batch.ticks_missed,
                    "epoch": self.directory.epoch,
                    "inputs": {name: _content(content, places, refs) for name, content, places in plans},
                }
            )

        records.append((Kind.INTENT, meta, b""))
        await self._write(records, check_epoch=True)

    def _known(self, block: BlockRef) -> StoredRef | None:
        """Where a block can be read again already: a user's file, or a record that was logged."""
        if block.format.startswith("file-"):
            return StoredRef(
                block.format, list(block.args), block.records, block.path, block.offset, block.length, -1
            )
        return self._logged.pop((block.path, block.offset), None)

    async def commit(
        self,
        batch: Batch,
        states: Sequence[StateChange],
        kept: Sequence[tuple[str, int, int, int | None, BlockRef]],
        content: dict[str, Any],
    ) -> None:
        """The one point at which a batch becomes true: when this returns, it is.

        kept: (stream, partition, partitions, hash partitions or None, block) of RDDs of this batch.
        content: JSON data of the commit: positions, fired windows, tokens, versions.
        """
        records: list[tuple[int, _Meta, bytes | memoryview]] = []
        for change in states:
            payload = read_bytes(change.block)
            meta = {
                "state": change.state_id,
                "partition": change.partition,
                "partitions": change.partitions,
                "version": change.version,
                "snapshot": change.is_snapshot,
                "seal": self.seal.of(payload),
            }
            records.append((Kind.STATE, _json(meta), payload))
        for stream, partition, partitions, placed, block in kept:
            records.append(self._kept_record(batch, stream, partition, partitions, placed, block))
        commit = {"batch": batch.id, "time": int(batch.time), "epoch": self.directory.epoch, **content}
        records.append((Kind.COMMIT, _json(commit), b""))
        refs = await self._write(records, check_epoch=True)
        self._remember(batch, states, kept, refs)

    def _kept_record(
        self, batch: Batch, stream: str, partition: int, partitions: int, placed: int | None, block: BlockRef
    ) -> tuple[int, _Meta, bytes | memoryview]:
        in_place = block.format.startswith("file-")
        payload = b"" if in_place else read_bytes(block)
        meta = {
            "stream": stream,
            "time": int(batch.time),
            "partition": partition,
            "partitions": partitions,
            "placed": placed,
            "format": block.format,
            "args": block.args,
            "records": block.records,
            "file": [block.path, block.offset, block.length] if in_place else None,
            "seal": self.seal.of(payload),
        }
        return Kind.KEPT, _json(meta), payload

    # -- forgetting ----------------------------------------------------------------------------

    def _remember(
        self,
        batch: Batch,
        states: Sequence[StateChange],
        kept: Sequence[tuple[str, int, int, int | None, BlockRef]],
        refs: Sequence[JournalRef],
    ) -> None:
        for change, ref in zip(states, refs, strict=False):
            chain = self._chains.setdefault((change.state_id, change.partition), [])
            if change.is_snapshot:
                chain.clear()
            chain.append(ref.number)
        for (stream, *_), ref in zip(kept, refs[len(states) :], strict=False):
            self._kept.setdefault((stream, int(batch.time)), []).append(ref.number)

    def adopt(
        self,
        chains: dict[tuple[str, int], list[int]],
        kept: dict[tuple[str, int], list[int]],
        stored: dict[tuple[str, int], StoredRef],
    ) -> None:
        """Records of earlier drivers that are still needed, from recovery."""
        self._chains.update(chains)
        self._kept.update(kept)
        self._logged.update(stored)

    async def collect_garbage(self, needed: int, horizons: dict[str, int]) -> None:
        """Drop segments that nothing needs any more.

        needed: the first journal record that unfinished batches need.
        horizons: for each kept stream the label up to which its RDDs may go.
        """
        for stream, time in [key for key in self._kept if key[1] <= horizons.get(key[0], -1)]:
            del self._kept[stream, time]
        logged = [ref.number for ref in self._logged.values()]
        firsts = [
            needed,
            *logged,
            *(min(numbers) for numbers in (*self._chains.values(), *self._kept.values()) if numbers),
        ]
        loop = asyncio.get_running_loop()
        dropped = await loop.run_in_executor(self._thread, self._journal.drop_before, min(firsts))
        self.statistics.segments_dropped += dropped

    @property
    def last_number(self) -> int:
        """Number of the last record that was written."""
        return self._journal.number

    async def aclose(self) -> None:
        """Finish what is being written, close the files, unlock the directory."""
        if self._flusher is not None:
            await asyncio.wait({self._flusher})
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _close(self) -> None:
        self._journal.close()
        self.directory.close()


def _json(content: object) -> bytes:
    # ASCII with escapes: file names may hold bytes that are no UTF-8.
    return json.dumps(content, separators=(",", ":"), default=str).encode()


def _stored(block: BlockRef, ref: JournalRef) -> StoredRef:
    name = os.path.basename(ref.path)
    return StoredRef(block.format, list(block.args), block.records, name, ref.offset, ref.length, ref.number)


def _content(
    content: BatchInput, places: list[StoredRef | int], refs: Sequence[JournalRef]
) -> dict[str, Any]:
    blocks = content.blocks
    stored = [
        _stored(block, refs[place]) if isinstance(place, int) else place
        for block, place in zip(blocks, places, strict=True)
    ]
    return {
        "blocks": [list(ref) for ref in stored],
        "records": content.records,
        "bytes": content.bytes,
        "metadata": dict(content.metadata),
        "position": content.position,
    }
