"""Read a journal back: what was true when the last driver went, and what it had begun."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..blocks.storage import read_bytes
from ..durable.files import Files
from ..durable.journal import JournalRecord, JournalRef, ScanResult, scan
from ..durable.seal import Seal
from ..errors import CorruptionError
from ..operators.hashing import PartitionOf
from ..sources.base import BatchInput
from ..state.store import MemoryStore
from ..types import BlockRef
from .checkpoint import Kind, StoredRef

__all__ = ["Intent", "KeptPart", "Recovered", "StateChain", "dealt_anew", "recover"]

_log = logging.getLogger("aiostream_engine.recovery")
_PROGRESS_S = 2.0


@dataclass(slots=True)
class StateChain:
    """The blocks of one partition of a state: at most one snapshot, first, then changes."""

    version: int = 0
    blocks: list[BlockRef] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    snapshot: bool = False


@dataclass(slots=True)
class Intent:
    """A batch that was begun and not committed; to be run again with the same content."""

    batch: int
    time: int
    previous: int
    missed: int
    inputs: dict[str, BatchInput]
    number: int


@dataclass(slots=True)
class KeptPart:
    """One partition of a kept RDD."""

    blocks: list[BlockRef] = field(default_factory=list)
    partitions: int = 0
    placed: int | None = None


@dataclass(slots=True)
class Recovered:
    """What the journal says.

    commit: content of the last COMMIT; its sinks' publishing is to be repeated.
    positions: from which each replayable source goes on.
    leftovers: logged blocks of receivers that no batch holds yet.
    stored: those and the blocks of pending batches, by path and offset.
    """

    number: int = 0
    checksum: int = 0
    zero_ms: int | None = None
    interval_ms: int | None = None
    batch: int = 0
    time: int = -1
    commit: dict[str, Any] = field(default_factory=dict)
    positions: dict[str, Any] = field(default_factory=dict)
    pending: list[Intent] = field(default_factory=list)
    states: dict[str, dict[int, StateChain]] = field(default_factory=dict)
    kept: dict[str, dict[int, dict[int, KeptPart]]] = field(default_factory=dict)
    kept_numbers: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    leftovers: dict[str, list[StoredRef]] = field(default_factory=dict)
    stored: dict[tuple[str, int], StoredRef] = field(default_factory=dict)
    records: int = 0
    seconds: float = 0.0
    torn_bytes: int = 0

    @property
    def chain_numbers(self) -> dict[tuple[str, int], list[int]]:
        """Journal records that states still need, by state and partition."""
        return {
            (state_id, partition): list(chain.numbers)
            for state_id, chains in self.states.items()
            for partition, chain in chains.items()
        }


def recover(
    journal_path: str, seal: Seal, files: Files | None = None, *, repair_torn: bool = True
) -> Recovered:
    """Read the whole journal; blocking. Cuts off a torn end unless ``repair_torn`` is False.

    Raises CorruptionError for anything that cannot be explained by a crash: damage in the middle, a
    missing segment, a gap in the batches, user data that was not sealed with this key.
    """
    reader = _Reader(journal_path, seal)
    result = ScanResult()
    started = last = time.monotonic()
    for record in scan(journal_path, result):
        reader.read(record)
        now = time.monotonic()
        if now - last > _PROGRESS_S:
            last = now
            _log.info("recovery: %d records read in %.1f s", reader.recovered.records, now - started)
    recovered = reader.finish()
    recovered.number, recovered.checksum = result.number, result.checksum
    recovered.seconds, recovered.torn_bytes = time.monotonic() - started, result.torn_bytes
    if result.torn_path and repair_torn:
        _cut(result, files or Files())
    return recovered


def _cut(result: ScanResult, files: Files) -> None:
    _log.warning("recovery: %d bytes of a record that was never complete are cut off", result.torn_bytes)
    if result.good_size == 0:
        files.unlink(result.torn_path)
        files.sync_directory(os.path.dirname(result.torn_path))
    else:
        files.truncate(result.torn_path, result.good_size)


class _Reader:
    """Takes records in order; state and kept blocks count only with the commit behind them."""

    def __init__(self, journal_path: str, seal: Seal) -> None:
        self.recovered = Recovered()
        self._journal_path = journal_path
        self._seal = seal
        self._tentative: list[tuple[int, dict[str, Any], JournalRef]] = []
        self._blocks: dict[int, tuple[str, StoredRef]] = {}
        self._stored: dict[int, list[StoredRef]] = {}
        self._actions: dict[int, Callable[[dict[str, Any], JournalRef], None]] = {
            Kind.OPEN: self._open,
            Kind.BLOCK: self._block,
            Kind.INTENT: self._intent,
            Kind.COMMIT: self._commit,
        }

    def read(self, record: JournalRecord) -> None:
        try:
            meta = json.loads(record.meta)
        except ValueError as error:
            raise CorruptionError(f"record {record.payload.number} holds no JSON: {error}") from error
        self.recovered.records += 1
        if record.kind in (Kind.STATE, Kind.KEPT):
            self._tentative.append((record.kind, meta, record.payload))
            return
        action = self._actions.get(record.kind)
        if action is None:
            raise CorruptionError(
                f"record {record.payload.number} is of kind {record.kind}, which is not known here"
            )
        action(meta, record.payload)

    def _open(self, meta: dict[str, Any], _: JournalRef) -> None:
        self._tentative.clear()
        if self.recovered.zero_ms is None:
            self.recovered.zero_ms, self.recovered.interval_ms = meta["zero_ms"], meta["interval_ms"]

    def _block(self, meta: dict[str, Any], ref: JournalRef) -> None:
        stored = StoredRef(
            meta["format"],
            meta["args"],
            meta["records"],
            os.path.basename(ref.path),
            ref.offset,
            ref.length,
            ref.number,
        )
        self._check(meta, ref)
        self._blocks[ref.number] = (meta["stream"], stored)

    def _check(self, meta: dict[str, Any], ref: JournalRef) -> None:
        payload = read_bytes(BlockRef("", None, ref.path, ref.offset, ref.length))
        self._seal.check(payload, meta["seal"], f"record {ref.number}")

    def _intent(self, meta: dict[str, Any], ref: JournalRef) -> None:
        inputs = {name: self._input(content, meta["batch"]) for name, content in meta["inputs"].items()}
        pending = self.recovered.pending
        known = [intent for intent in pending if intent.batch == meta["batch"]]
        if known:  # an earlier recovery wrote it again
            pending.remove(known[0])
        pending.append(
            Intent(meta["batch"], meta["time"], meta["previous"], meta["missed"], inputs, ref.number)
        )
        pending.sort(key=lambda intent: intent.batch)
        for name, content in inputs.items():
            if content.position is not None:
                self.recovered.positions[name] = content.position

    def _input(self, content: dict[str, Any], batch: int) -> BatchInput:
        stored = [StoredRef(*item) for item in content["blocks"]]
        for ref in stored:
            self._blocks.pop(ref.number, None)
        self._stored.setdefault(batch, []).extend(ref for ref in stored if ref.number >= 0)
        return BatchInput(
            tuple(ref.to_block(self._journal_path) for ref in stored),
            (),
            content["records"],
            content["bytes"],
            content["metadata"],
            content["position"],
        )

    def _commit(self, meta: dict[str, Any], _: JournalRef) -> None:
        recovered = self.recovered
        if recovered.batch and meta["batch"] != recovered.batch + 1:
            raise CorruptionError(f"batch {meta['batch']} is committed right after batch {recovered.batch}")
        recovered.batch, recovered.time, recovered.commit = meta["batch"], meta["time"], meta
        self._stored.pop(meta["batch"], None)
        ahead = {
            name for intent in recovered.pending if intent.batch > meta["batch"] for name in intent.inputs
        }
        recovered.positions.update(
            (name, at) for name, at in meta.get("positions", {}).items() if name not in ahead
        )
        recovered.zero_ms, recovered.interval_ms = meta["zero_ms"], meta["interval_ms"]
        recovered.pending = [intent for intent in recovered.pending if intent.batch > meta["batch"]]
        for kind, content, ref in self._tentative:
            self._check(content, ref)
            (self._state if kind == Kind.STATE else self._keep)(content, ref)
        self._tentative.clear()
        for stream, horizon in meta.get("horizons", {}).items():
            self._forget(stream, horizon)

    def _state(self, meta: dict[str, Any], ref: JournalRef) -> None:
        chains = self.recovered.states.setdefault(meta["state"], {})
        if len(chains) > meta["partitions"] or any(index >= meta["partitions"] for index in chains):
            chains.clear()  # the state was dealt out anew over another number of partitions
        chain = chains.setdefault(meta["partition"], StateChain())
        if meta["snapshot"]:
            chain.blocks, chain.numbers, chain.snapshot = [], [], True
        chain.blocks.append(BlockRef("pickle", None, ref.path, ref.offset, ref.length))
        chain.numbers.append(ref.number)
        chain.version = meta["version"]

    def _keep(self, meta: dict[str, Any], ref: JournalRef) -> None:
        block = BlockRef(
            meta["format"], None, ref.path, ref.offset, ref.length, meta["records"], tuple(meta["args"])
        )
        if meta["file"] is not None:
            path, offset, length = meta["file"]
            block = block._replace(path=path, offset=offset, length=length)
        times = self.recovered.kept.setdefault(meta["stream"], {})
        parts = times.setdefault(meta["time"], {})
        part = parts.setdefault(meta["partition"], KeptPart())
        part.blocks.append(block)
        part.partitions, part.placed = meta["partitions"], meta["placed"]
        self.recovered.kept_numbers.setdefault((meta["stream"], meta["time"]), []).append(ref.number)

    def _forget(self, stream: str, horizon: int) -> None:
        times = self.recovered.kept.get(stream, {})
        for at in [at for at in times if at <= horizon]:
            del times[at]
            self.recovered.kept_numbers.pop((stream, at), None)

    def finish(self) -> Recovered:
        """Blocks that no batch holds are left over for the next one."""
        for stream, stored in self._blocks.values():
            self.recovered.leftovers.setdefault(stream, []).append(stored)
            self._note(stored)
        for intent in self.recovered.pending:
            for stored in self._stored.get(intent.batch, []):
                self._note(stored)
        return self.recovered

    def _note(self, stored: StoredRef) -> None:
        block = stored.to_block(self._journal_path)
        self.recovered.stored[block.path, block.offset] = stored


def dealt_anew(chains: dict[int, StateChain], partitions: int) -> list[bytes]:
    """A state's partitions as snapshots over another number of partitions (scenario H7); blocking."""
    place = PartitionOf(partitions)
    stores = [MemoryStore() for _ in range(partitions)]
    for chain in chains.values():
        whole = MemoryStore.restore((read_bytes(block) for block in chain.blocks), chain.version)
        for key, value in whole.entries.items():
            store = stores[place[key]]
            store.entries[key] = value
            if key in whole.touched:
                store.touched[key] = whole.touched[key]
    for store in stores:
        store.touched = dict(sorted(store.touched.items(), key=lambda item: item[1]))
    return [store.snapshot() for store in stores]
