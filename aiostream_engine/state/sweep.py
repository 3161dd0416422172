"""A snapshot in slices: a walk over a partition that goes on from batch to batch, while it changes.

Each slice holds keys as they are at its batch; what changes later is in the changes of later batches. So the
blocks from the batch in which a sweep began, up to the one in which it ended, hold all of the partition, and
what is older can go: every key was either in a slice, or is younger than the beginning. No batch has to
write more than its slice, and nothing has to stand still. (The idea is that of fuzzy checkpoints of databases
that write ahead; there pages are swept.)

Keys come back in the order in which they were: slices come in that order, and what is younger than the
beginning stands behind them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

from ..blocks.pickling import dumps

__all__ = ["KeyWalk", "Sweep", "Walk"]

PIECE_BYTES = 128 * 1024
_KEYS = (8, 4096)  # fewest and most in one piece


class Walk(Protocol):
    """Goes once over what a mapping held at the beginning, in its order."""

    def take(self, count: int) -> tuple[dict[Any, Any], int] | None:
        """About ``count`` keys with their present values, and bytes of other work; None at the end."""

    def forget(self, keys: Collection[Any]) -> None:
        """These keys were removed; when they come again they are others."""


class KeyWalk:
    """A walk over a dict, by a list of its keys."""

    def __init__(self, mapping: Mapping[Any, Any]) -> None:
        self._mapping = mapping
        self._keys = list(mapping)
        self._at = 0
        self._gone: set[Any] = set()

    def take(self, count: int) -> tuple[dict[Any, Any], int] | None:
        """The next keys that are still there."""
        keys = self._keys[self._at : self._at + count]
        self._at += count
        if not keys:
            return None
        mapping, gone = self._mapping, self._gone
        return {key: mapping[key] for key in keys if key in mapping and key not in gone}, 0

    def forget(self, keys: Collection[Any]) -> None:
        """A key that is added again stands at another place."""
        self._gone.update(keys)


class Sweep:
    """One snapshot in slices.

    Parameters
    ----------
    began: version of the partition at the first slice.
    entries, touched: walks over values and times.
    """

    def __init__(self, began: int, entries: Walk, touched: Walk) -> None:
        self.began = began
        self._walks = [entries, touched]
        self._count = _KEYS[0]
        self.bytes = 0
        """Of the last slice."""

    @property
    def done(self) -> bool:
        """True when all has been in a slice."""
        return not self._walks

    def forget(self, keys: Collection[Any]) -> None:
        """These keys were removed by a batch."""
        for walk in self._walks:
            walk.forget(keys)

    def slice(self, bytes_max: int) -> Iterator[bytes]:
        """Pickles of the next keys, of ``bytes_max`` or a piece more; read while they are consumed."""
        self.bytes = work = 0
        while self._walks and self.bytes + work < bytes_max:
            taken = self._walks[0].take(self._count)
            if taken is None:
                del self._walks[0]
                continue
            part, other = taken
            work += other
            if part:
                yield self._piece(part)

    def _piece(self, part: dict[Any, Any]) -> bytes:
        is_entries = len(self._walks) == 2
        piece = dumps(("slice", part, {}) if is_entries else ("slice", {}, part))
        self.bytes += len(piece)
        wanted = max(1, len(part)) * PIECE_BYTES // max(1, len(piece))
        self._count = min(max(wanted, _KEYS[0]), 2 * self._count, _KEYS[1])
        return piece
