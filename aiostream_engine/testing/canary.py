"""How long the event loop keeps others waiting."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from types import TracebackType
from typing import NamedTuple

__all__ = ["LoopCanary", "LoopDelay"]

_SAMPLES_MAX = 100_000


class LoopDelay(NamedTuple):
    """Delay of a timer on the loop, in seconds; all zero without samples."""

    samples: int
    p50_s: float
    p99_s: float
    max_s: float


class LoopCanary:
    """Measures, while its ``async with`` lasts, how late a timer is called.

    Keeps the last hundred thousand samples; ``max_s`` is of all of them.

    Parameters
    ----------
    interval_s: seconds between two measurements.
    """

    def __init__(self, interval_s: float = 0.005) -> None:
        self._interval_s = interval_s
        self._delays: deque[float] = deque(maxlen=_SAMPLES_MAX)
        self._max_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def _measure(self) -> None:
        while True:
            due = time.monotonic() + self._interval_s
            await asyncio.sleep(self._interval_s)
            delay = max(0.0, time.monotonic() - due)
            self._delays.append(delay)
            self._max_s = max(self._max_s, delay)

    async def __aenter__(self) -> LoopCanary:
        self._task = asyncio.create_task(self._measure(), name="loop-canary")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})

    def report(self) -> LoopDelay:
        """The delays so far."""
        delays = sorted(self._delays)
        if not delays:
            return LoopDelay(0, 0.0, 0.0, 0.0)
        return LoopDelay(len(delays), delays[len(delays) // 2], delays[len(delays) * 99 // 100], self._max_s)
