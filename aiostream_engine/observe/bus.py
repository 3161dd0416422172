"""The event bus: whatever happens to a listener, the stream goes on (scenario I5)."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import BuiltinMethodType, MethodType

from .events import Event
from .listener import EventHandler, Listener, handler_of
from .logs import get_logger

__all__ = ["BusStatistics", "EventBus"]


def _same(known: Listener, listener: Listener) -> bool:
    """``obj.method`` makes a new object each time it is read; those of one object are equal."""
    is_method = isinstance(known, MethodType | BuiltinMethodType)
    return known is listener or (is_method and known == listener)


@dataclass(frozen=True, slots=True)
class BusStatistics:
    """Figures of a bus since it was made.

    events_dropped counts events that left the full queue unheard, oldest first.
    """

    events_emitted: int
    events_delivered: int
    events_dropped: int
    events_queued: int
    listener_errors: int
    listeners: int


class EventBus:
    """Hands events to listeners from one task, in order, through a bounded queue.

    events_max: length of the queue; when it is full the oldest event is dropped and counted.
    listener_timeout_s: how long one ``async`` listener may take for one event before it is cancelled.
    direct: plain callables that are called inside of :meth:`emit`, for figures that must be
        up to date at once; they must be quick.

    The bounded bus in front of the listeners is Spark's LiveListenerBus (LIS-13).
    """

    def __init__(
        self,
        events_max: int = 10_000,
        *,
        listener_timeout_s: float = 30.0,
        direct: Iterable[Callable[[Event], None]] = (),
    ) -> None:
        if events_max < 1:
            raise ValueError(f"events_max is {events_max}: it must be at least 1")
        self._queue: deque[Event] = deque(maxlen=events_max)
        self._events_max = events_max
        self._listener_timeout_s = listener_timeout_s
        self._direct = tuple(direct)
        self._handlers: list[tuple[Listener, EventHandler]] = []
        self._wake: asyncio.Event | None = None
        self._idle: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._log = get_logger("aiostream_engine.observe")  # its own limits: buses are independent
        self._emitted = self._delivered = self._dropped = self._errors = 0

    def add(self, listener: Listener) -> None:
        """Deliver the events from now on to ``listener`` as well. Raises TypeError if it is none."""
        self._handlers.append((listener, handler_of(listener)))

    def remove(self, listener: Listener) -> bool:
        """Deliver nothing more to ``listener``; gives False when it was not there."""
        kept = [entry for entry in self._handlers if not _same(entry[0], listener)]
        found = len(kept) < len(self._handlers)
        self._handlers = kept
        return found

    def emit(self, event: Event) -> None:
        """Take note of an event: cheap, never waits, never raises. Call it on the loop of the bus."""
        self._emitted += 1
        for function in self._direct:
            try:
                function(event)
            except Exception as exc:
                self._failed(function, event, exc)
        if not self._handlers and self._task is not None:
            return  # nobody listens: what happened before the start is kept for the first who does
        if len(self._queue) == self._events_max:
            self._dropped += 1
            self._log.limited(
                "dropped", logging.WARNING, "events dropped: listeners are slow", total=self._dropped
            )
        self._queue.append(event)
        if self._wake is not None and self._idle is not None:
            self._idle.clear()
            self._wake.set()

    def start(self) -> None:
        """Begin to deliver, on the running loop; events emitted before are delivered first."""
        if self._task is None or self._task.done():
            self._wake, self._idle = asyncio.Event(), asyncio.Event()
            self._wake.set()
            self._closing = False
            self._task = asyncio.get_running_loop().create_task(self._dispatch(), name="event-bus")

    async def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until all events emitted so far are delivered; False when ``timeout_s`` passed first."""
        if self._idle is None or self._task is None or self._task.done():
            return not self._queue
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def aclose(self, timeout_s: float = 5.0) -> None:
        """Deliver what is queued within ``timeout_s`` seconds, then stop.

        May be called twice, and by a listener: then the bus ends after what is queued by now.
        """
        task, self._task = self._task, None
        if task is None:
            return
        self._closing = True
        if task is asyncio.current_task():  # a listener closes its own bus: it ends when it returns
            return
        if self._idle is not None and not task.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._idle.wait()
        task.cancel()
        # Not awaited without bound: a listener may swallow its cancellation.
        await asyncio.wait({task}, timeout=1.0)
        self._wake = self._idle = None

    def statistics(self) -> BusStatistics:
        """Figures of this moment."""
        return BusStatistics(
            events_emitted=self._emitted,
            events_delivered=self._delivered,
            events_dropped=self._dropped,
            events_queued=len(self._queue),
            listener_errors=self._errors,
            listeners=len(self._handlers),
        )

    async def _dispatch(self) -> None:
        wake, idle = self._wake, self._idle
        assert wake is not None
        assert idle is not None
        while True:
            await wake.wait()
            while self._queue:
                event = self._queue.popleft()
                for _, handler in tuple(self._handlers):
                    await self._deliver(handler, event)
                self._delivered += 1
            wake.clear()
            idle.set()
            if self._closing:
                return

    async def _deliver(self, handler: EventHandler, event: Event) -> None:
        try:
            answer = handler(event)
            if inspect.isawaitable(answer):
                async with asyncio.timeout(self._listener_timeout_s):
                    await answer
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._failed(handler, event, exc)  # the listener's own, not ours
        except Exception as exc:
            self._failed(handler, event, exc)

    def _failed(self, handler: object, event: Event, exc: BaseException) -> None:
        self._errors += 1
        owner = type(getattr(handler, "__self__", handler)).__name__
        # Never let the report of an error become one: repr and str are user code too.
        with contextlib.suppress(Exception):
            self._log.limited(
                f"listener:{owner}:{type(exc).__name__}",
                logging.ERROR,
                "listener failed",
                listener=owner,
                event_type=type(event).__name__,
                error=f"{type(exc).__name__}: {exc}",
            )
