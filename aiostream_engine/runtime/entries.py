"""What is written to the journal as a whole: some records, and what they change in what is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ..types import BlockRef
from .live_records import Live, LiveRecords
from .records import (
    Draft,
    FrozenBatch,
    KeptBlock,
    Kind,
    Payload,
    StateChange,
    block_content,
    encode,
    file_place,
    in_users_file,
)

__all__ = [
    "BlocksEntry",
    "CommitEntry",
    "ConfirmEntry",
    "Entry",
    "IntentEntry",
    "OpenEntry",
    "PreparedEntry",
    "Reader",
]

# Begins to read a block; the result waits for it.
Reader = Callable[[BlockRef], Callable[[], Payload]]


class Entry(Protocol):
    """Records that are written together, all or none. All is called in the thread of the journal."""

    def build(self, first: int) -> Sequence[Draft]:
        """The records; the first one gets the number ``first``. Called again when the disk was full."""

    def appended(self, lives: Sequence[Live]) -> None:
        """They are in the file; they do not count yet, but what is written behind may refer to them."""

    def synced(self, lives: Sequence[Live]) -> None:
        """They count."""


class OpenEntry:
    """A driver begins. dropped: steps and inputs whose remains are given up."""

    def __init__(self, epoch: int, zero_ms: int, interval_ms: int, dropped: Sequence[str]) -> None:
        self._content = {
            "epoch": epoch,
            "zero_ms": zero_ms,
            "interval_ms": interval_ms,
            "dropped": list(dropped),
        }

    def build(self, first: int) -> Sequence[Draft]:
        return [Draft(Kind.OPEN, self._content)]

    def appended(self, lives: Sequence[Live]) -> None:
        return

    def synced(self, lives: Sequence[Live]) -> None:
        return


class BlocksEntry:
    """Blocks of a receiver that no batch has yet."""

    def __init__(self, live: LiveRecords, read: Reader, stream: str, blocks: Sequence[BlockRef]) -> None:
        self._live = live
        self._stream = stream
        self._blocks = list(blocks)
        self._payloads = [read(block) for block in blocks]

    def build(self, first: int) -> Sequence[Draft]:
        return [
            _block_draft(self._stream, block, None, payload())
            for block, payload in zip(self._blocks, self._payloads, strict=True)
        ]

    def appended(self, lives: Sequence[Live]) -> None:
        for block, live in zip(self._blocks, lives, strict=True):
            self._live.log(block, live)

    def synced(self, lives: Sequence[Live]) -> None:
        return


class IntentEntry:
    """The frozen content of a batch, led by the blocks that the journal does not hold yet."""

    def __init__(self, live: LiveRecords, read: Reader, frozen: FrozenBatch, epoch: int) -> None:
        self._live = live
        self._frozen = frozen
        self._epoch = epoch
        self._payloads = {
            id(block): read(block)
            for content in frozen.inputs.values()
            for block in content.blocks
            if not in_users_file(block) and live.logged(block) is None
        }
        self._positions = {
            name: (encode(position.data, f"the position of input {name!r}").decode(), position.is_change)
            for name, position in frozen.positions.items()
        }
        self._places: list[tuple[BlockRef, Live | int]] = []

    def build(self, first: int) -> Sequence[Draft]:
        drafts = self._blocks(first)
        return [*drafts, self._intent()]

    def _blocks(self, first: int) -> list[Draft]:
        drafts: list[Draft] = []
        self._places.clear()
        for name, content in self._frozen.inputs.items():
            for block in content.blocks:
                if in_users_file(block):
                    continue
                place: Live | int | None = self._live.logged(block)
                if place is None:
                    place = first + len(drafts)
                    drafts.append(_block_draft(name, block, self._frozen.batch, self._payloads[id(block)]()))
                self._places.append((block, place))
        return drafts

    def _intent(self) -> Draft:
        numbers = iter(place if isinstance(place, int) else place.number for _, place in self._places)

        def place_of(block: BlockRef) -> Any:
            if in_users_file(block):
                return {**block_content(block), "file": file_place(block)}
            return next(numbers)

        inputs = {
            name: {**content.plain, "blocks": [place_of(block) for block in content.blocks]}
            for name, content in self._frozen.inputs.items()
        }
        positions = {
            name: {"change" if is_change else "whole": text}
            for name, (text, is_change) in self._positions.items()
        }
        head = {**self._frozen.head, "epoch": self._epoch}
        return Draft(Kind.INTENT, {**head, "inputs": inputs, "positions": positions})

    def appended(self, lives: Sequence[Live]) -> None:
        return

    def synced(self, lives: Sequence[Live]) -> None:
        written = {live.number: live for live in lives}
        blocks = [(block, at if isinstance(at, Live) else written[at]) for block, at in self._places]
        self._live.begin_batch(self._frozen.batch, lives[-1].number, blocks)
        for name, (text, is_change) in self._positions.items():
            self._live.move(name, lives[-1].number, len(text), is_change)


class CommitEntry:
    """What makes a batch true, led by what it changed and by what later windows read of it.

    content: JSON data of the commit itself. needs: the first record that is needed, as the commit says.
    """

    kind = Kind.COMMIT

    def __init__(
        self,
        live: LiveRecords,
        read: Reader,
        batch: int,
        time: int,
        states: Sequence[StateChange],
        kept: Sequence[KeptBlock],
        content: Mapping[str, Any],
    ) -> None:
        self._live = live
        self._batch, self._time = batch, time
        self._states, self._kept = list(states), list(kept)
        self._content = content
        self._state_payloads = [read(change.block) for change in states]
        # Not copied: what the journal holds already, and what lies in a user's file.
        self._kept_payloads = [
            None
            if in_users_file(item.block) or live.of_batch(batch, item.block) is not None
            else read(item.block)
            for item in kept
        ]
        self.needs = 0

    def build(self, first: int) -> Sequence[Draft]:
        drafts = [
            _state_draft(change, payload())
            for change, payload in zip(self._states, self._state_payloads, strict=True)
        ]
        drafts += [
            self._kept_draft(item, payload)
            for item, payload in zip(self._kept, self._kept_payloads, strict=True)
        ]
        self.needs = self._live.first_needed()
        head = {"batch": self._batch, "time": self._time, "needs": self.needs}
        return [*drafts, Draft(self.kind, {**head, **self._content})]

    def _kept_draft(self, item: KeptBlock, payload: Callable[[], Payload] | None) -> Draft:
        content = {
            **block_content(item.block),
            "windows": item.windows,
            "time": self._time,
            "partition": item.partition,
            "partitions": item.partitions,
            "placed": item.placed,
        }
        if payload is not None:
            return Draft.of_data(Kind.KEPT, content, payload())
        if in_users_file(item.block):
            return Draft(Kind.KEPT, {**content, "file": file_place(item.block)})
        place = self._live.of_batch(self._batch, item.block)
        assert place is not None
        return Draft(Kind.KEPT, {**content, "record": place.number})

    def appended(self, lives: Sequence[Live]) -> None:
        return

    def synced(self, lives: Sequence[Live]) -> None:
        for change, live in zip(self._states, lives, strict=False):
            self._live.resize(change.state_id, change.partitions)
            self._live.extend_chain(change, live)
        for item, live in zip(self._kept, lives[len(self._states) :], strict=False):
            place = self._live.of_batch(self._batch, item.block)
            if place is not None:
                self._live.keep(item.windows, self._time, place)
            self._live.keep(item.windows, self._time, live)
        self._live.end_batch(self._batch, lives[-1].number)
        self._live.forget_kept(self._content["horizons"])


class PreparedEntry(CommitEntry):
    """All that a commit covers, of a batch that is not true yet: a transaction outside decides."""

    kind = Kind.PREPARED
    number = 0
    """Of the record that frames it, when it is synced."""

    def synced(self, lives: Sequence[Live]) -> None:
        self._lives = list(lives)
        self.number = lives[-1].number

    def confirmation(self, epoch: int) -> ConfirmEntry:
        """What is to be written when the transaction was committed."""
        return ConfirmEntry(self._batch, self._time, self.number, epoch, self._count)

    def _count(self) -> None:
        super().synced(self._lives)


class ConfirmEntry:
    """The commit of a prepared batch. prepared: number of its record. count: called when it counts."""

    def __init__(
        self, batch: int, time: int, prepared: int, epoch: int, count: Callable[[], None] | None = None
    ) -> None:
        self._content = {"batch": batch, "time": time, "prepared": prepared, "epoch": epoch}
        self._count = count

    def build(self, first: int) -> Sequence[Draft]:
        return [Draft(Kind.COMMIT, self._content)]

    def appended(self, lives: Sequence[Live]) -> None:
        return

    def synced(self, lives: Sequence[Live]) -> None:
        if self._count is not None:
            self._count()


def _block_draft(stream: str, block: BlockRef, batch: int | None, payload: Payload) -> Draft:
    """A block; with ``batch`` it counts only if the intent of that batch does."""
    content = {"stream": stream, "batch": batch, **block_content(block)}
    return Draft.of_data(Kind.BLOCK, content, payload)


def _state_draft(change: StateChange, payload: Payload) -> Draft:
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
    if change.sweep or change.swept_bytes:
        content |= {
            "sweep": change.sweep,
            "swept_bytes": change.swept_bytes,
            "sweep_done": change.sweep_done,
        }
    return Draft.of_data(Kind.STATE, content, payload)
