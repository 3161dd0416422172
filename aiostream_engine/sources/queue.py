"""A queue of ready batches, for tests and for feeding by hand (rows SRC-16 … SRC-18)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Set
from itertools import islice
from typing import Any

from ..errors import ConfigurationError, LifecycleError, OptionError
from ..observe.events import ReceiverInfo
from ..types import INLINE_BYTES_MAX, BatchTime, BlockRef
from .base import BatchInput, EphemeralSource, SourceContext
from .open_block import encode_or_name_culprit
from .receiver import cancel_and_wait

__all__ = ["QueueSource"]

# Pickling this many small records takes a few milliseconds of the loop.
_BLOCK_RECORDS_MAX = 10_000
_LOOK_EVERY_S = 0.05


class QueueSource(EphemeralSource):
    """Gives one item of a queue a batch, or all that are there.

    An item is a collection of records (list, tuple, set, range, iterator …), or an RDD, which is
    handed through as it is. The queue may grow while the stream runs: by the user's own object,
    which is emptied from its front, or by :meth:`put`. It is never finished by being empty alone.

    Parameters
    ----------
    queue: a list, a deque or an asyncio.Queue of items; None for an own one. It stays shared.
    one_at_a_time: one item a batch; False takes all.
    default: the item of a batch for which there is none; by default such a batch is empty.
    finish_when_empty: finish once the queue is empty.
    items_max: bound of :meth:`put`.

    Raises OptionError for another kind of queue. :meth:`cut` raises ConfigurationError for an
    item that is no collection of records, and UnpicklableError for a record that cannot be sent.
    """

    name = "queue"

    def __init__(
        self,
        queue: list[Any] | deque[Any] | asyncio.Queue[Any] | None = None,
        *,
        one_at_a_time: bool = True,
        default: Any = None,
        finish_when_empty: bool = False,
        items_max: int = 100_000,
    ) -> None:
        if queue is not None and not isinstance(queue, (list, deque, asyncio.Queue)):
            raise OptionError(f"queue is a {type(queue).__name__}: give a list, a deque or an asyncio.Queue")
        if items_max < 1:
            raise OptionError(f"items_max is {items_max!r}: it must be at least 1")
        self._shared = queue is not None
        self._queue = deque[Any]() if queue is None else queue
        self._one_at_a_time = one_at_a_time
        self._default = default
        self._finish_when_empty = finish_when_empty
        self._items_max = items_max
        self._closed = False
        self._stopped = False
        self._context: SourceContext | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._records_total = 0
        self._bytes_total = 0

    def put(self, item: Any) -> None:
        """Add an item at the end, from the loop's thread.

        Raises asyncio.QueueFull at ``items_max``, LifecycleError after close or stop.
        """
        if self._closed or self._stopped:
            raise LifecycleError("the queue is closed: nothing can be put into it")
        if len(self) >= self._items_max:
            raise asyncio.QueueFull(f"the queue holds {self._items_max} items (items_max)")
        if isinstance(self._queue, asyncio.Queue):
            self._queue.put_nowait(item)
        else:
            self._queue.append(item)
        if self._context is not None:
            self._context.notify()

    def close(self) -> None:
        """Let the source finish when all items were taken."""
        self._closed = True
        if self._context is not None:
            self._context.notify()

    def __len__(self) -> int:
        """Items that wait."""
        return self._queue.qsize() if isinstance(self._queue, asyncio.Queue) else len(self._queue)

    async def start(self, context: SourceContext) -> None:
        if self._context is not None:
            raise LifecycleError(f"{self.name} was started before: make a new source for a new context")
        self._context = context
        self.name = f"{self.name}[{context.stream_id}]"
        context.on_started(self.info())
        if self._shared:
            self._watcher = asyncio.create_task(self._watch(), name=self.name)

    async def cut(self, time: BatchTime) -> BatchInput:
        blocks: list[BlockRef] = []
        datasets: list[Any] = []
        try:
            for item in self._take():
                if _is_dataset(item):
                    datasets.append(item)
                else:
                    blocks.extend(await self._blocks(self._records(item)))
        except BaseException:
            self._ledger_release(blocks)
            raise
        records = sum(ref.records for ref in blocks)
        size = sum(ref.size for ref in blocks)
        self._records_total += records
        self._bytes_total += size
        return BatchInput(tuple(blocks), tuple(datasets), -1 if datasets else records, size)

    async def stop(self) -> None:
        """Take no new items; those that wait can still be cut."""
        if self._stopped:
            return
        self._stopped = True
        if self._watcher is not None:
            await cancel_and_wait(self._watcher)
        if self._context is not None:
            self._context.on_stopped(self.info())

    async def aclose(self) -> None:
        await self.stop()

    @property
    def finished(self) -> bool:
        return len(self) == 0 and (self._closed or self._stopped or self._finish_when_empty)

    @property
    def pending(self) -> bool:
        return len(self) > 0

    def info(self) -> ReceiverInfo:
        return ReceiverInfo(
            stream_id=self._context.stream_id if self._context is not None else -1,
            name=self.name,
            active=self._context is not None and not self._stopped,
            queue_fill=len(self) / self._items_max,
            records_total=self._records_total,
            bytes_total=self._bytes_total,
        )

    async def _watch(self) -> None:
        """Nobody tells of an item that was added to the user's own queue."""
        assert self._context is not None
        clock = self._context.clock
        while True:
            if self.pending:
                self._context.notify()
            await clock.sleep_until(clock.monotonic() + _LOOK_EVERY_S)

    def _take(self) -> list[Any]:
        count = min(len(self), 1) if self._one_at_a_time else len(self)
        if count == 0 and self._default is not None and not self.finished:
            return [self._default]
        if isinstance(self._queue, asyncio.Queue):
            return [self._queue.get_nowait() for _ in range(count)]
        if isinstance(self._queue, deque):
            return [self._queue.popleft() for _ in range(count)]
        taken = self._queue[:count]
        del self._queue[:count]
        return taken

    def _records(self, item: Iterable[Any]) -> list[Any]:
        assert self._context is not None
        bound = self._context.limits.records_max
        records = list(islice(item, bound + 1))
        if len(records) > bound:
            raise ConfigurationError(f"an item of {self.name} has more than {bound} records (records_max)")
        return records

    async def _blocks(self, records: list[Any]) -> list[BlockRef]:
        """Records as blocks, enough of them for all workers."""
        assert self._context is not None
        size = min(-(-len(records) // self._context.parallelism), _BLOCK_RECORDS_MAX)
        blocks: list[BlockRef] = []
        try:
            for start in range(0, len(records), max(1, size)):
                blocks.append(self._block(records[start : start + size]))
                await asyncio.sleep(0)
        except BaseException:
            self._ledger_release(blocks)
            raise
        return blocks

    def _block(self, records: list[Any]) -> BlockRef:
        assert self._context is not None
        payload = encode_or_name_culprit(records, self.name)
        if len(payload) <= INLINE_BYTES_MAX:
            return BlockRef("pickle", payload, "", 0, len(payload), len(records))
        path, _ = self._context.directory.writer.write([payload])
        ref = BlockRef("pickle", None, path, 0, len(payload), len(records))
        self._context.directory.ledger.retain([ref])
        return ref

    def _ledger_release(self, blocks: list[BlockRef]) -> None:
        if self._context is not None:
            self._context.directory.ledger.release(blocks)


def _is_dataset(item: Any) -> bool:
    """True for what is handed through; raises ConfigurationError for a single record in place of many."""
    if isinstance(item, (str, bytes, bytearray, dict)):
        raise ConfigurationError(
            f"an item of the queue is a {type(item).__name__}: give a collection of records, such as a list"
        )
    return not isinstance(item, (list, tuple, deque, range, Set, Iterator))
