"""The blocks of one source that no batch has yet, bounded in bytes and in records."""

from __future__ import annotations

from ..config import QueueLimits
from ..types import BlockRef
from .open_block import OpenBlock

__all__ = ["BlockQueue"]


class BlockQueue:
    """First in, first out; counts the open block, too, so that the bound is on all that waits.

    The queue refuses nothing: its owner stops reading when :attr:`full` is true, and what was
    read already has room. It is over its bound by at most that.
    """

    def __init__(self, limits: QueueLimits, open_block: OpenBlock) -> None:
        self._limits = limits
        self._open = open_block
        self._blocks: list[BlockRef] = []
        self._bytes = 0
        self._records = 0

    @property
    def bytes(self) -> int:
        """Bytes that wait, with the open block."""
        return self._bytes + self._open.bytes

    @property
    def records(self) -> int:
        """Records that wait, with the open block."""
        return self._records + self._open.records

    @property
    def empty(self) -> bool:
        """True when nothing waits."""
        return not self._blocks and not self._open.records

    @property
    def full(self) -> bool:
        """True at either bound."""
        return self.bytes >= self._limits.bytes_max or self.records >= self._limits.records_max

    @property
    def fill(self) -> float:
        """Share of the nearer bound that is used; over 1 by what was under way when it was reached."""
        return max(self.bytes / self._limits.bytes_max, self.records / self._limits.records_max)

    def put(self, ref: BlockRef) -> None:
        """Add a finished block, held once in the ledger."""
        self._blocks.append(ref)
        self._bytes += ref.size
        self._records += max(0, ref.records)

    def seal(self) -> None:
        """End the open block and queue it."""
        ref = self._open.seal()
        if ref is not None:
            self.put(ref)

    def take(self) -> tuple[BlockRef, ...]:
        """All finished blocks, in order; the caller owns their hold."""
        blocks, self._blocks = tuple(self._blocks), []
        self._bytes = self._records = 0
        return blocks
