"""One stream under a command, from start to exit code."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import traceback
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import AiostreamError
from ..observe.logs import neutralise
from ..observe.redaction import redact
from ..types import ContextState
from .exit_code import ExitCode
from .signals import StopSignals

if TYPE_CHECKING:
    from ..context import StreamingContext
    from ..observe.terminal import TerminalView

__all__ = ["Outcome", "Session", "say", "say_failure"]

FORCED_STOP_S = 5.0


def say(text: str) -> None:
    """Write a line for the user on standard error."""
    with contextlib.suppress(OSError, ValueError):  # a closed terminal is no reason to fail
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def say_failure(exc: BaseException) -> None:
    """Say why it failed: the text of our errors, a traceback of others; secrets masked."""
    if isinstance(exc, AiostreamError):
        text = f"{type(exc).__name__}: {exc}"
    else:
        text = "".join(traceback.format_exception(exc)).rstrip()
    for line in redact(text).splitlines():
        say(neutralise(line))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended; ``text`` says it in words."""

    code: ExitCode
    text: str


class _ForcedStop(Exception):
    """The second signal came."""


class Session:
    """Starts a context, waits for what ends it, and stops it within its deadlines.

    duration_s: drain after so many seconds, None to go on.
    drain_timeout_s: how long a drain may take before it is cut short.
    """

    def __init__(
        self,
        ssc: StreamingContext,
        signals: StopSignals,
        *,
        duration_s: float | None = None,
        drain_timeout_s: float = 30.0,
        view: TerminalView | None = None,
    ) -> None:
        self._ssc = ssc
        self._signals = signals
        self._duration_s = duration_s
        self._drain_timeout_s = drain_timeout_s
        self._view = view

    async def run(self) -> Outcome:
        """The whole life of the stream; failures are said on standard error and not raised."""
        async with self._shown():
            try:
                outcome = await self._run()
            except _ForcedStop:
                await self._force()
                outcome = Outcome(ExitCode.FORCED, "stopped by force")
            except Exception as exc:
                await self._force()
                say_failure(exc)
                outcome = Outcome(ExitCode.FAILED, f"failed: {type(exc).__name__}")
        if self._view is not None:
            self._view.summary(outcome=outcome.text)
        return outcome

    @contextlib.asynccontextmanager
    async def _shown(self) -> AsyncIterator[None]:
        if self._view is None:
            yield
            return
        task = asyncio.create_task(self._view.run(), name="terminal-view")
        try:
            yield
        finally:
            self._view.set_hint("")
            task.cancel()
            await asyncio.wait({task}, timeout=FORCED_STOP_S)

    async def _run(self) -> Outcome:
        if self._ssc.state is ContextState.INITIALIZED:
            await self._unless_forced(self._ssc.start())
        ending = asyncio.ensure_future(self._ssc.await_termination())
        try:
            await self._until_asked(ending)
            if ending.done():
                ending.result()  # raises what the stream failed of
                return Outcome(ExitCode.OK, "the stream ended")
            return await self._drain(ending)
        finally:
            ending.cancel()
            await asyncio.wait({ending}, timeout=FORCED_STOP_S)
            if ending.done() and not ending.cancelled():
                ending.exception()  # said already, or overtaken by a stop

    async def _until_asked(self, ending: asyncio.Future[Any]) -> None:
        """Return when the stream ended, a signal came or the time is over."""
        asked = asyncio.ensure_future(self._signals.drain.wait())
        try:
            await asyncio.wait({ending, asked}, timeout=self._duration_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()

    async def _drain(self, ending: asyncio.Future[Any]) -> Outcome:
        reason = "drained" if self._signals.drain.is_set() else f"drained after {self._duration_s:g} s"
        limit_s = self._drain_timeout_s
        try:
            # The context keeps the deadline itself; ours is for one that does not.
            async with asyncio.timeout(limit_s + FORCED_STOP_S):
                drained = await self._unless_forced(self._ssc.stop(graceful=True, timeout_s=limit_s))
        except TimeoutError:
            drained = False
        await asyncio.wait({ending}, timeout=FORCED_STOP_S)
        if ending.done():
            ending.result()
        if not drained:
            await self._force()
            return Outcome(ExitCode.FORCED, f"not drained within {limit_s:g} s, stopped")
        return Outcome(ExitCode.OK, reason)

    async def _unless_forced(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What ``work`` gives; raises _ForcedStop, and cancels it, when the second signal comes first."""
        task = asyncio.ensure_future(work)
        forced = asyncio.ensure_future(self._signals.force.wait())
        try:
            await asyncio.wait({task, forced}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise _ForcedStop
            return task.result()
        finally:
            forced.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=FORCED_STOP_S)

    async def _force(self) -> None:
        with contextlib.suppress(Exception):  # we are past caring why a stop by force fails
            async with asyncio.timeout(FORCED_STOP_S):
                await self._ssc.stop(graceful=False)
