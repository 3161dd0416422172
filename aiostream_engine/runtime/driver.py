"""The asynchronous shell: cuts batches at ticks, runs what the machine says, commits in order.

One :class:`StreamDriver` for one run of a graph. What decides is the pure
:class:`~aiostream_engine.runtime.machine.BatchMachine`; this file awaits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context, ContextVar
from dataclasses import dataclass, field, replace

from ..clock import Clock
from ..config import RetryPolicy, SchedulerConfig
from ..errors import LifecycleError, StepError
from ..observe.events import (
    BatchCompleted,
    BatchInfo,
    BatchStarted,
    BatchSubmitted,
    CircuitBroken,
    Event,
    InputInfo,
    OutputOperationCompleted,
    OutputOperationInfo,
    OutputOperationStarted,
    TicksCoalesced,
)
from ..observe.redaction import redact
from ..plan.graph import OutputNode
from ..sources.base import BatchInput
from ..types import BatchTime, OnError
from .breaker import CircuitBreaker, Outcomes, Verdict, outcomes_of_batch
from .commit import CommitProtocol
from .inputs import Inputs
from .machine import Batch, BatchMachine, BatchPhase, Commit, Halt, Instruction, Run
from .ticker import DataTrigger, Tick, Ticker
from .translator import Translator

__all__ = ["OutputPolicy", "StreamDriver", "inside_batch"]

_log = logging.getLogger("aiostream_engine.driver")

CANCEL_TIMEOUT_S = 5.0

# True in code that runs as a part of a batch: such code must not wait for the batch to end.
inside_batch: ContextVar[bool] = ContextVar("aiostream_engine_inside_batch", default=False)


@dataclass(frozen=True, slots=True)
class OutputPolicy:
    """How often an output operation is tried, and what happens when it fails for good."""

    retry: RetryPolicy | None = None
    on_error: OnError = OnError.FAIL


@dataclass(slots=True)
class _Timing:
    """Monotonic times of a batch, and the events' record of it. outputs: those that are over, by id."""

    submitted: float
    info: BatchInfo
    started: float = 0.0
    outputs: dict[int, OutputOperationInfo] = field(default_factory=dict)


class StreamDriver:
    """Runs a frozen graph until it is stopped, finished or failed.

    Parameters
    ----------
    inputs, outputs, translator: the graph, ready to run. protocol: makes batches true.
    policies: of each output, by its id.
    trigger: gives the ticks.
    set_batch: makes the code that follows belong to a batch (label, or None).
    emit: gets events.
    breaker: stops a stream that gives up too many of its records.
    context: contextvars in which user code runs, as they were at start (row CTX-9).
    """

    def __init__(
        self,
        inputs: Inputs,
        outputs: Sequence[OutputNode],
        policies: dict[int, OutputPolicy],
        translator: Translator,
        protocol: CommitProtocol,
        trigger: Ticker | DataTrigger,
        scheduler: SchedulerConfig,
        interval_ms: int,
        clock: Clock,
        set_batch: Callable[[int | None], object],
        emit: Callable[[Event], None],
        context: Context,
        stop_when_finished: bool,
        breaker: CircuitBreaker,
    ) -> None:
        self.inputs = inputs
        self._outputs = list(outputs)
        self._policies = policies
        self.translator = translator
        self.protocol = protocol
        self._committing = asyncio.Lock()
        self._pending: deque[tuple[Tick, list[BatchInput]]] = deque()
        self._after_pending: Callable[[], Awaitable[None]] | None = None
        self._recovering = 0  # batches of an earlier run that are not committed again yet
        self._trigger = trigger
        self._interval_ms = interval_ms
        self._clock = clock
        self._set_batch = set_batch
        self._emit = emit
        self._context = context
        self._stop_when_finished = stop_when_finished
        self._breaker = breaker
        translator.zero_ms = trigger.zero_ms
        self._machine = BatchMachine(
            scheduler.batches_in_flight_max, scheduler.concurrent_batches, trigger.zero_ms
        )
        self._timings: dict[int, _Timing] = {}
        self._done: dict[int, asyncio.Event] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._closing = False
        self._progress = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._draining = False
        self.failure: BaseException | None = None
        self.ended = asyncio.Event()

    def resume(
        self,
        batch_id: int,
        time: int,
        pending: Sequence[tuple[Tick, list[BatchInput]]],
        then: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Go on after a batch of an earlier run: first run its pending ones again, with their content.

        then: awaited when they are committed, before the first new batch is cut.
        """
        self._machine.resume(batch_id, time, time)
        self._pending.extend(pending)
        self._after_pending = then
        self._recovering = len(pending)

    @property
    def last_time(self) -> int:
        """The last label that was given to a batch."""
        return self._machine.last_time

    @property
    def recovering(self) -> bool:
        """True until the batches of an earlier run are true."""
        return self._recovering > 0

    def start(self) -> None:
        """Begin to cut batches."""
        loop = asyncio.get_running_loop()
        self._loop_task = loop.create_task(
            self._cut_loop(), name="aiostream-ticks", context=self._context.copy()
        )

    # -- cutting -------------------------------------------------------------------------------

    async def _cut_loop(self) -> None:
        try:
            while self._pending and not self._machine.halted:
                await self._wait_may_cut()
                old, stored = self._pending.popleft()
                contents = await self.inputs.recompute(stored)
                await self._begin(old, contents, self.inputs.describe(contents))
            if self._after_pending is not None:
                await self._wait_idle()
                if not self._machine.halted:
                    await self._after_pending()
            while not self._machine.halted:
                await self._wait_may_cut()
                tick = await self._trigger.next()
                if tick is None or self._machine.halted:
                    break
                await self._cut(tick)
                if self._finished():
                    break
            await self._wait_idle()
        except Exception as error:
            self._fail(error)
        except asyncio.CancelledError as error:
            if self._closing:
                raise
            self._fail(_not_asked_for(error, "a source"))
        finally:
            self.ended.set()

    async def _wait_may_cut(self) -> None:
        """Beyond the bound of batches in flight the next tick waits, and covers those that it missed."""
        while not self._machine.may_cut and not self._machine.halted:
            await self._wait_progress()

    async def _wait_progress(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    async def _wait_idle(self) -> None:
        while not self._machine.idle or self._committing.locked():
            await self._wait_progress()

    def _finished(self) -> bool:
        finished = self.inputs.finished and not self.inputs.pending
        return finished and (self._stop_when_finished or self._draining)

    async def _cut(self, tick: Tick) -> None:
        if tick.missed:
            self._emit(TicksCoalesced(self._now_ms(), tick.missed, tick.late_s))
        contents, infos = await self.inputs.cut(tick.time)
        if self._machine.halted:  # a batch failed meanwhile: these records are in none
            self.inputs.discard(contents)
            return
        await self._begin(tick, contents, infos)
        if isinstance(self._trigger, DataTrigger) and self.inputs.pending:
            self._trigger.notify()  # a source that gives only so much a batch has more

    async def _begin(self, tick: Tick, contents: Sequence[BatchInput], infos: tuple[InputInfo, ...]) -> None:
        batch, instructions = self._machine.cut(tick.time, tick.missed)
        for node, content in zip(self.inputs.nodes, contents, strict=True):
            self.translator.add_input(node, batch.time, content)
        self.protocol.begin(batch, contents)
        self._submitted(batch, infos)
        await self._perform(instructions)

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)

    def _submitted(self, batch: Batch, infos: tuple[InputInfo, ...]) -> None:
        outputs = tuple(OutputOperationInfo(batch.time, output.id, output.name) for output in self._outputs)
        info = BatchInfo(
            batch.id, batch.time, infos, self._now_ms(), outputs=outputs, ticks_coalesced=batch.ticks_missed
        )
        self._timings[batch.id] = _Timing(self._clock.monotonic(), info)
        self._done[batch.id] = asyncio.Event()
        self._emit(BatchSubmitted(self._now_ms(), info))

    async def _perform(self, instructions: Sequence[Instruction]) -> None:
        try:
            if not await self._commit_all([item.batch for item in instructions if isinstance(item, Commit)]):
                return  # nothing that follows may happen
            for instruction in instructions:
                match instruction:
                    case Run(batch):
                        self._start_batch(batch)
                    case Halt():
                        self._trigger.stop()
        finally:
            self._progress.set()

    def _start_batch(self, batch: Batch) -> None:
        task = asyncio.get_running_loop().create_task(
            self._run_batch(batch), name=f"aiostream-batch-{batch.id}", context=self._context.copy()
        )
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _commit_all(self, batches: Sequence[Batch]) -> bool:
        """Commit in order, also when a later batch is done meanwhile; False after one that failed."""
        if not batches:
            return True
        async with self._committing:  # fair, and taken before anybody else can run
            for batch in batches:
                if self._machine.is_blocked(batch) or not await self._commit(batch):
                    return False
        return True

    # -- one batch -----------------------------------------------------------------------------

    async def _run_batch(self, batch: Batch) -> None:
        inside_batch.set(True)
        outcomes_of_batch.set(outcomes := Outcomes())
        self._set_batch(batch.time)
        over = self._done[batch.id]
        try:
            error = await self._process(batch)
            verdict = self._judge(batch, outcomes)
            if error is None and verdict.broken:
                error = self._breaker.error(verdict)
            self._completed(batch, error)
            if error is not None:
                self._fail(error, batch)
                await self.protocol.abort(batch)
            await self._perform(self._machine.done(batch) if error is None else self._machine.failed(batch))
        except BaseException as error:  # of the engine, or a cancellation: nobody must wait for ever
            if not self._closing:
                self._fail(_not_asked_for(error, "a batch"), batch)
                is_running = batch.phase is BatchPhase.RUNNING
                await self._perform(self._machine.failed(batch) if is_running else self._machine.halt())
            if not isinstance(error, Exception):
                raise
        finally:
            over.set()
            self._progress.set()

    def _begin_run(self, batch: Batch) -> None:
        timing = self._timings[batch.id]
        timing.started = self._clock.monotonic()
        timing.info = replace(
            timing.info,
            processing_start_ms=self._now_ms(),
            scheduling_delay_s=timing.started - timing.submitted,
        )
        self._emit(BatchStarted(self._now_ms(), timing.info))

    def _judge(self, batch: Batch, outcomes: Outcomes) -> Verdict:
        """What the records that were given up say of the stream."""
        verdict = self._breaker.judge(outcomes)
        timing = self._timings[batch.id]
        given_up = outcomes.given_up.total()
        if given_up or verdict.share:
            timing.info = replace(timing.info, records_given_up=given_up, given_up_share=verdict.share)
        if verdict.broken:
            self._emit(CircuitBroken(self._now_ms(), verdict.step, verdict.given_up, verdict.tried))
        return verdict

    async def _process(self, batch: Batch) -> Exception | None:
        """Run the outputs of a batch; gives what went wrong."""
        self._begin_run(batch)
        try:
            await self._run_outputs(batch)
            await self.translator.force(batch)
        except Exception as error:
            return error
        return None

    async def _run_outputs(self, batch: Batch) -> None:
        """The outputs one by one; one that fails does not keep the others from running (row SCH-6)."""
        failure: Exception | None = None
        for output in self._outputs:
            try:
                await self._run_output(output, batch)
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure

    async def _run_output(self, output: OutputNode, batch: Batch) -> None:
        if not self.translator.is_due(output.parent, batch):
            return
        started = self._now_ms()
        info = OutputOperationInfo(batch.time, output.id, output.name, start_ms=started)
        self._emit(OutputOperationStarted(started, info))
        failure: Exception | None = None
        try:
            await self._try_output(output, batch)
        except Exception as error:
            failure = error
            error.add_note(f"in output {output.name!r} of batch {batch.time}")
        info = replace(info, end_ms=self._now_ms(), failure=None if failure is None else _brief(failure))
        self._timings[batch.id].outputs[output.id] = info
        self._emit(OutputOperationCompleted(self._now_ms(), info))
        if failure is not None:
            if self._policies[output.id].on_error is not OnError.SKIP:
                raise failure
            _log.warning("output %s of batch %s is skipped: %s", output.name, batch.time, _brief(failure))

    async def _try_output(self, output: OutputNode, batch: Batch) -> None:
        retry = self._policies[output.id].retry
        attempt = 0
        while True:
            attempt += 1
            try:
                rdd = await self.translator.rdd(output.parent, batch)
                if rdd is not None:
                    # A sink waits by itself, when it has something to write.
                    if output.sink is None and not self.translator.is_empty(output.parent, batch):
                        await batch.frozen()
                    await output.run(rdd, batch)
                return
            except asyncio.CancelledError as error:
                if self._is_asked_for():
                    raise
                # User code awaited something that somebody else cancelled.
                raise _not_asked_for(error, f"output {output.name}") from error
            except Exception as error:
                if retry is None or retry.exhausted(attempt):
                    raise
                _log.warning(
                    "output %s of batch %s, try %d: %s", output.name, batch.time, attempt, _brief(error)
                )
                await self._clock.sleep_until(self._clock.monotonic() + retry.wait_before(attempt))

    def _completed(self, batch: Batch, error: Exception | None) -> None:
        timing = self._timings[batch.id]
        ended = self._clock.monotonic()
        timing.info = replace(
            timing.info,
            processing_end_ms=self._now_ms(),
            processing_delay_s=ended - timing.started,
            total_delay_s=ended - timing.submitted,
            outputs=tuple([timing.outputs.get(output.id, output) for output in timing.info.outputs]),
            failure=None if error is None else _brief(error),
        )
        self._emit(BatchCompleted(self._now_ms(), timing.info))
        self.inputs.learn(
            self._now_ms(), timing.info.inputs, ended - timing.started, timing.started - timing.submitted
        )

    async def _commit(self, batch: Batch) -> bool:
        """Make the batch true; False when that failed, after which the stream stops."""
        try:
            await self.protocol.finish(batch)
        except Exception as error:
            self._fail(error, batch)
            await self._perform(self._machine.commit_failed(batch))
            return False
        self._recovering = max(0, self._recovering - 1)
        self._timings.pop(batch.id, None)
        self._done.pop(batch.id - 1, None)
        return True

    def inputs_of(self, time: int) -> tuple[InputInfo, ...] | None:
        """What the inputs gave to a batch that is not committed yet; None for any other."""
        for timing in self._timings.values():
            if timing.info.batch_time == time:
                return timing.info.inputs
        return None

    async def previous_done(self, batch: Batch) -> None:
        """Return when the batch before ``batch`` is over; state is changed in order of batches."""
        event = self._done.get(batch.id - 1)
        if event is not None:
            await event.wait()
        if self._machine.is_blocked(batch):
            raise LifecycleError("an earlier batch failed") from self.failure

    def _fail(self, error: BaseException, batch: Batch | None = None) -> None:
        if self.failure is None:
            self.failure = error
            where = f"batch {batch.time} failed" if batch else "the stream failed"
            _log.error("%s, the stream stops: %s", where, _brief(error))
        if batch is None:
            self._machine.halt()
            self._trigger.stop()
            self._progress.set()

    def _is_asked_for(self) -> bool:
        """True when the end of this task is wanted: by our own stop, or because its loop ends."""
        task = asyncio.current_task()
        return self._closing or (task is not None and task.cancelling() > 0)

    # -- stopping ------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Stop the sources, make batches of all that they took, and wait for these. The caller bounds it."""
        self._draining = True
        await self.inputs.stop()
        if self._loop_task is None:
            return
        if not self._loop_task.done():
            self._trigger.stop(last_tick=True)
            await asyncio.wait({self._loop_task})
        while self.inputs.pending and not self._machine.halted:
            await self._wait_may_cut()
            if not self._machine.halted:
                await self._cut(self._extra_tick())
            await self._wait_idle()

    def _extra_tick(self) -> Tick:
        """A tick for what a bounded source could not give to the last one."""
        return Tick(BatchTime(self._machine.last_time + self._interval_ms))

    async def aclose(self) -> None:
        """Stop at once: running batches are cancelled, nothing more is committed."""
        self._closing = True
        self._trigger.stop()
        tasks = [task for task in (self._loop_task, *self._running) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            _, deaf = await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT_S)
            for task in deaf:
                _log.error("%s does not end, %g s after it was cancelled", task.get_name(), CANCEL_TIMEOUT_S)
        self.ended.set()
        with suppress(Exception):
            await self.inputs.aclose()
        with suppress(LifecycleError):  # an engine that was closed before its stream has freed all
            self.translator.close()

    def batches_in_flight(self) -> int:
        """Batches that were cut and are not committed."""
        return len(self._machine.batches)


def _not_asked_for(error: BaseException, where: str) -> BaseException:
    """What to report for a cancellation that came from inside: never a CancelledError of our own."""
    if not isinstance(error, asyncio.CancelledError):
        return error
    return StepError(where, "CancelledError", "it awaited something that was cancelled")


def _brief(error: BaseException) -> str:
    text = redact("; ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())]))
    return text if len(text) <= 2000 else text[:2000] + "…"
