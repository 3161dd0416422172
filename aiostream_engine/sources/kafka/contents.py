"""What a batch is made of: blocks of the pieces that were taken, in parts of like size."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from ...kafka.record import OffsetRange
from ...types import BlockRef
from ..base import BatchInput
from .partition_queue import PartitionQueue, merged
from .ranges import Taken

__all__ = ["content_of"]


def content_of(taken: Sequence[Taken], block_args: Sequence[Any], partitions_min: int) -> BatchInput:
    """A batch without position; a part for each range, more where ranges are split for ``partitions_min``.

    block_args: what the blocks are told of decoding.
    """
    blocks: list[BlockRef] = []
    sizes: list[int] = []
    whole = sum(one.offsets for one, _, _ in taken)
    for one, queue, pieces in taken:
        parts = max(1, round(partitions_min * one.offsets / whole)) if whole else 1
        for group in _parted(one, queue, pieces, parts):
            found = [queue.block(piece, *block_args) for piece in merged(group)]
            if found:
                blocks += found
                sizes.append(len(found))
    ranges = tuple(one for one, _, _ in taken)
    return BatchInput(
        tuple(blocks),
        records=sum(piece.records for _, _, pieces in taken for piece in pieces),
        bytes=sum(block.size for block in blocks),
        metadata={"offsets": ranges},
        recipe=[list(one) for one in ranges] or None,
        part_sizes=tuple(sizes),
    )


def _parted(one: OffsetRange, queue: PartitionQueue, pieces: list[Any], parts: int) -> list[list[Any]]:
    """Pieces of a range in so many groups of like many offsets: by offsets, so that it is always the same."""
    if parts <= 1:
        return [pieces]
    groups: list[list[Any]] = []
    rest = deque(pieces)
    for number in range(1, parts + 1):
        until = one.start + one.offsets * number // parts
        group = []
        while rest and rest[0].start < until:
            piece = rest.popleft()
            if piece.stop > until:
                piece, after = queue.split(piece, until)
                rest.appendleft(after)
            group.append(piece)
        groups.append(group)
    return groups
