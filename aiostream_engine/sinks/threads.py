"""Calls that may block, each in a thread of its own that nobody has to wait for."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

__all__ = ["ThreadSlots", "settled"]

T = TypeVar("T")


class ThreadSlots:
    """Runs blocking calls off the event loop, at most ``threads_max`` at a time.

    The threads are daemons: a call that hangs keeps its slot but holds up neither the caller,
    who may be cancelled, nor the end of the process. ``asyncio.to_thread`` promises neither.
    """

    def __init__(self, threads_max: int, name: str = "sink") -> None:
        self._free = asyncio.Semaphore(threads_max)
        self._name = name

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """What ``function(*args)`` returns or raises, called with the current context variables."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def settle(result: Any, exc: BaseException | None) -> None:
            self._free.release()
            if future.done():  # the caller was cancelled
                return
            if exc is None:
                future.set_result(result)
            else:
                future.set_exception(exc)

        def body() -> None:
            result, error = None, None
            try:
                result = context.run(function, *args)
            except BaseException as exc:
                # A future refuses StopIteration, and an exit of a thread is no exit of the program.
                error = exc if isinstance(exc, Exception) else RuntimeError(f"{function!r} raised {exc!r}")
                if isinstance(exc, StopIteration):
                    error = RuntimeError(f"{function!r} raised StopIteration")
            try:
                loop.call_soon_threadsafe(settle, result, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

        try:
            threading.Thread(target=body, name=f"{self._name}-write", daemon=True).start()
        except BaseException:  # no thread, no slot
            self._free.release()
            raise
        return await future


async def settled(work: Awaitable[T]) -> T:
    """What ``work`` gives; a cancellation waits until it is over, so that nothing runs on unseen.

    For calls in threads, which cannot be stopped, and which must not overlap with their repetition.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # seen
        raise
