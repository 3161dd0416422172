"""The process pool: the asyncio shell that performs what the scheduling machine decides."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ...blocks.directory import BlockDirectory
from ...clock import Clock, SystemClock
from ...config import PoolConfig
from ...errors import LifecycleError, OptionError, UnpicklableError, WorkerLostError, WorkerStartError
from ...observe.events import Event, WorkerLost
from ..base import Executor, ExecutorStatistics, Program, Task, TaskFailure, TaskResult
from ..leftovers import discard_results, sweep_attempt
from ..nested import refuse_inside_worker
from ..probe import InHand, read_in_hand
from .instructions import (
    Break,
    Complete,
    Convicted,
    Fail,
    Instruction,
    Lost,
    Send,
    StartWorker,
    StopWorker,
    Terminate,
)
from .machine import JobSpec, Machine
from .wire import Frame, Kind, decode_reply, encode_frame
from .worker import WorkerSetup, attempt_prefix, watch_path
from .worker_handle import ProcessSettings, WorkerHandle

__all__ = ["ProcessExecutor"]

logger = logging.getLogger(__name__)

_REAP_S = 5.0  # for the kernel to bury what was sent SIGKILL, on top of the grace time
_executors = itertools.count(1)

# Of workers, with glibc: buffers of a few hundred kilobytes come and go with each piece of a block, and by
# default their pages are given back and faulted in again each time, which took half as long as the work.
# At most so much that is free is kept by a worker.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(16 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(32 * 2**20)}


@dataclass(slots=True)
class _Call:
    """One call of :meth:`ProcessExecutor.run` under way."""

    program: Program
    tasks: Sequence[Task]
    payloads: list[bytes]
    done: asyncio.Future[None]
    first_job: int = 0
    results: dict[int, TaskResult] = field(default_factory=dict)


class ProcessExecutor(Executor):
    """Runs tasks in worker processes of its own, each of which can die without harm to the others.

    Parameters
    ----------
    workers: number of worker processes, which is the number of slots.
    directory: where blocks are written; owned by the caller and open for longer than the executor.
    config: deadlines, budgets and limits.
    on_event: called on the loop with each :class:`~aiostream_engine.observe.events.WorkerLost`.
    clock: gives the wall time of events.
    environment: further environment variables of the workers.
    on_output: called on the loop with each line that a worker prints, instead of logging it.

    Workers start with the search path, environment and working directory that the driver has at
    :meth:`start`, and with ``PYTHONHASHSEED=0``, so that the order of sets is the same in all.
    Between two tasks a worker restores its working directory, environment variables, signal
    handlers and standard streams; it does not undo patched modules or a seeded ``random``.
    """

    name = "process"

    def __init__(
        self,
        workers: int,
        directory: BlockDirectory,
        config: PoolConfig | None = None,
        on_event: Callable[[Event], None] | None = None,
        clock: Clock | None = None,
        environment: Mapping[str, str] | None = None,
        on_output: Callable[[str], None] | None = None,
    ) -> None:
        if workers < 1:
            raise OptionError(f"workers is {workers!r}: it must be at least 1")
        self._config = config if config is not None else PoolConfig()
        self._directory = directory
        self._on_event = on_event
        self._clock = clock if clock is not None else SystemClock()
        self._environment = environment or {}
        self._on_output = on_output
        self._machine = Machine(workers, self._config)
        self._workers: list[WorkerHandle | None] = [None] * workers
        self._steps = [""] * workers
        self._attempts = [0] * workers
        self._calls: dict[int, _Call] = {}
        self._call_of_job: dict[int, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._prefix = f"w{next(_executors):x}"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: asyncio.Future[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._emptied: asyncio.Event | None = None
        self._settings: ProcessSettings | None = None
        self._error: Exception | None = None
        self._lines_dropped = 0
        # Then sending a job brings no deadline forward, which saves microseconds in each round.
        self._untimed = self._config.task_timeout_s is None

    @property
    def slots(self) -> int:
        """Number of workers."""
        return len(self._workers)

    # -- life cycle --------------------------------------------------------------------------

    async def start(self) -> None:
        """Start all workers and wait until each is ready.

        Raises WorkerStartError, with what the worker wrote on standard error, when one does not
        get ready; LifecycleError when called twice, after close, or inside of a worker. When it
        fails or is cancelled everything is freed.
        """
        refuse_inside_worker("a process pool")
        if self._loop is not None or self._closing is not None:
            raise LifecycleError("a process pool is started once; make a new one")
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._emptied = asyncio.Event()
        self._settings = self._take_settings()
        try:
            self._perform(self._machine.open(self._loop.time()))
            await self._opened
        except BaseException:
            await self.aclose()
            raise

    def _take_settings(self) -> ProcessSettings:
        try:
            directory = os.getcwd()
        except FileNotFoundError:
            directory = None
        return ProcessSettings(
            directory,
            {**_MALLOC, **os.environ, "PYTHONHASHSEED": "0", **self._environment},
            self._config.term_grace_s,
            self._config.message_bytes_max,
            self._config.output_lines_per_s_max,
            self._on_output,
        )

    async def aclose(self) -> None:
        """Stop the workers, kill those that do not stop, and free everything.

        Takes at most about twice ``term_grace_s``. Calls of :meth:`run` under way raise
        LifecycleError. May be called twice, during start, and again after it was cancelled.
        """
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    def __del__(self) -> None:
        if getattr(self, "_loop", None) is not None and self._closing is None:
            warnings.warn("a process pool was not closed: use `async with`", ResourceWarning, stacklevel=2)

    async def _close(self) -> None:
        error = LifecycleError("the process pool was closed")
        self._end_calls(error)
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(error)
            self._opened.exception()  # start() may have been cancelled, and nobody else looks
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        alive = [worker for worker in self._workers if worker is not None]
        for worker in alive:
            if self._steps[worker.slot]:
                worker.terminate()
            else:
                worker.stop()
        if alive and self._emptied is not None:
            try:
                await asyncio.wait_for(self._emptied.wait(), self._config.term_grace_s + _REAP_S)
            except TimeoutError:
                pids = [worker.pid for worker in self._workers if worker is not None]
                logger.error("worker processes %s did not end even after SIGKILL", pids)

    def _end_calls(self, error: Exception) -> None:
        self._error = self._error or error
        for call in self._calls.values():
            if not call.done.done():
                call.done.set_exception(error)
        self._calls.clear()
        self._call_of_job.clear()

    # -- running -----------------------------------------------------------------------------

    async def run(self, program: Program, tasks: Sequence[Task]) -> list[TaskResult]:
        """Run tasks of one program; see :meth:`Executor.run`.

        Pinned tasks wait for their slot, even while its worker is replaced; free ones take the
        next idle slot; calls under way at the same time take turns.

        Raises OptionError when a message is larger than ``message_bytes_max``, UnpicklableError
        when a task holds what cannot be sent, WorkerLostError when the restart budget is used up,
        LifecycleError when the pool is not open.
        """
        loop = self._check_open()
        call = self._encode(program, tasks, loop)
        if not tasks:
            return []
        specs = [JobSpec(task.slot, program.step) for task in tasks]
        number, call.first_job, instructions = self._machine.submit(program.id, specs, loop.time())
        self._calls[number] = call
        for job in range(call.first_job, call.first_job + len(tasks)):
            self._call_of_job[job] = number
        self._perform(instructions)
        try:
            await call.done
        except BaseException:
            discard_results(self._directory.ledger, call.results.values())
            raise
        finally:
            self._forget(number, call)
        return [call.results[index] for index in range(len(tasks))]

    def _check_open(self) -> asyncio.AbstractEventLoop:
        if self._error is not None:
            raise type(self._error)(*self._error.args)
        if self._loop is None or not self._machine.opened:
            raise LifecycleError("the process pool is not started")
        if self._loop is not asyncio.get_running_loop():
            raise LifecycleError("the process pool belongs to another event loop")
        return self._loop

    def _encode(self, program: Program, tasks: Sequence[Task], loop: asyncio.AbstractEventLoop) -> _Call:
        for task in tasks:
            if task.slot is not None and not 0 <= task.slot < self.slots:
                raise OptionError(f"slot {task.slot} does not exist: the pool has {self.slots} slots")
        self._check_size(len(program.payload), program.step)
        payloads = [self._message(task, program.step) for task in tasks]
        return _Call(program, tasks, payloads, loop.create_future())

    def _message(self, content: object, step: str) -> bytes:
        try:
            payload = pickle.dumps(content, protocol=5)
        except Exception as error:
            raise UnpicklableError(f"a task of step {step!r} cannot be sent to a worker: {error}") from error
        self._check_size(len(payload), step)
        return payload

    def _check_size(self, size: int, step: str) -> None:
        if size > self._config.message_bytes_max:
            raise OptionError(
                f"a message of step {step!r} is {size} bytes, over message_bytes_max = "
                f"{self._config.message_bytes_max}: put the data in a broadcast variable or a file, "
                "or raise PoolConfig.message_bytes_max"
            )

    def _forget(self, number: int, call: _Call) -> None:
        if self._calls.pop(number, None) is None:
            return
        for job in range(call.first_job, call.first_job + len(call.tasks)):
            self._call_of_job.pop(job, None)
        if self._closing is None and self._loop is not None:
            self._perform(self._machine.cancel(number, self._loop.time()))
            self._arm_timer()

    # -- what workers tell -------------------------------------------------------------------

    def on_frame(self, worker: WorkerHandle, frame: Frame) -> None:
        """A worker is ready or has a result."""
        if frame.kind == Kind.RESULT:
            result, rss_bytes = self._decode(frame.payload, worker.slot)
            self._steps[worker.slot] = ""
            self._take_result(worker, frame.number, result, rss_bytes)
        elif frame.kind == Kind.READY and self._closing is None:
            self._perform(self._machine.ready(worker.slot, worker.generation, self._now()))
            self._check_opened()

    def _take_result(self, worker: WorkerHandle, number: int, result: TaskResult, rss_bytes: int) -> None:
        orders: list[Instruction] = []
        if self._closing is None:
            orders = self._machine.result(
                worker.slot,
                worker.generation,
                number,
                result,
                self._now(),
                failed=result.failure is not None,
                rss_bytes=rss_bytes,
                last=worker.ended,
            )
        if not orders or not isinstance(orders[0], Complete):  # stale: nobody will see it
            discard_results(self._directory.ledger, [result])
        if result.failure is not None and not any(result.blocks()):
            sweep_attempt(self._directory, attempt_prefix(self._prefix, number))
        self._perform(orders)

    def _decode(self, payload: bytes | bytearray, slot: int) -> tuple[TaskResult, int]:
        try:
            return decode_reply(payload)
        except pickle.UnpicklingError as error:
            failure = TaskFailure("unpicklable", self._steps[slot], "UnpicklingError", str(error))
            return TaskResult(-1, failure=failure, slot=slot), 0

    def on_misbehaviour(self, worker: WorkerHandle, cause: str) -> None:
        """A worker broke the protocol."""
        if self._closing is None:
            self._perform(self._machine.condemn(worker.slot, worker.generation, cause, self._now()))
        worker.kill()

    def on_exit(self, worker: WorkerHandle, reason: str) -> None:
        """A worker is gone."""
        self._workers[worker.slot] = None
        hand = None
        if self._steps[worker.slot]:
            number = self._attempts[worker.slot]
            hand = read_in_hand(watch_path(self._directory.path, self._prefix, number))
            sweep_attempt(self._directory, attempt_prefix(self._prefix, number))
        self._steps[worker.slot] = ""
        self._lines_dropped += worker.rate_limit.dropped
        if worker.error_tail and not self._machine.opened:
            reason = f"{reason}; its standard error ends with:\n{worker.error_tail}"
        if self._closing is None:
            self._perform(self._machine.exited(worker.slot, worker.generation, reason, self._now(), hand))
        elif self._emptied is not None and not any(self._workers):
            self._emptied.set()

    def _now(self) -> float:
        assert self._loop is not None
        return self._loop.time()

    def _check_opened(self) -> None:
        if self._machine.opened and self._opened is not None and not self._opened.done():
            self._opened.set_result(None)

    # -- performing --------------------------------------------------------------------------

    def _perform(self, instructions: list[Instruction]) -> None:
        timed = not self._untimed
        for instruction in instructions:
            if isinstance(instruction, Send):
                self._send(instruction)
            elif isinstance(instruction, Complete):
                assert isinstance(instruction.outcome, TaskResult)
                self._settle(instruction.job, instruction.outcome)
            else:
                timed = True
                self._perform_rare(instruction)
        if timed:
            self._arm_timer()

    def _perform_rare(self, instruction: Instruction) -> None:
        match instruction:
            case StartWorker(slot, generation):
                self._start_worker(slot, generation)
            case StopWorker(slot):
                self._worker(slot).stop()
            case Terminate(slot):
                self._worker(slot).terminate()
            case Fail(job, kind, message, hand):
                self._settle_failure(job, kind, message, hand)
            case Convicted(_, step, record, message):
                logger.warning("step %s gives up a record: %s: %s", step, message, record or "not seen")
            case Lost(slot, reason):
                self._tell_lost(slot, reason)
            case Break(message, at_start):
                self._break(message, at_start)
            case _:
                pass  # Abort: Break has ended all calls

    def _worker(self, slot: int) -> WorkerHandle:
        worker = self._workers[slot]
        assert worker is not None
        return worker

    def _send(self, order: Send) -> None:
        call = self._calls[self._call_of_job[order.job]]
        index = order.job - call.first_job
        payload = call.payloads[index]
        if order.attempt > 1:
            payload = pickle.dumps(_again(call.tasks[index], order), protocol=5)
        frames = [encode_frame(Kind.FORGET, 0, pickle.dumps(program, protocol=5)) for program in order.forget]
        if order.with_program:
            program = pickle.dumps((call.program.id, call.program.payload), protocol=5)
            frames.append(encode_frame(Kind.PROGRAM, 0, program))
        frames.append(encode_frame(Kind.TASK, order.number, payload))
        self._steps[order.slot] = call.program.step
        self._attempts[order.slot] = order.number
        self._worker(order.slot).send(frames)

    def _settle(self, job: int, result: TaskResult) -> None:
        call = self._calls[self._call_of_job[job]]
        index = job - call.first_job
        if result.task != call.tasks[index].id:
            result = result._replace(task=call.tasks[index].id)
        call.results[index] = result
        if len(call.results) == len(call.tasks) and not call.done.done():
            call.done.set_result(None)

    def _settle_failure(self, job: int, kind: str, message: str, hand: InHand | None) -> None:
        call = self._calls[self._call_of_job[job]]
        error_type = "TaskDeadlineError" if kind == "deadline" else "PoisonTaskError"
        step, record = (hand.step, hand.record) if hand is not None else (call.program.step, None)
        failure = TaskFailure(kind, step, error_type, message, record)
        self._settle(job, TaskResult(call.tasks[job - call.first_job].id, failure=failure))

    def _start_worker(self, slot: int, generation: int) -> None:
        assert self._settings is not None
        setup = WorkerSetup(
            slot,
            self._directory.path,
            self._directory.spill_path,
            self._prefix,
            self._config.message_bytes_max,
            tuple(sys.argv),
        )
        try:
            self._workers[slot] = WorkerHandle(
                slot,
                generation,
                pickle.dumps(setup),
                self._settings,
                self,
                lambda: self._steps[slot] or "no step",
            )
        except OSError as error:
            # Told on the next turn of the loop: the machine is in the middle of an event now.
            asyncio.get_running_loop().call_soon(self._not_started, slot, generation, str(error))

    def _not_started(self, slot: int, generation: int, reason: str) -> None:
        if self._closing is None:
            self._perform(self._machine.exited(slot, generation, f"cannot start: {reason}", self._now()))

    def _tell_lost(self, slot: int, reason: str) -> None:
        logger.warning("worker %d lost: %s", slot, reason)
        if self._on_event is not None:
            try:
                self._on_event(WorkerLost(int(self._clock.time() * 1000), slot, reason))
            except Exception:
                logger.exception("the listener of worker events failed")

    def _break(self, message: str, at_start: bool) -> None:
        error = WorkerStartError(message) if at_start else WorkerLostError(message)
        self._end_calls(error)
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(error)

    # -- time --------------------------------------------------------------------------------

    def _arm_timer(self) -> None:
        due = self._machine.next_due()
        if self._timer is not None:
            if due is not None and not self._timer.cancelled() and self._timer.when() <= due:
                return  # it fires early enough, and looks again
            self._timer.cancel()
            self._timer = None
        if due is not None and self._closing is None and self._loop is not None:
            self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        # A timer may fire early by its resolution: what is due at its time is due.
        self._perform(self._machine.tick(self._now() + 0.001))

    # -- figures -----------------------------------------------------------------------------

    def statistics(self) -> ExecutorStatistics:
        """Figures since the start."""
        figures = self._machine.statistics()
        dropped = sum(worker.rate_limit.dropped for worker in self._workers if worker is not None)
        return ExecutorStatistics(
            slots=self.slots,
            tasks_running=figures.tasks_running,
            tasks_queued=figures.tasks_queued,
            tasks_done=figures.tasks_done,
            tasks_failed=figures.tasks_failed,
            tasks_retried=figures.tasks_retried,
            workers_started=figures.workers_started,
            workers_lost=figures.workers_lost,
            worker_rss_bytes=figures.worker_rss_bytes,
            workers_recycled=figures.workers_recycled,
            results_stale=figures.results_stale,
            output_lines_dropped=self._lines_dropped + dropped,
            poison_records=figures.poison_records,
        )

    def worker_pids(self) -> tuple[int | None, ...]:
        """Process id of each slot's worker, None where one is being replaced."""
        return tuple(None if worker is None else worker.pid for worker in self._workers)


def _again(task: Task, order: Send) -> Task:
    """The task as it is tried once more."""
    params = task.params if order.probe is None else {**task.params, "probe": order.probe}
    return task._replace(attempt=order.attempt, params=params)
