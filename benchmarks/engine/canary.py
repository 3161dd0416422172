"""A coroutine that sleeps a millisecond again and again, and notes how late the loop wakes it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

__all__ = ["canary"]

PERIOD_S = 0.001


@contextlib.asynccontextmanager
async def canary() -> AsyncIterator[list[float]]:
    """Gives the list that fills up with delays in seconds while the body runs."""
    late_s: list[float] = []
    task = asyncio.create_task(_sing(late_s))
    try:
        yield late_s
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _sing(late_s: list[float]) -> None:
    while True:
        due = time.perf_counter() + PERIOD_S
        await asyncio.sleep(PERIOD_S)
        late_s.append(max(0.0, time.perf_counter() - due))
