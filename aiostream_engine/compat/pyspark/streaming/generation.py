"""Making the RDDs of a batch before any of its outputs runs, as Spark generates jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ....runtime.machine import Batch

__all__ = ["Generation", "NotGeneratedError"]

_BATCHES_MAX = 16


class NotGeneratedError(Exception):
    """An output does not run, since a function that makes RDDs of its batch raised."""


class Generation:
    """Remembers of the last batches which failed to be generated, and with what (rows SCH-7, TR-15).

    make_all: makes the RDDs of all outputs of a batch.
    report: told of each failure once.
    """

    def __init__(
        self,
        make_all: Callable[[Batch], Awaitable[None]],
        report: Callable[[BaseException], None],
    ) -> None:
        self._make_all = make_all
        self._report = report
        self._failures: dict[int, BaseException] = {}
        self._completed: dict[int, None] = {}

    def check(self, time_ms: int) -> None:
        """Raises NotGeneratedError for a batch that failed, so that no function of it is called again."""
        failure = self._failures.get(time_ms)
        if failure is not None:
            raise NotGeneratedError(f"the batch has no outputs: {type(failure).__name__}: {failure}")

    def fail(self, time_ms: int, error: BaseException) -> NotGeneratedError:
        """A function that makes RDDs raised: the batch has no outputs. Gives what to raise."""
        if time_ms not in self._failures:
            _remember(self._failures, time_ms, error)
            self._report(error)
        return NotGeneratedError(f"the batch has no outputs: {type(error).__name__}: {error}")

    async def complete(self, batch: Batch) -> None:
        """Make all RDDs of the batch, if that was not done. Raises NotGeneratedError.

        An error of another kind, such as of a state's function, is left to the output that meets it.
        """
        time_ms = int(batch.time)
        if time_ms not in self._completed:
            _remember(self._completed, time_ms, None)
            try:
                await self._make_all(batch)
            except asyncio.CancelledError:
                raise
            except Exception:
                pass
        self.check(time_ms)


def _remember(entries: dict[int, Any], time_ms: int, value: Any) -> None:
    entries[time_ms] = value
    while len(entries) > _BATCHES_MAX:
        del entries[next(iter(entries))]
