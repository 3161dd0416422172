"""The engine's own event loop, in a daemon thread, for callers that know nothing of asyncio."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import concurrent.futures.thread  # its own end at exit must be registered before ours, to come after it
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["EngineLoop"]

T = TypeVar("T")

_STOP_TIMEOUT_S = 60.0

# At exit the loop must still be able to use threads, which plain ``atexit`` comes too late for.
_before_exit: Callable[[Callable[[], None]], Any] = getattr(threading, "_register_atexit", atexit.register)


class EngineLoop:
    """Runs coroutines on one event loop in a thread of its own, and waits for them.

    The thread starts with the first call and ends with :meth:`stop`, or at exit of the interpreter
    after the ``on_exit`` callback. Calls may come from any thread but the loop's.

    Parameters
    ----------
    name: of the thread.
    on_exit: called when the interpreter ends while the loop runs; should call :meth:`stop`.
    """

    def __init__(self, name: str = "aiostream-pyspark", on_exit: Callable[[], None] | None = None) -> None:
        self._name = name
        self._on_exit = weakref.WeakMethod(on_exit) if on_exit is not None else None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False

    @property
    def running(self) -> bool:
        """True between the first call and :meth:`stop`."""
        return self._thread is not None and not self._stopped

    @property
    def is_current(self) -> bool:
        """True in code that the loop itself runs, which must not wait for it."""
        return self._thread is threading.current_thread()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, started if it was not. Raises RuntimeError after :meth:`stop`."""
        with self._lock:
            if self._stopped:
                raise RuntimeError("the engine's event loop is stopped")
            if self._loop is None:
                self._start()
            assert self._loop is not None
            return self._loop

    def _start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_serve, args=(self._loop,), name=self._name, daemon=True)
        self._thread.start()
        if self._on_exit is not None:
            on_exit = self._on_exit
            _before_exit(lambda: _call_if_alive(on_exit))

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start ``coroutine``; context variables are those of the caller."""
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except BaseException:
            coroutine.close()
            raise

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run ``coroutine`` and give its result.

        A KeyboardInterrupt while waiting cancels it. Raises what it raises, TimeoutError after
        ``timeout_s`` seconds, and RuntimeError on the loop's own thread, which would wait for ever.
        """
        if self.is_current:
            coroutine.close()
            raise RuntimeError("this call would wait for the event loop that it runs on")
        future = self.submit(coroutine)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    def run(self, function: Callable[[], T]) -> T:
        """Call a plain ``function`` on the loop's thread: for what is not safe in others."""
        if self.is_current:
            return function()

        async def on_loop() -> T:
            return function()

        return self.call(on_loop())

    def stop(self) -> None:
        """Cancel what still runs, close the loop and join the thread; may be called twice."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if not self.is_current:
            thread.join(_STOP_TIMEOUT_S)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        asyncio.set_event_loop(None)
        loop.close()


def _call_if_alive(method: weakref.WeakMethod[Any]) -> None:
    call = method()
    if call is not None:
        call()
