"""When batches are cut: cadence from the monotonic clock, labels from the wall clock.

The wall clock is read to choose the first label and to notice that it was stepped; deadlines
are multiples of the interval from one monotonic anchor, so they cannot drift. Spark's recurring
timer fires every period that it missed (row CTX-24); here they coalesce, unless asked for.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from functools import partial
from typing import NamedTuple

from ..clock import Clock, SystemClock
from ..types import BatchTime
from ..windows.intervals import first_tick_after, last_tick_at

__all__ = ["DataTrigger", "Tick", "Ticker"]

# Seconds since the epoch as a float are good to a quarter of a microsecond.
_ROUNDING_MS = 0.001


class Tick(NamedTuple):
    """One batch to cut.

    time: its label, later than all labels before.
    missed: ticks before it that give no batch of their own.
    late_s: how long after the deadline of the first of them (its own, if none was missed).
    jumped: labels left out because the wall clock was set forward.
    """

    time: BatchTime
    missed: int = 0
    late_s: float = 0.0
    jumped: int = 0


class _Timeline:
    """Batch time as a function of monotonic time: one millisecond a millisecond, from an anchor.

    A wall clock set forward by more than one interval (a resumed laptop, a corrected clock) moves
    batch time forward at once, by whole intervals, and leaves the cadence as it is. A wall clock
    set back changes nothing: labels stay ahead of it, since they must never repeat.

    catch_up: begin right after ``after_ms``, also when that is long ago.
    """

    def __init__(
        self,
        clock: Clock,
        interval_ms: int,
        zero_ms: int | None,
        after_ms: int | None,
        *,
        catch_up: bool = False,
    ) -> None:
        self._clock = clock
        self.interval_ms = interval_ms
        now, monotonic = clock.time(), clock.monotonic()
        tick = first_tick_after(_whole_ms(now), interval_ms, zero_ms or 0)
        owed = tick if after_ms is None else first_tick_after(after_ms, interval_ms, zero_ms or 0)
        first = owed if catch_up else max(tick, owed)
        self.zero_ms = first - interval_ms if zero_ms is None else zero_ms
        self._anchor_ms = self.first = first
        # A label that is owed has its deadline in the past; one ahead of the wall clock comes with the tick.
        self._anchor = monotonic + (min(first, tick) / 1000 - now)
        self.missed_before = (tick - first) // interval_ms if first < tick else 0

    def now(self) -> int:
        """Batch time of this moment, in whole milliseconds."""
        return self._anchor_ms + _whole_ms(self._clock.monotonic() - self._anchor)

    def deadline(self, label: int) -> float:
        """Monotonic time at which batch time reaches ``label``."""
        return self._anchor + (label - self._anchor_ms) / 1000

    def follow_wall(self) -> int:
        """Move forward to the wall clock if that is more than an interval ahead; gives intervals."""
        wall = _whole_ms(self._clock.time())  # read first: a pause in between must not look like a step
        jumped = max(0, wall - self.now()) // self.interval_ms
        self._anchor_ms += jumped * self.interval_ms
        return jumped


class _Waiter:
    """Waits for a deadline or for :meth:`wake`, whichever is first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sleep: asyncio.Future[None] | None = None

    async def until(self, deadline: float) -> None:
        if isinstance(self._clock, SystemClock):
            await self._until_timer(self._clock, deadline)
        else:
            await self._until_sleep(deadline)

    async def _until_timer(self, clock: SystemClock, deadline: float) -> None:
        """Without a task for each tick: at 100 ticks a second that is felt."""
        self._sleep = wake = asyncio.get_running_loop().create_future()
        try:
            while not wake.cancelled() and clock.monotonic() < deadline:
                timer = clock.call_at(deadline, partial(_resolve, wake))
                try:
                    await wake
                except asyncio.CancelledError:
                    if not wake.cancelled() or _being_cancelled():
                        raise
                    return
                finally:
                    timer.cancel()
                self._sleep = wake = asyncio.get_running_loop().create_future()
        finally:
            self._sleep = None

    async def _until_sleep(self, deadline: float) -> None:
        self._sleep = sleep = asyncio.ensure_future(self._clock.sleep_until(deadline))
        try:
            await asyncio.wait({sleep})
        finally:
            self._sleep = None
            sleep.cancel()
        if not sleep.cancelled():
            sleep.result()  # a clock that fails must not look like one that woke

    def wake(self) -> None:
        if self._sleep is not None:
            self._sleep.cancel()


def _resolve(wake: asyncio.Future[None]) -> None:
    if not wake.done():
        wake.set_result(None)


def _being_cancelled() -> bool:
    """True when the running task itself was asked to end, and not only what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Ticker:
    """Gives a tick at each multiple of the interval; one consumer, on one event loop.

    A consumer that asks late gets one tick for all that it missed, with the latest label: it is
    the way to hold ticks back while too many batches are in flight.

    Parameters
    ----------
    clock: wall and monotonic time.
    interval_ms: milliseconds from tick to tick.
    zero_ms: zero time of the stream that is continued (row CTX-23); None for a new stream,
        whose zero time is one interval before its first tick.
    after_ms: a label that was given before, by an earlier ticker; all labels are later.
    fire_missed: give each missed tick on its own, one after the other; also those between ``after_ms``
        and now. A wall clock that is set forward while the ticker runs makes none: see :attr:`Tick.jumped`.
    """

    def __init__(
        self,
        clock: Clock,
        interval_ms: int,
        *,
        zero_ms: int | None = None,
        after_ms: int | None = None,
        fire_missed: bool = False,
    ) -> None:
        self._clock = clock
        self._line = _Timeline(clock, interval_ms, zero_ms, after_ms, catch_up=fire_missed)
        self._next = self._line.first
        self._waiter = _Waiter(clock)
        self._fire_missed = fire_missed
        self._stopped = False
        self._ticks_left = 0

    @property
    def zero_ms(self) -> int:
        """Zero time of the stream: the slides of all its windows are counted from here."""
        return self._line.zero_ms

    @property
    def missed_before(self) -> int:
        """Ticks between ``after_ms`` and the start that are going to be given one after the other."""
        return self._line.missed_before

    async def ticks(self) -> AsyncIterator[Tick]:
        """The ticks until :meth:`stop`."""
        while (tick := await self.next()) is not None:
            yield tick

    async def next(self) -> Tick | None:
        """Wait for the next tick and give it; None after :meth:`stop`. Safe to cancel: no tick is lost."""
        if not self._stopped:
            await self._waiter.until(self._line.deadline(self._next))
        if self._stopped:
            if self._ticks_left == 0:
                return None
            self._ticks_left = 0
        return self._take()

    def _take(self) -> Tick:
        late_s = max(0.0, self._clock.monotonic() - self._line.deadline(self._next))
        missed = 0
        if not self._fire_missed:
            latest = last_tick_at(self._line.now(), self._line.interval_ms, self._line.zero_ms)
            missed = max(0, latest - self._next) // self._line.interval_ms
        jumped = self._line.follow_wall()
        label = self._next + (missed + jumped) * self._line.interval_ms
        self._next = label + self._line.interval_ms
        return Tick(BatchTime(label), missed, late_s, jumped)

    def stop(self, *, last_tick: bool = False) -> None:
        """End the ticks; with ``last_tick``, after one more that does not wait for its time.

        The last tick makes a batch of what came since the one before (row CTX-25). Its label is
        the next one due, up to an interval in the future. May be called again; the first call counts.
        """
        if not self._stopped:
            self._stopped = True
            self._ticks_left = int(last_tick)
            self._waiter.wake()


class DataTrigger:
    """Gives a tick as soon as there is data, and at each multiple of the interval without.

    The ticks without data keep windows and timeouts going. A label is the batch time of the cut,
    in milliseconds, or one more than the label before. Same face as :class:`Ticker`.

    Parameters
    ----------
    gap_min_s: least seconds from one tick to the next.
    """

    def __init__(
        self,
        clock: Clock,
        interval_ms: int,
        *,
        gap_min_s: float = 0.0,
        zero_ms: int | None = None,
        after_ms: int | None = None,
    ) -> None:
        self._clock = clock
        self._line = _Timeline(clock, interval_ms, zero_ms, after_ms)
        self._last = self._line.zero_ms if after_ms is None else max(self._line.zero_ms, after_ms)
        self._waiter = _Waiter(clock)
        self._gap_s = gap_min_s
        self._not_before = clock.monotonic()
        self._notified = False
        self._stopped = False
        self._ticks_left = 0

    @property
    def zero_ms(self) -> int:
        """Zero time of the stream: the slides of all its windows are counted from here."""
        return self._line.zero_ms

    def notify(self) -> None:
        """Data is there. Cheap; to be called on the event loop, as often as one likes."""
        if not self._notified:
            self._notified = True
            self._waiter.wake()

    async def ticks(self) -> AsyncIterator[Tick]:
        """The ticks until :meth:`stop`."""
        while (tick := await self.next()) is not None:
            yield tick

    async def next(self) -> Tick | None:
        """Wait for data or for the interval and give a tick; None after :meth:`stop`. Safe to cancel."""
        await asyncio.sleep(0)  # data without end must leave the loop to others
        while not self._stopped and (deadline := self._deadline()) > self._clock.monotonic():
            await self._waiter.until(deadline)
        if self._stopped:
            if self._ticks_left == 0:
                return None
            self._ticks_left = 0
        return self._take()

    def _heartbeat(self) -> int:
        return first_tick_after(self._last, self._line.interval_ms, self._line.zero_ms)

    def _deadline(self) -> float:
        if self._notified:
            return self._not_before
        return max(self._not_before, self._line.deadline(self._heartbeat()))

    def _take(self) -> Tick:
        self._notified = False
        now = self._clock.monotonic()
        late_s = max(0.0, now - self._line.deadline(self._heartbeat()))
        jumped = self._line.follow_wall()
        self._last = max(self._last + 1, self._line.now())
        self._not_before = now + self._gap_s
        return Tick(
            BatchTime(self._last), math.floor(late_s * 1000) // self._line.interval_ms, late_s, jumped
        )

    def stop(self, *, last_tick: bool = False) -> None:
        """As :meth:`Ticker.stop`."""
        if not self._stopped:
            self._stopped = True
            self._ticks_left = int(last_tick)
            self._waiter.wake()


def _whole_ms(seconds: float) -> int:
    return math.floor(seconds * 1000 + _ROUNDING_MS)
