"""The blocks from which a partition of a keyed state is rebuilt, oldest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..types import BlockRef

__all__ = ["ChainLink", "snapshot_bytes"]


class ChainLink(NamedTuple):
    """One block of a chain: changes, a snapshot, or changes and a slice of a snapshot.

    version: that it brings the partition to. first: the chain begins with it, since it needs none before.
    sweep: version at which the snapshot in slices began that has ``swept_bytes`` here, 0 for none.
    sweep_done: with this slice it is complete: what is older than its beginning is not needed.
    """

    block: BlockRef
    version: int
    first: bool = False
    sweep: int = 0
    swept_bytes: int = 0
    sweep_done: bool = False


def snapshot_bytes(chain: Sequence[ChainLink]) -> int:
    """The size of the last complete snapshot in a chain."""
    for link in reversed(chain):
        if link.sweep_done:
            return sum(item.swept_bytes for item in chain if item.sweep == link.sweep)
        if link.first:
            size: int = link.block.size
            return size
    return 0
