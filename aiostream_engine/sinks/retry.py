"""Patience around any sink: a deadline for each write, and repetition under the same key."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..clock import Clock, SystemClock
from ..config import RetryPolicy
from ..errors import ConfigurationError, InternalError, OptionError, SinkError, UserCodeError
from ..observe.logs import get_logger
from ..types import BatchTime
from .base import (
    CommitPointSink,
    IdempotentSink,
    PartialWriteError,
    PlainSink,
    Records,
    Sink,
    SinkContext,
    TransactionalSink,
    WriteKey,
)

__all__ = ["Refused", "RetryStatistics", "retrying"]

# Gets the sink's name, a record that the outside will never take, and why.
Refused = Callable[[str, Any, BaseException | str], object]

# Trying again cannot help: the program is wrong, not the world.
FATAL = (ConfigurationError, UserCodeError, InternalError, TypeError)
CANCEL_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class RetryStatistics:
    """Figures of a retrying sink since it was made.

    failing_since: monotonic seconds, or None. refused: records that the outside will never take.
    """

    writes: int = 0
    attempts_failed: int = 0
    timeouts: int = 0
    gave_up: int = 0
    failing_since: float | None = None
    refused: int = 0


class _Replay:
    """Records that can be read from the start again: chunks already drawn are kept for the next try.

    A try that is cancelled while it waits for a chunk must not cancel the one source of chunks,
    hence the draw is a task of its own, which the next try picks up.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._chunks: list[Sequence[Any]] = []
        self._draw: asyncio.Task[Sequence[Any] | None] | None = None
        self._ended = False
        self.failure: Exception | None = None

    async def read(self) -> AsyncIterator[Sequence[Any]]:
        """One pass over all chunks."""
        position = 0
        while True:
            if position == len(self._chunks) and not await self._more():
                return
            yield self._chunks[position]
            position += 1

    async def _more(self) -> bool:
        if self._ended:
            return False
        if self._draw is None:
            self._draw = asyncio.ensure_future(self._next())
        chunk = await asyncio.shield(self._draw)
        self._draw = None
        if chunk is None:
            self._ended = True
            return False
        self._chunks.append(chunk)
        return True

    async def _next(self) -> Sequence[Any] | None:
        try:
            return await anext(self._records)
        except StopAsyncIteration:
            return None
        except Exception as exc:
            self.failure = exc
            raise

    async def keep_only(self, records: Sequence[Any]) -> None:
        """From now on give these alone: the outside has the others."""
        if self._draw is not None:
            await _cancel(self._draw)
            self._draw = None
        self._chunks = [records] if records else []
        self._ended = True

    async def aclose(self) -> None:
        """Stop a draw under way, and let go of the chunks."""
        self._chunks.clear()
        if self._draw is not None:
            await _cancel(self._draw)


async def _cancel(task: asyncio.Future[Any]) -> bool:
    """Cancel a task and wait a little; False when it does not heed."""
    task.cancel()
    await asyncio.wait({task}, timeout=CANCEL_GRACE_S)
    if not task.done():
        return False
    if not task.cancelled():
        task.exception()  # seen
    return True


class _Attempts:
    """Repeats one call by the policy; shared by the three kinds of retrying sink."""

    def __init__(
        self,
        sink: Sink,
        policy: RetryPolicy,
        timeout_s: float | None,
        clock: Clock,
        rng: random.Random,
        on_refused: Refused | None = None,
    ) -> None:
        self.on_refused = on_refused
        self.sink = sink
        self.policy = policy
        self.timeout_s = timeout_s
        self.clock = clock
        self.rng = rng
        self._log = get_logger("aiostream_engine.sinks")
        self.writes = self.failed = self.timeouts = self.gave_up = self.refused = 0
        self.failing_since: float | None = None

    async def run(self, call: Callable[[], Awaitable[Any]], where: str, replay: _Replay | None = None) -> Any:
        """Result of the first try that succeeds. Raises SinkError, or at once what no try can help."""
        attempts = 0
        stuck: asyncio.Future[Any] | None = None
        while True:
            attempts += 1
            try:
                stuck, result = await self._try(call, stuck)
            except Exception as exc:
                if isinstance(exc, FATAL) or (replay is not None and replay.failure is exc):
                    raise
                if (
                    isinstance(exc, PartialWriteError)
                    and replay is not None
                    and not isinstance(self.sink, TransactionalSink)
                ):
                    await self._reduce(exc, replay, where)
                    if not exc.failed:
                        return None
                cause: Exception = exc
            else:
                if stuck is None:
                    self.failing_since = None
                    return result
                cause = TimeoutError(f"no answer in {self.timeout_s} s, and it does not heed cancellation")
                self.timeouts += 1
            await self._after_failure(cause, attempts, where)

    async def _try(
        self, call: Callable[[], Awaitable[Any]], stuck: asyncio.Future[Any] | None
    ) -> tuple[asyncio.Future[Any] | None, Any]:
        """One try within the deadline: (None, result), or (the try that cannot be ended, None).

        While a try that ignores its cancellation lives, no other is begun beside it.
        """
        if stuck is not None:
            await asyncio.wait({stuck}, timeout=self.timeout_s)
            if not stuck.done():
                return stuck, None
        task = asyncio.ensure_future(call())
        try:
            await asyncio.wait({task}, timeout=self.timeout_s)
        except asyncio.CancelledError:
            await _cancel(task)
            raise
        if task.done():
            if task.cancelled():
                raise SinkError("the sink cancelled its own write")
            return None, task.result()
        if not await _cancel(task):
            return task, None
        if not task.cancelled() and task.exception() is None:
            return None, task.result()  # it finished in the moment of its deadline
        self.timeouts += 1
        raise TimeoutError(f"no answer in {self.timeout_s} s")

    async def _reduce(self, error: PartialWriteError, replay: _Replay, where: str) -> None:
        """Leave only what is worth another try; tell of what is not."""
        for record, why in error.refused:
            if self.on_refused is None:
                raise SinkError(
                    f"sink {self.sink.name!r}: the outside will never take a record of {where}: {why}"
                ) from error
            self.on_refused(self.sink.name, record, why)
        self.refused += len(error.refused)
        await replay.keep_only(error.failed)

    async def _after_failure(self, cause: Exception, attempts: int, where: str) -> None:
        self.failed += 1
        now = self.clock.monotonic()
        if self.failing_since is None:
            self.failing_since = now
        reason = f"{type(cause).__name__}: {cause}"
        if self.policy.exhausted(attempts):
            self.gave_up += 1
            raise SinkError(
                f"sink {self.sink.name!r} failed on {where} after {attempts} tries: {reason}"
            ) from cause
        self._log.limited(
            f"retry:{self.sink.name}",
            logging.WARNING,
            "sink write failed, trying again",
            sink=self.sink.name,
            where=where,
            attempt=attempts,
            error=reason,
        )
        await self.clock.sleep_until(now + self.policy.wait_before(attempts, self.rng.random()))

    def statistics(self) -> RetryStatistics:
        return RetryStatistics(
            self.writes, self.failed, self.timeouts, self.gave_up, self.failing_since, self.refused
        )


def _where(key: WriteKey) -> str:
    return f"batch {key.batch_id} ({key.time}), partition {key.partition} of {key.partitions}"


class _Retrying(Sink):
    """What the three kinds have in common."""

    def __init__(self, attempts: _Attempts) -> None:
        self._attempts = attempts
        self._inner = attempts.sink
        self.name = attempts.sink.name
        self.concurrency_max = attempts.sink.concurrency_max

    async def open(self, context: SinkContext) -> None:
        await self._attempts.run(lambda: self._inner.open(context), "open")

    async def aclose(self) -> None:
        await self._inner.aclose()

    def statistics(self) -> RetryStatistics:
        """Figures since it was made."""
        return self._attempts.statistics()

    async def _write(
        self, method: Callable[[WriteKey, Records], Awaitable[Any]], key: WriteKey, records: Records
    ) -> Any:
        self._attempts.writes += 1
        replay = _Replay(records)
        try:
            return await self._attempts.run(lambda: method(key, replay.read()), _where(key), replay)
        finally:
            await replay.aclose()


class _RetryingPlain(_Retrying, PlainSink):
    async def write(self, key: WriteKey, records: Records) -> None:
        assert isinstance(self._inner, PlainSink)
        await self._write(self._inner.write, key, records)


class _RetryingIdempotent(_Retrying, IdempotentSink):
    async def write(self, key: WriteKey, records: Records) -> None:
        assert isinstance(self._inner, IdempotentSink)
        await self._write(self._inner.write, key, records)


class _RetryingTransactional(_Retrying, TransactionalSink):
    async def stage(self, key: WriteKey, records: Records) -> Any:
        assert isinstance(self._inner, TransactionalSink)
        return await self._write(self._inner.stage, key, records)

    async def commit(self, batch_id: int, time: BatchTime, tokens: Sequence[Any]) -> None:
        assert isinstance(self._inner, TransactionalSink)
        inner = self._inner
        await self._attempts.run(lambda: inner.commit(batch_id, time, tokens), f"commit of batch {batch_id}")

    async def abort(self, batch_id: int, tokens: Sequence[Any]) -> None:
        assert isinstance(self._inner, TransactionalSink)
        inner = self._inner
        await self._attempts.run(lambda: inner.abort(batch_id, tokens), f"abort of batch {batch_id}")


_KINDS = (
    (TransactionalSink, _RetryingTransactional),
    (IdempotentSink, _RetryingIdempotent),
    (PlainSink, _RetryingPlain),
)


def retrying(
    sink: Sink,
    policy: RetryPolicy | None = None,
    *,
    timeout_s: float | None = 30.0,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    on_refused: Refused | None = None,
) -> _Retrying:
    """The same sink with patience: of the same kind, so the guarantee of a pair does not change.

    policy: how often and how long to try; ``attempts_max=None`` waits for the outside for ever,
        and the stream waits with it: its queues fill and its sources are not read.
    timeout_s: seconds that one try may take, None for no limit. A try past it is cancelled; one
        that ignores that is abandoned, and no other is begun beside it.
    on_refused: called as ``(sink name, record, reason)`` for a record that the outside will never take;
        without it such a record fails the write.

    A write that raises :class:`~.base.PartialWriteError` is tried again with the records that failed,
    and no others (scenario F5).
    Every try carries the same :class:`~.base.WriteKey`: after an unknown outcome (the outside
    may have taken the write before the connection died) an idempotent sink still counts it once;
    a plain one may write it twice. Chunks already read are kept until the write is over, so a
    try costs at most the memory of its partition. Raises SinkError naming sink, batch and
    partition when the tries are used up; errors of the program itself, and of the records'
    origin, are raised at once. A cancelled write cancels its try.
    """
    if timeout_s is not None and not timeout_s > 0:
        raise OptionError(f"timeout_s is {timeout_s!r}: it must be above 0, or None for no limit")
    if isinstance(sink, CommitPointSink):
        raise OptionError(
            f"sink {sink.name!r} decides about batches and tries again by itself: a second try from outside "
            "could not know how the first one ended"
        )
    attempts = _Attempts(
        sink, policy or RetryPolicy(), timeout_s, clock or SystemClock(), rng or random.Random(), on_refused
    )
    for kind, wrapper in _KINDS:
        if isinstance(sink, kind):
            return wrapper(attempts)
    raise OptionError(f"{sink!r} is no plain, idempotent or transactional sink")
