"""Receivers that users write: an async generator, or a class with ``async def run(output)`` (row SRC-19)."""

from __future__ import annotations

import abc
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from ..config import QueueLimits, RetryPolicy
from ..errors import OptionError
from ..types import BlockRef
from .base import ReceiverSource
from .object_source import ObjectSource

__all__ = ["CustomReceiverSource", "Receiver", "ReceiverOutput"]

# Called when the engine owns a block and before the receiver hears of it: where a log is written.
BlockHook = Callable[[BlockRef], Awaitable[None]]


class ReceiverOutput:
    """What a receiver writes to; belongs to one source and one event loop."""

    def __init__(self, source: CustomReceiverSource) -> None:
        self._source = source

    async def store(self, item: Any) -> None:
        """Hand over one record, without acknowledgement (row RCV-2).

        Waits while the source's queue is full or its rate is used up. Raises UnpicklableError.
        """
        await self._source.store(item)

    def store_nowait(self, item: Any) -> None:
        """Hand over one record at once; raises asyncio.QueueFull when it would have to wait."""
        self._source.store_nowait(item)

    async def store_block(self, items: Iterable[Any]) -> None:
        """Hand over records as one block; returns when the engine owns it (row RCV-3).

        A reliable receiver acknowledges to its outside after that. The block counts against rate
        and queue as single records do. Raises UnpicklableError naming the record; then, and when
        it is cancelled, nothing of the block was taken or all of it: do not acknowledge.
        """
        await self._source.store_owned_block(items)

    def report_error(self, error: BaseException) -> None:
        """Show an error in the statistics and to listeners, and go on (row RCV-8)."""
        self._source.report_error(error)


class Receiver(abc.ABC):
    """A receiver as a class; the same object runs again after a failure."""

    @abc.abstractmethod
    async def run(self, output: ReceiverOutput) -> None:
        """Receive until the end. Returning finishes the source, raising restarts it, stopping cancels it."""


class CustomReceiverSource(ObjectSource, ReceiverSource):
    """Runs a user's receiver as a task of the loop.

    Records of one receiver keep their order; they are pickled when a block is ended. A failure
    runs the receiver again by the retry policy; other sources go on. Its end finishes the source.

    Parameters
    ----------
    receiver: an async generator function without parameters (it is called once a life, and its
        records are stored one by one), or a :class:`Receiver`.
    name: shown everywhere; by default that of the function or class.
    retry: back-off and budget of restarts; by default 5 tries, from 0.1 s to 30 s.
    limits: bounds of the queue, by default those of the context.
    stop_timeout_s: how long the receiver may take to end after its cancellation.
    on_block: awaited for each block of ``store_block`` before that returns.

    Raises OptionError when ``receiver`` is neither.
    """

    def __init__(
        self,
        receiver: Receiver | Callable[[], AsyncIterator[Any]],
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        limits: QueueLimits | None = None,
        stop_timeout_s: float = 5.0,
        on_block: BlockHook | None = None,
    ) -> None:
        super().__init__(
            name or f"receiver {_name_of(receiver)}",
            retry=retry,
            limits=limits,
            stop_timeout_s=stop_timeout_s,
        )
        self._receiver = receiver
        self.on_block = on_block

    async def receive(self) -> None:
        output = ReceiverOutput(self)
        if isinstance(self._receiver, Receiver):
            await self._receiver.run(output)
            return
        items = self._receiver()
        if not hasattr(items, "__aiter__"):
            raise OptionError(
                f"{self.name} gave a {type(items).__name__}: it must be an async generator function"
            )
        async with _closing(items):
            async for item in items:
                await self.store(item)

    async def store_owned_block(self, items: Iterable[Any]) -> None:
        """Take a block, and tell the hook of it."""
        ref = await self.store_block(items)
        if ref is not None and self.on_block is not None:
            await self.on_block(ref)

    def report_error(self, error: BaseException) -> None:
        """Show an error in the statistics and go on."""
        self._note_error(error)


@asynccontextmanager
async def _closing(items: AsyncIterator[Any]) -> AsyncIterator[None]:
    """Close a generator at the end of its life, so that its ``finally`` runs then; others have no close."""
    try:
        yield
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


def _name_of(receiver: object) -> str:
    if isinstance(receiver, Receiver):
        return type(receiver).__name__
    if inspect.isasyncgen(receiver):
        raise OptionError("receiver is a running generator: give the function, so that it can run again")
    if inspect.isclass(receiver):
        raise OptionError(f"receiver is the class {receiver.__name__}: give an object of it")
    is_wrong = inspect.iscoroutinefunction(receiver) or inspect.isgeneratorfunction(receiver)
    if not callable(receiver) or is_wrong:
        raise OptionError(f"receiver is {receiver!r}: give an async generator function or a Receiver")
    return str(getattr(receiver, "__name__", type(receiver).__name__))
