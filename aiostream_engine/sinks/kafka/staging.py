"""Packed batches that wait for their transaction: in memory up to a bound, the rest in a file."""

from __future__ import annotations

import asyncio
import os
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...kafka.packing import PackedBatch

__all__ = ["SpilledContent", "StagedOutput", "loaded"]


class _SpillFile:
    """A file without a name; closed, and thereby gone, with the last who has it."""

    def __init__(self) -> None:
        self.number, path = tempfile.mkstemp(prefix="aiostream-staged-")
        weakref.finalize(self, os.close, self.number)
        os.unlink(path)


@dataclass(frozen=True, slots=True)
class SpilledContent:
    """The bytes of a packed batch in a file that goes away with the last who knows it."""

    file: _SpillFile
    offset: int
    length: int

    def __len__(self) -> int:
        return self.length

    def read(self) -> bytearray:
        """The bytes; blocks. Raises OSError."""
        content = bytearray(self.length)
        view, done = memoryview(content), 0
        while done < self.length:
            count = os.preadv(self.file.number, [view[done:]], self.offset + done)
            if count == 0:
                raise OSError("staged output is cut off")
            done += count
        return content


async def loaded(batch: PackedBatch) -> PackedBatch:
    """The batch with its bytes in memory; reads in a thread. Raises OSError."""
    if not isinstance(batch.content, SpilledContent):
        return batch
    return batch._replace(content=await asyncio.to_thread(batch.content.read))


@dataclass(slots=True)
class _Staged:
    """The output of one batch of the stream."""

    parts: dict[int, Sequence[PackedBatch]] = field(default_factory=dict)
    bytes_held: int = 0
    file: _SpillFile | None = None
    end: int = 0


class StagedOutput:
    """What batches of the stream have staged.

    bytes_max: held in memory; what comes above is written to a file without a name, in the directory for
    temporary files, while the others wait. ``bytes_held`` and ``bytes_spilled`` are of now.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._staged: dict[int, _Staged] = {}
        self._turn = asyncio.Lock()

    @property
    def bytes_held(self) -> int:
        """Bytes in memory."""
        return sum(staged.bytes_held for staged in self._staged.values())

    @property
    def bytes_spilled(self) -> int:
        """Bytes in files."""
        return sum(staged.end for staged in self._staged.values())

    async def add(self, batch_id: int, partition: int, batches: Sequence[PackedBatch]) -> None:
        """Stage the output of one partition, instead of what it staged before. Raises OSError."""
        async with self._turn:
            staged = self._staged.setdefault(batch_id, _Staged())
            size = sum(len(batch.content) for batch in batches)
            if self.bytes_held + size > self._bytes_max:
                batches = await asyncio.to_thread(_spill, staged, batches)
            else:
                staged.bytes_held += size
            staged.parts[partition] = batches

    def take(self, batch_id: int) -> list[PackedBatch]:
        """All that a batch staged, in the order of partitions; it is forgotten here."""
        staged = self._staged.pop(batch_id, _Staged())
        return [batch for number in sorted(staged.parts) for batch in staged.parts[number]]

    def drop(self, batch_id: int) -> None:
        """Forget what a batch staged."""
        self._staged.pop(batch_id, None)


def _spill(staged: _Staged, batches: Sequence[PackedBatch]) -> list[PackedBatch]:
    if staged.file is None:
        staged.file = _SpillFile()
    return [_spilled(staged, staged.file, batch) for batch in batches]


def _spilled(staged: _Staged, file: _SpillFile, batch: PackedBatch) -> PackedBatch:
    start, view = staged.end, memoryview(batch.content)
    while view:
        view = view[os.write(file.number, view) :]
    staged.end += len(batch.content)
    return batch._replace(content=SpilledContent(file, start, len(batch.content)))
