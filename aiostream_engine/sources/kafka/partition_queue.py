"""What was fetched ahead of one partition, and the bound on all of it together."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from ...blocks.directory import BlockDirectory
from ...kafka.decoding import BATCHES, FORMAT
from ...kafka.record_batch import Piece
from ...types import INLINE_BYTES_MAX, BlockRef

__all__ = ["Budget", "PartitionQueue", "Place", "merged"]

Place = tuple[str, int]  # topic, partition


class Budget:
    """Bytes that all queues of a source hold together."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        self.queues = 0

    @property
    def room(self) -> int:
        """Bytes that may still be fetched."""
        return max(0, self.bytes_max - self.bytes)

    @property
    def share(self) -> int:
        """Bytes that one partition may hold, so that a long backlog in one does not keep out others."""
        return max(1, self.bytes_max // max(1, self.queues))


class PartitionQueue:
    """Pieces of one partition in order; belongs to one event loop.

    Parameters
    ----------
    position: the next offset to fetch. stop: offset at which to end, None for never.
    form: how the bytes of its blocks are to be read.

    ``taken`` is the next offset that no batch has. ``highwater`` and ``stable`` are as the broker told
    last, -1 before that.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        position: int,
        budget: Budget,
        directory: BlockDirectory,
        *,
        topic_id: bytes = bytes(16),
        stop: int | None = None,
        form: str = BATCHES,
    ) -> None:
        self.topic, self.partition, self.topic_id = topic, partition, topic_id
        self.position = self.taken = position
        self.stop = stop
        self.highwater = self.stable = self.log_start = -1
        self.active = True
        self.blocked = False
        self.paused = False
        self.form = form
        self.bytes = 0
        self._pieces: deque[Piece] = deque()
        self._coming: deque[Piece] = deque()  # admitted and not stored yet, or not those before them
        self._stored: set[int] = set()
        self._jumps: deque[tuple[int, int]] = deque()
        self._leg = 0
        self._budget = budget
        self._directory = directory
        budget.queues += 1

    def __repr__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.position}"

    @property
    def place(self) -> Place:
        return self.topic, self.partition

    @property
    def ended(self) -> bool:
        """True when all up to ``stop`` is in batches."""
        return self.stop is not None and self.taken >= self.stop

    @property
    def fetched_all(self) -> bool:
        """True when all up to ``stop`` was fetched."""
        return self.stop is not None and self.position >= self.stop

    @property
    def wants_more(self) -> bool:
        """True when there is room and something to fetch."""
        if not self.active or self.blocked or self.paused or self.fetched_all:
            return False
        return self.bytes < self._budget.share and self._budget.room > 0

    @property
    def room(self) -> int:
        """Bytes that may still be fetched, by all queues together."""
        return self._budget.room

    @property
    def ready(self) -> int:
        """The offset up to which a batch could take now."""
        last = next((piece.stop for piece in reversed(self._pieces) if piece.leg == self._leg), self.taken)
        if not self._jumps or any(piece.leg == self._leg for piece in self._coming):
            return last
        return max(last, self._jumps[0][0])

    # -- filling -------------------------------------------------------------------------------

    def admit(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Account for pieces before they are stored; what lies behind ``stop`` is cut off."""
        kept = []
        for piece in pieces:
            if self.stop is not None and piece.start >= self.stop:
                break
            kept.append(self._within(piece))
        for piece in kept:
            piece.leg = self._leg + len(self._jumps)
        if kept:
            self._coming.extend(kept)
            self.position = kept[-1].stop
            self._grow(sum(piece.length for piece in kept))
        return kept

    def _within(self, piece: Piece) -> Piece:
        if self.stop is None or piece.stop <= self.stop:
            return piece
        dense = piece.exact and piece.records == piece.stop - piece.start
        records = min(piece.records, self.stop - piece.start)
        return replace(piece, stop=self.stop, records=records, exact=dense)

    def append(self, piece: Piece) -> None:
        """A piece that was admitted is stored; takes over its hold in the ledger.

        Storing may end in another order than it began, as when the leader has changed.
        """
        self._stored.add(id(piece))
        while self._coming and id(self._coming[0]) in self._stored:
            first = self._coming.popleft()
            self._stored.discard(id(first))
            self._pieces.append(first)

    def _grow(self, size: int) -> None:
        self.bytes += size
        self._budget.bytes += size

    def leap(self, position: int) -> None:
        """Go on fetching at another offset, because those up to it are lost; fetched ones stay."""
        self._jumps.append((self.position, position))
        self.position = position
        self.blocked = False
        self._settle_jump()

    def _settle_jump(self) -> None:
        while self._jumps and self.taken == self._jumps[0][0]:
            self.taken = self._jumps.popleft()[1]
            self._leg += 1

    # -- taking --------------------------------------------------------------------------------

    def take(self, until: int) -> list[Piece]:
        """The pieces up to offset ``until``, which is not beyond :attr:`ready`; the taker holds them."""
        taken: list[Piece] = []
        leg = self._leg
        while self._pieces and self._pieces[0].leg == leg and self._pieces[0].start < until:
            piece = self._pieces.popleft()
            self._grow(-piece.length)
            if piece.stop > until:
                piece, rest = self.split(piece, until)
                self._pieces.appendleft(rest)
                self._grow(rest.length)
            taken.append(piece)
        self.taken = until
        self._settle_jump()
        return taken

    def split(self, piece: Piece, at: int) -> tuple[Piece, Piece]:
        """Both parts of a stored piece, held in its place."""
        parts = piece.split(at)
        ledger = self._directory.ledger
        ledger.retain([self.block(part) for part in parts if part.bases])
        ledger.release([self.block(piece)] if piece.bases else [])
        return parts

    def block(self, piece: Piece, projection: str = "", key: str = "", value: str = "") -> BlockRef:
        """The block of a stored piece that has bytes."""
        args = (self.topic, self.partition, piece.start, piece.stop, self.form, projection, key, value)
        records = piece.records if piece.exact else -1
        return BlockRef(FORMAT, piece.data, piece.path, piece.offset, piece.length, records, args)

    def drop(self) -> None:
        """Forget all, for good."""
        self.active = False
        self._budget.queues -= 1
        self.clear()

    def clear(self) -> None:
        """Forget what was fetched and is in no batch."""
        ledger = self._directory.ledger
        stored = [piece for piece in self._coming if id(piece) in self._stored]
        ledger.release([self.block(piece) for piece in (*self._pieces, *stored) if piece.bases])
        self._grow(-self.bytes)
        self._pieces.clear()
        self._coming.clear()
        self._stored.clear()


def merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Small pieces that ride in their references, together where they fit: one block instead of many."""
    result: list[Piece] = []
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        if not piece.bases:
            continue
        fits = piece.data is not None and size + piece.length <= INLINE_BYTES_MAX
        if group and not fits:
            result.append(_joined(group))
            group, size = [], 0
        if piece.data is None:
            result.append(piece)
        else:
            group.append(piece)
            size += piece.length
    if group:
        result.append(_joined(group))
    return result


def _joined(group: list[Piece]) -> Piece:
    if len(group) == 1:
        return group[0]
    return Piece(
        group[0].start,
        group[-1].stop,
        sum(piece.records for piece in group),
        all(piece.exact for piece in group),
        sum(piece.length for piece in group),
        data=b"".join(piece.data for piece in group if piece.data is not None),
        bases=group[0].bases,
    )
