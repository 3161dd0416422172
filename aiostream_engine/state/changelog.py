"""The block that a batch adds to the changelog of a partition."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..blocks.pickling import dumps
from .store import Changes, MemoryStore
from .sweep import Sweep

__all__ = ["LogBlock", "log_block"]

WHOLE_SHARE = 0.5  # a batch that changes so many of the keys writes all of them when a snapshot is due
_HEAD_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class LogBlock:
    """The changes of a batch, a slice of a snapshot behind them, or a snapshot instead of them.

    parts: of the block, read from the store while they are consumed.
    sweep: that has a slice in it.
    """

    parts: Iterable[bytes]
    is_snapshot: bool = False
    sweep: Sweep | None = None

    @property
    def swept(self) -> tuple[int, int, bool]:
        """Version at which its sweep began, bytes of its slice, and whether it ended; when it is written."""
        return (0, 0, False) if self.sweep is None else (self.sweep.began, self.sweep.bytes, self.sweep.done)


def log_block(store: MemoryStore, changes: Changes, sweep_bytes: int = 0, began: int = 0) -> LogBlock | None:
    """What is to be written when ``changes`` have been applied; None when there is nothing.

    Parameters
    ----------
    sweep_bytes: write a slice of a snapshot of about so many bytes; 0 for none.
    began: version at which the sweep began that is to go on; any other one begins anew.
    """
    if not sweep_bytes:
        store.sweep = None
        return None if changes.empty else LogBlock(store.changes_block(changes))
    if len(changes.changed) >= WHOLE_SHARE * len(store.entries):
        store.sweep = None
        return LogBlock(store.snapshot_block(), is_snapshot=True)
    sweep = store.sweep
    if sweep is None or sweep.done or sweep.began != began:
        sweep = store.begin_sweep()
    pieces = sweep.slice(sweep_bytes)
    head = list(_first(pieces, min(sweep_bytes, _HEAD_BYTES)))
    if sweep.done and sweep.began == store.version:  # a small one, which takes no more than this
        store.sweep = None
        return LogBlock(head, is_snapshot=True)
    before = () if changes.empty else store.changes_block(changes, more=True)
    return LogBlock(itertools.chain(before, head or [dumps(("piece", {}, (), {}))], pieces), sweep=sweep)


def _first(pieces: Iterator[bytes], bytes_max: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        yield piece
        size += len(piece)
        if size >= bytes_max:
            return
