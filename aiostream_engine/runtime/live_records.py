"""Which records of the journal are still needed, so that the others can go.

Belongs to the thread that writes the journal.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..types import BlockRef
from .records import StateChange

__all__ = ["Live", "LiveRecords", "PositionTrack"]

# Changes of a position are gathered up to this size, or that of the position, whichever is more.
CHANGES_BYTES_MIN = 64 * 1024

ChainKey = tuple[str, int]  # state, partition


class Live(NamedTuple):
    """A record that is needed."""

    number: int
    bytes: int


class LiveLink(NamedTuple):
    """A record of the chain of a state's partition, which it brings to ``version``."""

    number: int
    bytes: int
    version: int


class _Known(NamedTuple):
    """A block that the journal holds; ``block`` keeps the identity of one that has no path."""

    live: Live
    block: BlockRef | None


class _Kept(NamedTuple):
    time: int
    live: Live


@dataclass(slots=True)
class PositionTrack:
    """The records that a source's position is made of: a whole one, and changes after it."""

    first: int
    whole_bytes: int
    change_bytes: int = 0

    @property
    def is_long(self) -> bool:
        """True when it is cheaper to write the whole position than one more change."""
        return self.change_bytes > max(CHANGES_BYTES_MIN, self.whole_bytes)


def _of_time(time: int) -> Callable[[_Kept], bool]:
    return lambda item: item.time == time


def _key(block: BlockRef) -> tuple[str, int]:
    # Blocks that lie in a file are told apart by their place, others are the same object or none.
    return (block.path, block.offset) if block.path else ("", id(block))


@dataclass(slots=True)
class LiveRecords:
    """What is needed, by what needs it.

    chains: of each partition of a state. kept: of RDDs, by the windows that read them, oldest first.
    logged: blocks that no batch has yet. batches: blocks of batches that are not committed.
    last: the last record that frames a batch or a driver.
    """

    chains: dict[ChainKey, list[LiveLink]] = field(default_factory=dict)
    kept: dict[tuple[str, ...], deque[_Kept]] = field(default_factory=dict)
    positions: dict[str, PositionTrack] = field(default_factory=dict)
    last: int = 0
    _logged: dict[tuple[str, int], _Known] = field(default_factory=dict)
    _batches: dict[int, dict[tuple[str, int], _Known]] = field(default_factory=dict)
    _intents: dict[int, int] = field(default_factory=dict)

    # -- blocks --------------------------------------------------------------------------------

    def log(self, block: BlockRef, live: Live) -> None:
        """The journal holds a block that no batch has yet."""
        self._logged[_key(block)] = _Known(live, None if block.path else block)

    def logged(self, block: BlockRef) -> Live | None:
        """The record of a block that was logged and that no batch has yet."""
        known = self._logged.get(_key(block))
        return None if known is None else known.live

    def forget_logged(self, block: BlockRef) -> None:
        """A block is not wanted any more."""
        self._logged.pop(_key(block), None)

    def begin_batch(self, batch: int, intent: int, blocks: Sequence[tuple[BlockRef, Live]]) -> None:
        """Blocks belong to a batch now, until its end."""
        self._intents[batch] = intent
        self._batches[batch] = {_key(block): _Known(live, block) for block, live in blocks}
        for block, _ in blocks:
            self._logged.pop(_key(block), None)

    def of_batch(self, batch: int, block: BlockRef) -> Live | None:
        """The record of a block of a batch that is not committed."""
        known = self._batches.get(batch, {}).get(_key(block))
        return None if known is None else known.live

    def move(self, name: str, number: int, size: int, is_change: bool) -> None:
        """A source's position was written."""
        track = self.positions.get(name)
        if track is None or not is_change:
            self.positions[name] = PositionTrack(number, size)
        else:
            track.change_bytes += size

    # -- what a commit changes -------------------------------------------------------------------

    def extend_chain(self, change: StateChange, live: Live) -> None:
        """A record was added to a chain, or begins it anew, or ends a snapshot in slices."""
        key = (change.state_id, change.partition)
        if change.first:
            self.chains[key] = []
        chain = self.chains.setdefault(key, [])
        chain.append(LiveLink(*live, change.version))
        if change.sweep_done:
            chain[:] = [link for link in chain if link.version >= change.sweep]

    def resize(self, state_id: str, partitions: int) -> None:
        """The state has so many partitions from now on."""
        for key in [key for key in self.chains if key[0] == state_id and key[1] >= partitions]:
            del self.chains[key]

    def keep(self, windows: tuple[str, ...], time: int, live: Live) -> None:
        """A record that belongs to an RDD of the batch ``time`` is needed by windows."""
        self.kept.setdefault(windows, deque()).append(_Kept(time, live))

    def end_batch(self, batch: int, commit: int) -> None:
        """A batch is committed."""
        self._batches.pop(batch, None)
        self._intents.pop(batch, None)
        self.last = commit

    def forget_kept(self, horizons: Mapping[str, int]) -> None:
        """RDDs up to the horizon of all windows that read them are not needed any more."""
        for windows, items in list(self.kept.items()):
            known = [horizons[window] for window in windows if window in horizons]
            if not known:
                del self.kept[windows]
                continue
            while items and items[0].time <= min(known):
                items.popleft()
            if not items:
                del self.kept[windows]

    # -- sums ----------------------------------------------------------------------------------

    def _lives(self) -> Iterator[Live]:
        for chain in self.chains.values():
            yield from (Live(link.number, link.bytes) for link in chain)
        for known in self._logged.values():
            yield known.live
        for blocks in self._batches.values():
            yield from (known.live for known in blocks.values())

    def first_needed(self) -> int:
        """Number of the first record that something needs."""
        numbers = [self.last, *self._intents.values()]
        numbers.extend(chain[0].number for chain in self.chains.values() if chain)
        for items in self.kept.values():
            numbers.extend(item.live.number for item in itertools.takewhile(_of_time(items[0].time), items))
        numbers.extend(track.first for track in self.positions.values())
        numbers.extend(known.live.number for known in self._logged.values())
        for blocks in self._batches.values():
            numbers.extend(known.live.number for known in blocks.values())
        return min(numbers)

    def bytes(self) -> int:
        """Bytes of all records that are needed; walks over them."""
        kept = sum(item.live.bytes for items in self.kept.values() for item in items)
        positions = sum(track.whole_bytes + track.change_bytes for track in self.positions.values())
        return kept + positions + sum(live.bytes for live in self._lives())
