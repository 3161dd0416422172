"""Read a journal back: what was true when the last driver went, and what it had begun."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from ..durable.files import Files
from ..durable.journal_reader import JournalRecord, ScanResult, make_durable, scan
from ..durable.seal import Seal
from ..errors import CorruptionError
from ..sources.base import BatchInput
from ..types import BlockRef
from .live_records import Live
from .records import Kind, SealedRecord, StateChange, block_at, open_record
from .recovered import (
    Intent,
    KeptPart,
    Layout,
    Prepared,
    Recovered,
    StateChain,
    StateChains,
    StoredPosition,
)

__all__ = ["recover", "step_of_state"]

_log = logging.getLogger("aiostream_engine.recovery")
_PROGRESS_S = 2.0
_STATE_PREFIX = "state of "


def step_of_state(state_id: str) -> str:
    """The name of the step that keeps a state."""
    return state_id.removeprefix(_STATE_PREFIX)


def recover(journal_path: str, seal: Seal, files: Files | None = None, *, settle: bool = True) -> Recovered:
    """Read the whole journal; blocking. Changes nothing but, with ``settle``, what is synced.

    Raises CorruptionError for anything that cannot be explained by a crash: damage in the middle, a
    missing segment, a gap in the batches, what was not sealed with this key.
    """
    reader, result = _Reader(seal), ScanResult()
    started = last = time.monotonic()
    for record in scan(journal_path, result):
        reader.read(record)
        now = time.monotonic()
        if now - last > _PROGRESS_S:
            last = now
            _log.info("recovery: %d records read in %.1f s", reader.recovered.records, now - started)
    if settle:
        make_durable(journal_path, result, files or Files())
    recovered = reader.finish()
    recovered.number, recovered.checksum = result.number, result.checksum
    recovered.seconds, recovered.torn_bytes = time.monotonic() - started, result.torn_bytes
    if result.torn_bytes:
        _log.warning(
            "recovery: %d bytes at the end of %s were never said to be durable and do not count",
            result.torn_bytes,
            result.torn_path,
        )
    return recovered


class _Reader:
    """Takes records in order; state and kept blocks count only with the commit behind them."""

    def __init__(self, seal: Seal) -> None:
        self.recovered = Recovered()
        self._seal = seal
        self._first = 0
        self._tentative: list[SealedRecord] = []
        self._prepared: SealedRecord | None = None
        self._forgotten = 0  # what the last commit names lay in a segment that is gone
        self._blocks: dict[int, SealedRecord] = {}  # of batches that are not committed
        self._loose: dict[int, None] = {}  # numbers of those that no batch has
        self._intents: dict[int, SealedRecord] = {}
        self._kept: dict[tuple[tuple[str, ...], int], list[tuple[SealedRecord, SealedRecord | None]]] = {}
        self._actions: dict[Kind, Callable[[SealedRecord], None]] = {
            Kind.OPEN: self._open,
            Kind.BLOCK: self._block,
            Kind.INTENT: self._intent,
            Kind.STATE: self._tentative.append,
            Kind.KEPT: self._tentative.append,
            Kind.COMMIT: self._commit,
            Kind.PREPARED: self._prepare,
        }

    def read(self, record: JournalRecord) -> None:
        self._first = self._first or record.payload.number
        opened = open_record(record, self._seal)
        self.recovered.records += 1
        self._actions[opened.kind](opened)

    def _check_epoch(self, record: SealedRecord) -> None:
        epoch = record.content["epoch"]
        if epoch < self.recovered.epoch:
            raise CorruptionError(
                f"record {record.ref.number} is of driver {epoch}, after one of {self.recovered.epoch}: a "
                "part of the directory is from another time"
            )
        self.recovered.epoch = epoch

    def _open(self, record: SealedRecord) -> None:
        self._check_epoch(record)
        self._tentative.clear()
        self._prepared = None  # its transaction was not committed: the driver had asked before
        recovered, content = self.recovered, record.content
        if recovered.zero_ms is None:
            recovered.zero_ms, recovered.interval_ms = content["zero_ms"], content["interval_ms"]
        for name in content["dropped"]:
            self._drop(name)

    def _drop(self, name: str) -> None:
        """A step or an input that the program did not have any more, knowingly."""
        recovered = self.recovered
        for state_id in [state_id for state_id in recovered.states if step_of_state(state_id) == name]:
            del recovered.states[state_id]
        recovered.kept.pop(name, None)
        recovered.positions.pop(name, None)
        for number in [number for number in self._loose if self._blocks[number].content["stream"] == name]:
            del self._loose[number], self._blocks[number]
        for intent in self._intents.values():
            intent.content["inputs"].pop(name, None)

    def _block(self, record: SealedRecord) -> None:
        self._blocks[record.ref.number] = record
        if record.content["batch"] is None:
            self._loose[record.ref.number] = None

    def _intent(self, record: SealedRecord) -> None:
        self._check_epoch(record)
        content = record.content
        self._intents[content["batch"]] = record  # a later driver may have written it again
        for item in content["inputs"].values():
            for place in item["blocks"]:
                if isinstance(place, int):
                    self._loose.pop(place, None)
        for name, position in content["positions"].items():
            self._move(name, position, record.ref.number)

    def _move(self, name: str, position: dict[str, str], number: int) -> None:
        if "whole" in position:
            self.recovered.positions[name] = StoredPosition(position["whole"], number)
        elif name in self.recovered.positions:
            self.recovered.positions[name].change_texts.append(position["change"])

    def _prepare(self, record: SealedRecord) -> None:
        self._check_epoch(record)
        self._prepared = record

    def _confirmed(self, record: SealedRecord) -> SealedRecord:
        """The commit as one record: a short one stands for what was prepared before it."""
        prepared, self._prepared = self._prepared, None
        wanted = record.content.get("prepared", 0)
        if wanted != (prepared.ref.number if prepared is not None else 0):
            raise CorruptionError(
                f"record {record.ref.number} commits record {wanted}, which was not prepared before it"
            )
        if prepared is None:
            return record
        return prepared._replace(kind=Kind.COMMIT, content={**prepared.content, **record.content})

    def _old_commit(self, content: dict[str, Any]) -> None:
        """One at the beginning of what is left; a later one, which must come, needs none of it."""
        self._forgotten = content["prepared"]
        self.recovered.batch, self.recovered.time = content["batch"], content["time"]
        self._tentative.clear()
        for old in [number for number in self._intents if number <= content["batch"]]:
            self._end(self._intents.pop(old))

    def _commit(self, record: SealedRecord) -> None:
        self._check_epoch(record)
        if self._prepared is None and 0 < record.content.get("prepared", 0) < self._first:
            self._old_commit(record.content)
            return
        self._forgotten = 0
        record = self._confirmed(record)
        recovered, content = self.recovered, record.content
        batch = content["batch"]
        if recovered.batch and batch != recovered.batch + 1:
            raise CorruptionError(f"batch {batch} is committed right after batch {recovered.batch}")
        recovered.batch, recovered.time, recovered.commit = batch, content["time"], content
        recovered.zero_ms, recovered.interval_ms = content["zero_ms"], content["interval_ms"]
        recovered.live.last = record.ref.number
        for item in self._tentative:
            (self._state if item.kind is Kind.STATE else self._keep)(item)
        self._tentative.clear()
        for window in recovered.kept.keys() - content["horizons"].keys():
            del recovered.kept[window]
        for window, horizon in content["horizons"].items():
            self._forget(window, horizon)
        for old in [number for number in self._intents if number <= batch]:
            self._end(self._intents.pop(old))

    def _end(self, intent: SealedRecord) -> None:
        """The blocks of a batch that is over; those that windows need are known to these."""
        for item in intent.content["inputs"].values():
            for place in item["blocks"]:
                if isinstance(place, int):
                    self._blocks.pop(place, None)

    # -- what a commit covers ------------------------------------------------------------------

    def _state(self, record: SealedRecord) -> None:
        content = record.content
        states = self.recovered.states
        found = states.get(content["state"])
        if found is None or found.partitions != content["partitions"]:
            # Dealt out anew: the same commit holds a snapshot of each partition.
            found = states[content["state"]] = StateChains(content["partitions"])
        found.schema, found.hashed = content["schema"], content["hashed"]
        found.chains.setdefault(content["partition"], StateChain()).add(record)

    def _keep(self, record: SealedRecord) -> None:
        content = record.content
        windows, at = tuple(content["windows"]), content["time"]
        block = self._blocks.get(content["record"]) if "record" in content else None
        self._kept.setdefault((windows, at), []).append((record, block))
        for window in windows:
            times = self.recovered.kept.setdefault(window, {})
            parts = times.setdefault(at, {})
            part = parts.setdefault(content["partition"], KeptPart())
            part.partitions, part.placed = content["partitions"], content["placed"]
            part.blocks.append(self._kept_block(record, block))

    @staticmethod
    def _kept_block(record: SealedRecord, block: SealedRecord | None) -> BlockRef:
        content = record.content
        if "file" in content:
            return block_at(content, *content["file"])
        ref = (block or record).ref
        return block_at(content, ref.path, ref.offset, ref.length)

    def _forget(self, window: str, horizon: int) -> None:
        times = self.recovered.kept.get(window, {})
        while times and (at := next(iter(times))) <= horizon:  # oldest first
            del times[at]

    # -- the end -------------------------------------------------------------------------------

    def finish(self) -> Recovered:
        """Check what is left, and give it."""
        recovered = self.recovered
        if self._prepared is not None:
            content, number = self._prepared.content, self._prepared.ref.number
            recovered.prepared = Prepared(content["batch"], content["time"], content["commit_point"], number)
        needed = recovered.commit.get("needs", 0) or self._forgotten
        if self._first > max(1, needed):
            raise CorruptionError(
                f"the journal begins with record {self._first}, but record {max(1, needed)} is still needed: "
                "its oldest segments are missing. Put them back"
            )
        for batch in sorted(self._intents):
            recovered.pending.append(self._pending(self._intents[batch]))
        expected = recovered.batch
        for intent in recovered.pending:
            expected += 1
            if intent.batch != expected and recovered.batch:
                raise CorruptionError(f"batch {expected} is missing: the next one begun is {intent.batch}")
        for number in self._loose:
            block = self._needed_block(number)
            stream = self._blocks[number].content["stream"]
            recovered.leftovers.setdefault(stream, []).append(block)
        self._finish_states()
        self._finish_kept()
        for name, position in recovered.positions.items():
            recovered.live.move(name, position.number, len(position.whole_text), is_change=False)
            for text in position.change_texts:
                recovered.live.move(name, position.number, len(text), is_change=True)
        return recovered

    def _pending(self, record: SealedRecord) -> Intent:
        content = record.content
        layout = Layout(content["parallelism"], content["steps"])
        inputs = {name: self._input(item) for name, item in content["inputs"].items()}
        return Intent(content["batch"], content["time"], content["missed"], layout, inputs, record.ref.number)

    def _input(self, content: dict[str, Any]) -> BatchInput:
        blocks = tuple(
            self._needed_block(place) if isinstance(place, int) else block_at(place, *place["file"])
            for place in content["blocks"]
        )
        return BatchInput(
            blocks,
            (),
            content["records"],
            content["bytes"],
            content["metadata"],
            recipe=content.get("recipe"),
        )

    def _needed_block(self, number: int) -> BlockRef:
        record = self._blocks.get(number)
        if record is None:
            raise CorruptionError(f"record {number}, which a batch that is to be run again needs, is missing")
        record.check(self._seal)
        ref = record.ref
        block = block_at(record.content, ref.path, ref.offset, ref.length)
        self.recovered.live.log(block, _live(record))
        return block

    def _finish_states(self) -> None:
        for state_id, found in self.recovered.states.items():
            for partition, chain in found.chains.items():
                if not chain.is_whole:
                    raise CorruptionError(
                        f"the beginning of {state_id}, partition {partition}, is missing from the journal"
                    )
                for record, link in zip(chain.records, chain.links, strict=True):
                    record.check(self._seal)
                    change = StateChange(
                        state_id, partition, found.partitions, link.version, link.first, link.block
                    )
                    self.recovered.live.extend_chain(change, _live(record))

    def _finish_kept(self) -> None:
        kept = self.recovered.kept
        for windows, at in sorted(self._kept, key=lambda item: item[1]):
            if not any(at in kept.get(window, {}) for window in windows):
                continue
            for record, block in self._kept[windows, at]:
                if "record" in record.content and block is None:
                    raise CorruptionError(
                        f"record {record.content['record']}, which {windows[0]} needs, is missing"
                    )
                for item in (block, record):
                    if item is not None:
                        item.check(self._seal)
                        self.recovered.live.keep(windows, at, _live(item))


def _live(record: SealedRecord) -> Live:
    return Live(record.ref.number, len(record.sealed) + record.ref.length)
