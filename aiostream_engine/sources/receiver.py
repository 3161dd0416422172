"""What all receivers share: a bounded queue, supervision, rate control, draining, statistics.

A receiver is one asyncio task, so it takes no core and no worker slot (unlike rows CTX-2 and
RCV-13 of the original model). It appends whole records to an open block; a batch takes the
blocks that are there. Reading stops while the queue is full or the rate is used up: a sender is
pushed back, nothing is dropped.
"""

from __future__ import annotations

import abc
import asyncio
import logging
from collections import Counter
from typing import Any

from ..blocks.arena import Arena
from ..config import QueueLimits, RetryPolicy
from ..errors import AiostreamError, EnvironmentFault, LifecycleError, SourceError
from ..observe.events import ReceiverInfo
from ..observe.logs import RateLimiter, StructuredLogger
from ..types import BatchTime, BlockRef
from .base import BatchInput, Source, SourceContext
from .block_queue import BlockQueue
from .open_block import OpenBlock
from .rate_limit import TokenBucket

__all__ = ["SupervisedSource", "cancel_and_wait"]

_log = logging.getLogger(__name__)


class ReceiverLifeError(RuntimeError):
    """A receiver ended in a way that is meant for whole programs or for tasks."""


class SupervisedSource(Source):
    """The common base: subclasses say how to open a block and how to receive once.

    A failure of :meth:`receive` restarts it after a back-off that grows, with jitter, by
    ``retry``; a life that received something starts the count anew. When the policy is used up,
    :meth:`cut` first hands over what was received, then raises SourceError. Other sources are
    not touched. A return of :meth:`receive` finishes the source.

    Parameters
    ----------
    name: shown everywhere; the stream id is added at start (row SRC-23).
    retry: back-off and budget of restarts.
    limits: bounds of this source's queue, by default those of the context.
    stop_timeout_s: how long a receiver may take to end after it was cancelled; it is abandoned then.
    """

    announces_start = False  # a subclass that calls _started() itself, when it is connected

    def __init__(
        self,
        name: str,
        *,
        retry: RetryPolicy | None = None,
        limits: QueueLimits | None = None,
        stop_timeout_s: float = 5.0,
    ) -> None:
        self.name = name
        self.retry = retry or RetryPolicy()
        self.stop_timeout_s = stop_timeout_s
        self.counters: Counter[str] = Counter()
        self._limited_log = StructuredLogger(_log, RateLimiter())
        self._own_limits = limits
        self._context: SourceContext | None = None
        self._task: asyncio.Task[None] | None = None
        self._repay_task: asyncio.Task[None] | None = None
        self._rate: float | None = None
        self._failure: BaseException | None = None
        self._attempts = 0
        self._progressed = False
        self._active = False
        self._ended = False
        self._stopping = False
        self._restarts = 0
        self._records_total = 0
        self._bytes_total = 0
        self._last_error: str | None = None
        self._last_error_ms: int | None = None

    # -- for subclasses to define ------------------------------------------------------------

    @abc.abstractmethod
    def _open_block(self, arena: Arena) -> OpenBlock:
        """Make the block that :meth:`receive` fills."""

    @abc.abstractmethod
    async def receive(self) -> None:
        """One life: take records until the end (return) or a failure (raise)."""

    async def _prepare(self) -> None:
        """Called by :meth:`start` before the first life, such as for binding a port."""

    def _pause_reading(self) -> None:
        """The gate has closed: for subclasses that are pushed data."""

    def _resume_reading(self) -> None:
        """The gate is open again."""

    def _release(self) -> None:
        """Called by :meth:`stop` when the task is over: free what the lives shared."""

    # -- the contract of a source ------------------------------------------------------------

    async def start(self, context: SourceContext) -> None:
        if self._context is not None:
            raise LifecycleError(f"{self.name} was started before: make a new source for a new context")
        self._context = context
        self.name = f"{self.name}[{context.stream_id}]"
        self.limits = self._own_limits or context.limits
        self._arena = Arena(context.directory, f"s{context.stream_id}")
        self._block = self._open_block(self._arena)
        self._queue = BlockQueue(self.limits, self._block)
        self._bucket = TokenBucket(self._rate, context.clock.monotonic())
        self._gate = asyncio.Event()
        self._gate.set()
        await self._prepare()
        self._task = asyncio.create_task(self._supervise(), name=self.name)

    async def cut(self, time: BatchTime) -> BatchInput:
        self._seal()
        blocks = self._queue.take()
        if not blocks and self._failure is not None:
            raise self._failure_to_raise()
        self._update_gate()
        return BatchInput(
            blocks,
            records=sum(ref.records for ref in blocks),
            bytes=sum(ref.size for ref in blocks),
            metadata=dict(self.counters),
        )

    async def stop(self) -> None:
        self._stopping = True
        if self._context is None:
            return
        self._pause_reading()
        await self._end_task()
        self._release()
        self._seal()
        self._gate.set()  # whoever waits to store is let go, and told
        if self._active:
            self._active = False
            self._context.on_stopped(self.info())

    async def aclose(self) -> None:
        await self.stop()
        if self._context is not None:
            self._context.directory.ledger.release(self._queue.take())
            self._block.discard()
            self._arena.discard()

    @property
    def finished(self) -> bool:
        return (self._ended or self._stopping) and not self.pending

    @property
    def pending(self) -> bool:
        if self._context is None:
            return False
        return not self._queue.empty or self._failure is not None

    def info(self) -> ReceiverInfo:
        started = self._context is not None
        return ReceiverInfo(
            stream_id=self._context.stream_id if self._context is not None else -1,
            name=self.name,
            active=self._active,
            restarts=self._restarts,
            last_error=self._last_error,
            last_error_ms=self._last_error_ms,
            queue_records=self._queue.records if started else 0,
            queue_bytes=self._queue.bytes if started else 0,
            queue_fill=self._queue.fill if started else 0.0,
            rate_limit=self._rate,
            records_total=self._records_total,
            bytes_total=self._bytes_total,
            records_dropped=self.counters["records_dropped"],
        )

    def set_rate(self, rate: float | None) -> None:
        """Take at most ``rate`` records a second from now on, None for no limit. Raises OptionError."""
        if self._context is None:
            TokenBucket(rate)  # checks it
            self._rate = rate
            return
        self._bucket.set_rate(rate, self._context.clock.monotonic())
        self._rate = rate
        self._forget_repayment()
        self._update_gate()

    # -- supervision -------------------------------------------------------------------------

    @property
    def context(self) -> SourceContext:
        """What the runtime handed over at start; raises LifecycleError before."""
        if self._context is None:
            raise LifecycleError(f"{self.name} is not started")
        return self._context

    async def _supervise(self) -> None:
        context = self.context
        while not self._ended:
            self._progressed = False
            if not self.announces_start:
                self._started()
            try:
                await self._receive_or_raise()
                self._ended = True
            except Exception as error:
                self._attempts = 1 if self._progressed else self._attempts + 1
                self._note_error(error)
                if self._is_final(error):
                    self._failure = error
                    break
                wait = self.retry.wait_before(self._attempts, context.random.random())
                await context.clock.sleep_until(context.clock.monotonic() + wait)
                self._restarts += 1
        self._active = False
        context.on_stopped(self.info())
        context.notify()

    async def _receive_or_raise(self) -> None:
        """One life, in which what would end more than this receiver is an ordinary failure."""
        try:
            await self.receive()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Something that it awaited was cancelled; taken as its own it would die unnoticed.
            raise ReceiverLifeError("the receiver's own code raised CancelledError") from None
        except SystemExit as error:
            raise ReceiverLifeError(f"the receiver called sys.exit({error.code!r})") from error

    def _is_final(self, error: Exception) -> bool:
        # What the program itself did wrong does not get better by trying again.
        is_own = isinstance(error, AiostreamError) and not isinstance(error, EnvironmentFault)
        return self._failure is not None or is_own or self.retry.exhausted(self._attempts)

    def _failure_to_raise(self) -> BaseException:
        error = self._failure
        if isinstance(error, AiostreamError):
            return error
        failure = SourceError(
            f"{self.name} gave up after {self._attempts} failed attempts: {self._last_error}"
        )
        failure.__cause__ = error
        return failure

    def _started(self) -> None:
        self._active = True
        self.context.on_started(self.info())

    def _note_error(self, error: BaseException) -> None:
        """Show an error in the statistics and report it; the receiver may go on (row RCV-8)."""
        self._last_error = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        self._last_error_ms = int(self.context.clock.time() * 1000)
        self.counters["errors"] += 1
        self._limited_log.limited(
            "error", logging.WARNING, "receiver error", receiver=self.name, error=self._last_error
        )
        self.context.on_error(self.info())

    async def _end_task(self) -> None:
        self._forget_repayment()
        task = self._task
        if task is None or task.done():
            return
        task.cancel()
        _, running = await asyncio.wait({task}, timeout=self.stop_timeout_s)
        if running:
            _log.warning("%s did not end within %s s after it was cancelled", self.name, self.stop_timeout_s)
            self._note_error(TimeoutError(f"did not end within {self.stop_timeout_s} s of its stop"))
            self._task = None
        elif not task.cancelled() and (error := task.exception()) is not None:
            self._note_error(error)

    # -- admission ---------------------------------------------------------------------------

    def _admitted(self, records: int, size: int) -> None:
        """Count records that were just added, and close the gate if it was the last that fits."""
        self._progressed = True
        self._records_total += records
        self._bytes_total += size
        self._bucket.spend(records, self.context.clock.monotonic())
        self._update_gate()
        self.context.notify()

    def _enqueue(self, ref: BlockRef) -> None:
        self._queue.put(ref)
        self._admitted(max(0, ref.records), ref.size)

    def _seal(self) -> None:
        """End the open block; a record in it that cannot be pickled becomes the failure of the source."""
        try:
            self._queue.seal()
        except AiostreamError as error:
            if self._failure is None:
                self._failure = error
                self._note_error(error)

    def _update_gate(self) -> None:
        full = self._queue.full
        wait = self._bucket.wait_s(self.context.clock.monotonic())
        if not full and wait <= 0:
            if not self._gate.is_set():
                self._gate.set()
                if not self._stopping:
                    self._resume_reading()
            return
        if self._gate.is_set():
            self._gate.clear()
            self._pause_reading()
        if not full and self._repay_task is None and not self._stopping:
            self._repay_task = asyncio.create_task(self._repay(), name=f"{self.name} rate limit")

    async def _repay(self) -> None:
        """Open the gate when the rate allows it."""
        clock = self.context.clock
        while (wait := self._bucket.wait_s(clock.monotonic())) > 0:
            await clock.sleep_until(clock.monotonic() + wait)
        self._repay_task = None
        self._update_gate()

    def _forget_repayment(self) -> None:
        if self._repay_task is not None:
            self._repay_task.cancel()
            self._repay_task = None


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks of one's own and wait for their end, whatever they raise."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not report it
