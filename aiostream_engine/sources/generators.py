"""Sources that make their own records, for tests and demonstrations."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import threading
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from typing import Any

from ..config import QueueLimits, RetryPolicy
from ..errors import OptionError
from .base import EphemeralSource
from .object_source import ObjectSource

__all__ = ["GeneratorSource", "RateSource"]

_ONCE = RetryPolicy(attempts_max=1)
_STEP_S = 0.001
_ROUNDING = 1e-6
_AHEAD_RECORDS_MAX = 1024


class RateSource(ObjectSource, EphemeralSource):
    """Makes record 0, 1, 2 … at a steady rate of the context's clock.

    Parameters
    ----------
    records_per_s: the rate.
    make: makes the record of a number; by default the number itself. Runs on the loop.
    records_max: finish after so many; None for never.
    catch_up_s: after a stall at most so many seconds of records are made up for, the rest is left out.
    name, limits: as for every receiver.

    Raises OptionError for a bad rate. An error of ``make`` fails the source.
    """

    def __init__(
        self,
        records_per_s: float,
        make: Callable[[int], Any] | None = None,
        *,
        records_max: int | None = None,
        catch_up_s: float = 10.0,
        name: str = "rate",
        limits: QueueLimits | None = None,
    ) -> None:
        if not 0 < records_per_s < math.inf:
            raise OptionError(f"records_per_s is {records_per_s!r}: use a number above 0")
        super().__init__(name, retry=_ONCE, limits=limits)
        self._records_per_s = records_per_s
        self._make = make
        self._records_max = records_max
        self._catch_up_s = catch_up_s

    async def receive(self) -> None:
        clock = self.context.clock
        rate, last = self._records_per_s, self._records_max
        started_at, number, number_at_start = clock.monotonic(), 0, 0
        while last is None or number < last:
            now = clock.monotonic()
            due = math.floor((now - started_at) * rate + _ROUNDING) - (number - number_at_start)
            if due > self._catch_up_s * rate + 1:
                due = math.ceil(self._catch_up_s * rate)
                started_at, number_at_start = now, number + due
            for _ in range(due if last is None else min(due, last - number)):
                await self.store(number if self._make is None else self._make(number))
                number += 1
            next_at = started_at + (number - number_at_start + 1) / rate
            await clock.sleep_until(max(next_at, now + _STEP_S))


class GeneratorSource(ObjectSource, EphemeralSource):
    """Gives the records of an iterable or async iterable; its end finishes the source.

    Parameters
    ----------
    items: what to iterate, once. An iterator that may block is read in a thread of its own; lists,
        tuples and ranges are read on the loop.
    records_per_s: pace of the clock; None for as fast as the queue takes them.
    name, limits: as for every receiver.

    Raises OptionError when ``items`` cannot be iterated. An error of the iterator fails the source.
    """

    def __init__(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        records_per_s: float | None = None,
        name: str = "generator",
        limits: QueueLimits | None = None,
    ) -> None:
        if inspect.isfunction(items) or not (hasattr(items, "__iter__") or hasattr(items, "__aiter__")):
            raise OptionError(f"items is a {type(items).__name__}: give an iterable or async iterable")
        super().__init__(name, retry=_ONCE, limits=limits)
        self._items = items
        self.set_rate(records_per_s)

    async def receive(self) -> None:
        if isinstance(self._items, AsyncIterable):
            async for item in self._items:
                await self.store(item)
        elif isinstance(self._items, (list, tuple, range)):
            for item in self._items:
                await self.store(item)
        else:
            await self._receive_from_thread(iter(self._items))

    async def _receive_from_thread(self, items: Iterator[Any]) -> None:
        reader = _IteratorThread(items, self.name)
        try:
            while (chunk := await reader.next_chunk()) is not None:
                for item in chunk:
                    await self.store(item)
        finally:
            reader.stop()


class _IteratorThread:
    """Reads an iterator in a daemon thread, a bounded way ahead; a chunk is what came meanwhile."""

    def __init__(self, items: Iterator[Any], name: str) -> None:
        self._items = items
        self._loop = asyncio.get_running_loop()
        self._came = asyncio.Event()
        self._buffer: deque[Any] = deque()
        self._room = threading.Semaphore(_AHEAD_RECORDS_MAX)
        self._wake_is_due = False
        self._stopped = False
        self._ended = False
        self._failure: BaseException | None = None
        threading.Thread(target=self._read, name=name, daemon=True).start()

    async def next_chunk(self) -> list[Any] | None:
        """The next records, None at the end; raises what the iterator raised."""
        while not self._buffer:
            if self._ended and not self._buffer:
                if self._failure is not None:
                    raise self._failure
                return None
            await self._came.wait()
            self._came.clear()
        chunk = [self._buffer.popleft() for _ in range(len(self._buffer))]
        self._room.release(len(chunk))
        return chunk

    def stop(self) -> None:
        """Let the thread end after the record it is at."""
        self._stopped = True
        self._room.release()

    def _read(self) -> None:
        try:
            for item in self._items:
                self._room.acquire()
                if self._stopped:
                    return
                self._buffer.append(item)
                self._wake()
        except BaseException as error:
            self._failure = error
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        # The flag is cleared before the buffer is looked at, so that no record is overlooked.
        if self._wake_is_due and not self._ended:
            return
        self._wake_is_due = True
        with contextlib.suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(self._note_arrival)

    def _note_arrival(self) -> None:
        self._wake_is_due = False
        self._came.set()
