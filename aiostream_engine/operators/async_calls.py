"""Await a user's coroutine function over many records, with every kind of bound.

Imports asyncio, so nothing that all workers import may import this module; a stage that runs an
asynchronous step in a worker loads it when it is unpickled.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from ..config import RetryPolicy
from ..types import OnError

__all__ = ["AsyncCalls", "CallFailed", "call_in_worker"]

# Results are handed on after so many records: bounds memory, costs one latency a round.
RECORDS_PER_ROUND = 10_000


def _nothing() -> None:
    """Nobody asks."""


class CallFailed(Exception):
    """A record on which the function failed for good; the cause is what it raised last.

    index: of the record in its round.
    """

    def __init__(self, record: Any, attempts: int, index: int) -> None:
        super().__init__(record, attempts, index)
        self.record = record
        self.attempts = attempts
        self.index = index


@dataclass(frozen=True, slots=True)
class AsyncCalls:
    """How to call: plain values, picklable.

    kind: ``map``, ``flat_map``, ``filter``, ``foreach`` or ``map_batches``.
    concurrency: calls under way at the same time. ordered: results in the order of records.
    timeout_s: for one try. retry: None tries once. batch_size: records a call of ``map_batches``.
    """

    kind: str
    fn: Callable[[Any], Awaitable[Any]]
    concurrency: int = 100
    ordered: bool = True
    timeout_s: float | None = None
    retry: RetryPolicy | None = None
    on_error: OnError = OnError.FAIL
    batch_size: int = 100

    def arguments(self, records: Iterable[Any]) -> Iterator[Any]:
        """What the function is called with, one after the other."""
        if self.kind != "map_batches":
            return iter(records)
        iterator = iter(records)
        return iter(lambda: list(itertools.islice(iterator, self.batch_size)), [])

    async def round(
        self,
        arguments: Sequence[Any],
        sleep: Callable[[float], Awaitable[Any]],
        on_failed: Callable[[CallFailed], None],
        on_retry: Callable[[], None] = _nothing,
    ) -> list[tuple[int, Sequence[Any]]]:
        """One round of calls: (index of the argument, its records), in order or as completed.

        The first failure that is not skipped cancels the rest.
        on_failed: is told of each record that was given up under ``skip`` or ``dead-letter``, in the
            same order, at the end of the round. on_retry: of each further try.
        """
        finished: list[tuple[int, Sequence[Any]]] = []
        given_up: list[CallFailed] = []
        waiting = iter(range(len(arguments)))

        async def caller() -> None:
            for index in waiting:
                try:
                    records = await self._call(arguments[index], index, sleep, on_retry)
                except CallFailed as failed:
                    if self.on_error is OnError.FAIL:
                        raise
                    given_up.append(failed)
                    continue
                finished.append((index, records))

        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.concurrency, len(arguments))):
                    group.create_task(caller())
        except BaseExceptionGroup as failures:
            failure = _first_failure(failures)
        if failure is not None:
            raise failure  # out here, where it keeps its cause: what the user's function raised
        if self.ordered:
            finished.sort(key=_index_of)
            given_up.sort(key=attrgetter("index"))
        for failed in given_up:
            on_failed(failed)
        return finished

    async def _call(
        self,
        argument: Any,
        index: int,
        sleep: Callable[[float], Awaitable[Any]],
        on_retry: Callable[[], None],
    ) -> Sequence[Any]:
        attempt = 0
        while True:
            attempt += 1
            try:
                if self.timeout_s is None:
                    return self._records(argument, await self.fn(argument))
                async with asyncio.timeout(self.timeout_s):
                    result = await self.fn(argument)
                return self._records(argument, result)
            except (Exception, asyncio.CancelledError) as error:
                if _is_asked_for(error):
                    raise
                if self.retry is None or self.retry.exhausted(attempt):
                    raise CallFailed(argument, attempt, index) from error
                on_retry()
                await sleep(self.retry.wait_before(attempt))

    def _records(self, argument: Any, result: Any) -> Sequence[Any]:
        match self.kind:
            case "map":
                return (result,)
            case "filter":
                return (argument,) if result else ()
            case "foreach":
                return ()
        return list(result)


def _index_of(finished: tuple[int, Sequence[Any]]) -> int:
    return finished[0]


def _is_asked_for(error: BaseException) -> bool:
    """True for a cancellation of the call; False for one of something that the user's code awaited."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _first_failure(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def call_in_worker(calls: AsyncCalls, step: str, runtime: Any, records: Iterable[Any]) -> Iterator[Any]:
    """The asynchronous step in a worker process: a loop of its own for the length of the task."""
    arguments = calls.arguments(records)

    def give_up(failed: CallFailed) -> None:
        runtime.give_up(step, calls.on_error, failed.record, failed.__cause__ or failed, failed.attempts)

    def retried() -> None:
        runtime.count_retried(step)

    with asyncio.Runner() as runner:
        while part := list(itertools.islice(arguments, RECORDS_PER_ROUND)):
            runtime.count_tried(step, len(part))
            runtime.note_many(step, part)
            try:
                for _, results in runner.run(calls.round(part, asyncio.sleep, give_up, retried)):
                    yield from results
            except CallFailed as failed:
                runtime.fail(step, failed.record, failed.__cause__ or failed)
