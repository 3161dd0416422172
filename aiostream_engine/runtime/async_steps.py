"""Steps whose functions are coroutines: they run on the host's loop, or on one in a worker."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..blocks.formats import encode_records, read_chunks
from ..clock import Clock
from ..config import RetryPolicy
from ..errors import OptionError, StepError, UnpicklableError
from ..executors.stage import DEAD_LETTERS_MAX, bounded_repr
from ..executors.task import describe
from ..operators.async_calls import RECORDS_PER_ROUND, AsyncCalls, CallFailed, call_in_worker
from ..operators.function import describe_callable, is_coroutine_function
from ..operators.kernels import kernel
from ..operators.structure import PartitionOp
from ..plan.nodes import Node, Source
from ..types import INLINE_BYTES_MAX, BlockRef, DeadLetter, OnError
from .jobs import Materialiser

__all__ = ["AsyncStep", "resolver"]

ON_ERROR = ", ".join(repr(item.value) for item in OnError)

# Decoding or encoding more than this would be felt by other users of the loop.
_LOOP_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class AsyncStep:
    """An asynchronous step: how to call, what to call it in errors, where it runs."""

    name: str
    calls: AsyncCalls
    placement: str = "loop"

    @classmethod
    def of(
        cls,
        kind: str,
        fn: Callable[[Any], Awaitable[Any]],
        *,
        name: str | None = None,
        concurrency: int = 100,
        ordered: bool = True,
        timeout_s: float | None = None,
        retry: RetryPolicy | int | None = None,
        on_error: OnError | str = OnError.FAIL,
        batch_size: int = 100,
        placement: str = "loop",
    ) -> AsyncStep:
        """Check and collect the options of ``map_async`` and its family.

        concurrency: calls under way at the same time, over all partitions.
        ordered: results in the order of records; False gives them as they complete.
        timeout_s: for one try; a try that takes longer counts as failed.
        retry: a policy, or the number of further tries with its default waits.
        on_error: ``fail``, ``skip`` or ``dead-letter``, when no try is left.
        batch_size: records a call of ``map_batches_async``.
        placement: ``loop`` for the host's event loop, where its clients and pools are;
            ``worker`` for a loop in the worker, where the function must be picklable.
        """
        step = name or f"{kind}_async({describe_callable(fn)})"
        if not is_coroutine_function(fn):
            raise OptionError(f"step {step!r} needs an `async def` function, not {describe_callable(fn)}")
        if concurrency < 1 or batch_size < 1:
            raise OptionError(f"step {step!r}: concurrency and batch_size must be at least 1")
        if placement not in ("loop", "worker"):
            raise OptionError(f"step {step!r}: placement is {placement!r}: use 'loop' or 'worker'")
        if timeout_s is not None and not timeout_s > 0:
            raise OptionError(f"step {step!r}: timeout_s is {timeout_s!r}: it must be more than 0")
        policy = RetryPolicy(attempts_max=retry + 1) if isinstance(retry, int) else retry
        if policy is not None and not isinstance(policy, RetryPolicy):
            raise OptionError(f"step {step!r}: retry is {retry!r}: give a RetryPolicy or a number of tries")
        try:
            decision = OnError(on_error)
        except ValueError:
            raise OptionError(f"step {step!r}: on_error is {on_error!r}: use one of {ON_ERROR}") from None
        calls = AsyncCalls(kind, fn, concurrency, ordered, timeout_s, policy, decision, batch_size)
        return cls(step, calls, placement)

    @property
    def gives_dead_letters(self) -> bool:
        """True when failed records go to the dead-letter stream."""
        return self.calls.on_error is OnError.DEAD_LETTER

    def worker_op(self) -> PartitionOp:
        """The step for placement ``worker``."""
        return PartitionOp(self.name, kernel(call_in_worker, self.calls, self.name), "task")


def resolver(step: AsyncStep, clock: Clock) -> Callable[[Materialiser, tuple[Source, ...]], Awaitable[Node]]:
    """How a deferred node runs the step on the loop: blocks in, blocks out."""

    async def resolve(job: Materialiser, parents: tuple[Source, ...]) -> Node:
        return await _OnLoop(step, clock, job).run(parents[0])

    return resolve


class _OnLoop:
    """One run of a step over all partitions of a batch.

    A round takes records of as many partitions as it needs: many small ones cost no more time than
    one large one.
    """

    def __init__(self, step: AsyncStep, clock: Clock, job: Materialiser) -> None:
        self.step = step
        self.clock = clock
        self.job = job
        self._letters: list[DeadLetter] = []
        self._given_up = 0
        self._retried = 0

    async def run(self, source: Source) -> Source:
        parts: list[list[BlockRef]] = [[] for _ in source.parts]
        tried = 0
        async for arguments in self._rounds(source.parts):
            tried += len(arguments)
            for partition, ref in await self._round(arguments):
                parts[partition].append(ref)
        what = "skipped" if self.step.calls.on_error is OnError.SKIP else "dead_lettered"
        counts = {what: self._given_up, "retried": self._retried}
        counters = {f"{kind}:{self.step.name}": count for kind, count in counts.items() if count}
        self.job.count(counters, {self.step.name: tried})
        await self._keep_letters(source.partitions)
        return Source(name=self.step.name, parts=tuple(map(tuple, parts)), partitions=len(parts))

    async def _keep_letters(self, partitions: int) -> None:
        if self._letters:
            parts = ((await self._block(list(self._letters)),), *(((),) * (partitions - 1)))
            name = f"dead-letters:{self.step.name}"
            self.job.add_side(name, Source(name=name, parts=parts, partitions=partitions))

    async def _rounds(self, parts: Sequence[tuple[BlockRef, ...]]) -> AsyncIterator[list[tuple[int, Any]]]:
        """(partition, what to call the function with), so many at a time."""
        arguments: list[tuple[int, Any]] = []
        for partition, part in enumerate(parts):
            async for records in _chunks(part):
                for argument in self.step.calls.arguments(records):
                    arguments.append((partition, argument))
                    if len(arguments) >= RECORDS_PER_ROUND:
                        yield arguments
                        arguments = []
        if arguments:
            yield arguments

    async def _round(self, arguments: list[tuple[int, Any]]) -> list[tuple[int, BlockRef]]:
        """A block of results for each partition that has some."""
        try:
            finished = await self.step.calls.round(
                [argument for _, argument in arguments],
                self._sleep,
                lambda failed: self._give_up(failed, arguments[failed.index][0]),
                self._retry,
            )
        except CallFailed as failed:
            raise self._error(failed, arguments[failed.index][0]) from failed.__cause__
        parts: dict[int, list[Any]] = {}
        for index, records in finished:
            parts.setdefault(arguments[index][0], []).extend(records)
        return [(partition, await self._block(records)) for partition, records in parts.items() if records]

    async def _sleep(self, seconds: float) -> None:
        await self.clock.sleep_until(self.clock.monotonic() + seconds)

    def _retry(self) -> None:
        self._retried += 1

    def _give_up(self, failed: CallFailed, partition: int) -> None:
        self._given_up += 1
        if self.step.gives_dead_letters:
            if len(self._letters) >= DEAD_LETTERS_MAX:
                text = f"over {DEAD_LETTERS_MAX} dead letters in one batch; the last: "
                raise self._error(failed, partition, text)
            failure = describe(failed.__cause__ or failed, self.step.name)
            self._letters.append(
                DeadLetter(
                    self.step.name,
                    self.job.batch,
                    partition,
                    failed.record,
                    failure.error_type,
                    failure.message,
                    failure.traceback,
                    failed.attempts,
                )
            )

    def _error(self, failed: CallFailed, partition: int, before: str = "") -> StepError:
        failure = describe(failed.__cause__ or failed, self.step.name)
        return StepError(
            self.step.name,
            failure.error_type,
            before + failure.message,
            record=bounded_repr(failed.record),
            batch=self.job.batch,
            partition=partition,
            worker_traceback=failure.traceback,
        )

    async def _block(self, records: list[Any]) -> BlockRef:
        try:
            payload = (
                await asyncio.to_thread(encode_records, records)
                if len(records) > 2000
                else encode_records(records)
            )
        except Exception as error:
            raise UnpicklableError(
                f"step {self.step.name!r} gave a result that cannot be pickled: {error}"
            ) from error
        if len(payload) <= INLINE_BYTES_MAX:
            return BlockRef("pickle", payload, records=len(records))
        path, _ = await asyncio.to_thread(self.job.directory.writer.write, [payload])
        ref = BlockRef("pickle", None, path, 0, len(payload), len(records))
        self.job.adopt([ref])
        return ref


async def _chunks(part: tuple[BlockRef, ...]) -> AsyncIterator[list[Any]]:
    for ref in part:
        if ref.size > _LOOP_BYTES_MAX:
            yield await asyncio.to_thread(_read, ref)
        else:
            yield _read(ref)


def _read(ref: BlockRef) -> list[Any]:
    return list(itertools.chain.from_iterable(read_chunks(ref)))
