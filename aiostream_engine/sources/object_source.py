"""The common base of sources whose records are Python objects: custom receivers, actors, generators."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from ..blocks.arena import Arena
from ..errors import LifecycleError
from ..types import BlockRef
from .open_block import ObjectsBlock, encode_or_name_culprit
from .receiver import SupervisedSource

__all__ = ["ObjectSource"]

_YIELD_AFTER_S = 0.002
_CLOCK_EVERY = 32
_THREAD_RECORDS_MIN = 2_000


class ObjectSource(SupervisedSource):
    """Collects objects and pickles them when a block is ended; see :class:`SupervisedSource`."""

    _yielded_at = 0.0
    _stored = 0

    def _open_block(self, arena: Arena) -> ObjectsBlock:
        self._objects = ObjectsBlock(arena, self.name)
        return self._objects

    async def store(self, item: Any) -> None:
        """Add one record; waits while the queue is full or the rate is used up.

        Gives the loop its turn from time to time, so that a caller that never waits for anything
        else does not starve the program. Raises UnpicklableError, LifecycleError after stop.
        """
        while not self._gate.is_set():
            await self._gate.wait()
            self._yielded_at = time.perf_counter()
        self._append(item)
        self._stored += 1
        if self._stored % _CLOCK_EVERY == 0 and time.perf_counter() - self._yielded_at > _YIELD_AFTER_S:
            await asyncio.sleep(0)
            self._yielded_at = time.perf_counter()

    def store_nowait(self, item: Any) -> None:
        """Add one record at once. Raises asyncio.QueueFull when it has to wait, and as :meth:`store`."""
        if not self._gate.is_set():
            raise asyncio.QueueFull(f"{self.name} is full or over its rate")
        self._append(item)

    async def store_block(self, items: Iterable[Any]) -> BlockRef | None:
        """Add records as one block of their own; None when there are none. Raises as :meth:`store`."""
        records = list(items)
        if not records:
            return None
        while not self._gate.is_set():
            await self._gate.wait()
        self._refuse_after_stop()
        if len(records) < _THREAD_RECORDS_MIN:
            payload = encode_or_name_culprit(records, self.name)
        else:
            payload = await asyncio.to_thread(encode_or_name_culprit, records, self.name)
        self._refuse_after_stop()
        # What was stored before comes before.
        self._seal()
        self._arena.write(payload)
        ref = self._arena.cut("pickle", records=len(records))
        self._enqueue(ref)
        return ref

    def _append(self, item: Any) -> None:
        self._refuse_after_stop()
        size = self._objects.append(item)
        if self._objects.is_large:
            self._queue.seal()
        self._admitted(1, size)

    def _refuse_after_stop(self) -> None:
        if self._stopping:
            raise LifecycleError(f"{self.name} is stopped: it takes no more records")
