"""Time as a value that is handed in, so that tests own it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Wall time for labels, monotonic time for cadence, and sleeping.

    The manual clock of :mod:`aiostream_engine.testing` has the same face.
    """

    def time(self) -> float:
        """Epoch seconds; may jump."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep_until(self, deadline: float) -> None:
        """Return when :meth:`monotonic` has reached ``deadline``; at once if it has."""


class SystemClock:
    """The clock of the machine."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def call_at(self, deadline: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back at ``deadline``, perhaps a little early; for those who wait often (the ticker)."""
        left = deadline - time.monotonic()
        return asyncio.get_running_loop().call_later(max(0.0, left), callback)

    async def sleep_until(self, deadline: float) -> None:
        # A timer may fire early by its resolution; looping keeps the promise.
        while (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(left)
