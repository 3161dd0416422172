"""Blocking calls of one source in one thread of its own, which cannot hold up the end of the program.

The threads of ``asyncio.to_thread`` are joined when the loop closes, so that one hanging network
file system would hang the interpreter; a daemon thread is left behind instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["DaemonThread"]

T = TypeVar("T")
_Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class DaemonThread:
    """Runs one call after the other; started with the first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Queue ``call``; gives a future of the running loop. Cancelling that drops the result only."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((call, future))
        if self._thread is None:
            self._thread = threading.Thread(target=_work, args=(self._jobs,), name=self._name, daemon=True)
            self._thread.start()
        return future

    def close(self) -> None:
        """End the thread after the call it is in; does not wait."""
        self._jobs.put(None)
        self._thread = None


def _work(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        call, future = job
        result: Any = None
        failure: BaseException | None = None
        try:
            result = call()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            future.get_loop().call_soon_threadsafe(_resolve, future, result, failure)
        del job, call, future, result, failure


def _resolve(future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    if future.done():
        return
    if isinstance(failure, StopIteration):  # a future cannot carry it
        failure = RuntimeError("StopIteration was raised in a thread")
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(result)
