"""A clock that stands still until the test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable

__all__ = ["ManualClock"]

_SETTLE_TURNS = 25


class ManualClock:
    """Has the face of :class:`aiostream_engine.clock.Clock`; time passes only in :meth:`advance`.

    Parameters
    ----------
    epoch_s: wall time at the start, in seconds; 0 gives labels that are easy to read.
    """

    def __init__(self, epoch_s: float = 0.0) -> None:
        self._monotonic = 100.0  # not the wall time, so that a mix-up of the two shows
        self._wall_ahead = epoch_s - self._monotonic
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        """Wall time in epoch seconds."""
        return self._monotonic + self._wall_ahead

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self._monotonic

    async def sleep_until(self, deadline: float) -> None:
        """Return when the clock was advanced to ``deadline``; at once if it has been already."""
        if deadline <= self._monotonic:
            return
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (deadline, next(self._numbers), wake))
        await wake

    @property
    def sleepers(self) -> int:
        """How many sleep now."""
        return sum(not wake.done() for _, _, wake in self._sleepers)

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or, with a negative value, back; monotonic time does not move."""
        self._wall_ahead += seconds

    async def advance(self, seconds: float) -> None:
        """Let time pass: wakes sleepers in the order of their deadlines, each at its own time.

        After each one the event loop gets turns, so that what it does next is done at that time,
        and a sleeper that sleeps again within the span is woken again. Work in threads and
        processes is not waited for: use :meth:`until` for that.
        """
        if seconds < 0:
            raise ValueError(f"cannot advance by {seconds} s: monotonic time never goes back")
        target = self._monotonic + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            deadline, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():  # a cancelled sleeper stays in the heap
                self._monotonic = max(self._monotonic, deadline)
                wake.set_result(None)
                await self.settle()
        self._monotonic = target
        await self.settle()

    async def jump(self, seconds: float) -> None:
        """Let time pass while nobody runs, as in a stalled loop: all that slept wake up late."""
        self._monotonic += seconds
        due = [wake for deadline, _, wake in sorted(self._sleepers) if deadline <= self._monotonic]
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._monotonic]
        heapq.heapify(self._sleepers)
        for wake in due:
            if not wake.done():
                wake.set_result(None)
        await self.settle()

    async def settle(self) -> None:
        """Give the event loop turns to finish what is ready, without letting time pass."""
        for _ in range(_SETTLE_TURNS):
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], object], *, timeout_s: float = 10.0) -> None:
        """Wait, in real time, until ``condition()`` is true; the manual time stands still.

        Raises TimeoutError after ``timeout_s`` real seconds.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"condition did not come true within {timeout_s} s")
            await asyncio.sleep(0.0005)
