"""Tasks in the driver's own process: on the event loop when they are short, else in one thread."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from ..blocks.directory import BlockDirectory
from ..blocks.storage import BlockWriter
from ..errors import InternalError, LifecycleError, OptionError
from .base import Executor, ExecutorStatistics, Program, Task, TaskResult
from .leftovers import discard_results, sweep_attempt
from .nested import refuse_inside_worker
from .task import TaskEnvironment

__all__ = ["InlineExecutor"]

logger = logging.getLogger(__name__)

# A hop to a thread and back costs about 0.1 ms; a task may hold the loop for ten times that.
LOOP_SECONDS_MAX = 0.001
UNKNOWN_BYTES_MAX = 16 * 1024  # a program never seen before runs on the loop up to this much input
CLOSE_TIMEOUT_S = 5.0
PROGRAMS_CACHED_MAX = 512
_executors = itertools.count(1)
_DECAY = 0.8  # so that one slow run, by a pause of the machine, is forgotten after a few more


class InlineExecutor(Executor):
    """Runs one task at a time in this process; nothing to start, nothing that can die apart.

    A program that took less than ``LOOP_SECONDS_MAX`` lately runs directly on the loop, which is
    the fastest way for small batches; any other runs in a thread, so that the loop stays
    responsive. Programs are unpickled from their payload as in a worker: what a function captured
    is a copy. A running task cannot be killed, and what user code does to the process (working
    directory, ``os._exit``) it does to the driver.

    Parameters
    ----------
    directory: where blocks are written; owned by the caller.
    """

    name = "inline"

    def __init__(self, directory: BlockDirectory) -> None:
        self._directory = directory
        self._environment = TaskEnvironment(directory.writer)
        self._prefix = f"i{next(_executors):x}"
        self._attempt = 0
        self._turn = asyncio.Lock()  # the environment is not re-entrant; waiters are served in order
        self._thread: _TaskThread | None = None
        self._costs: OrderedDict[str, _Cost] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Future[TaskResult] | None = None  # in the thread
        self._closed = False
        self._waiting = self._done = self._failed = 0

    @property
    def slots(self) -> int:
        """Always 1."""
        return 1

    @property
    def volatile_workers(self) -> bool:
        """False: there is no worker that could die while the driver lives."""
        return False

    async def start(self) -> None:
        """Bind to the running loop. Raises LifecycleError when called twice or inside of a worker."""
        refuse_inside_worker("an engine")
        if self._loop is not None or self._closed:
            raise LifecycleError("an inline executor is started once; make a new one")
        self._loop = asyncio.get_running_loop()

    async def aclose(self) -> None:
        """Refuse further calls and end the thread; waits ``CLOSE_TIMEOUT_S`` for a task that still runs.

        A task that runs longer cannot be killed: the log says so, its call raises LifecycleError, and
        the thread, which does not keep the interpreter alive, ends with it.
        """
        self._closed = True
        if self._thread is None or await self._thread.aclose(CLOSE_TIMEOUT_S):
            self._environment.close()
            return
        logger.warning("a task still runs after %s s; it cannot be killed in this process", CLOSE_TIMEOUT_S)
        if self._running is not None and not self._running.done():
            self._running.set_exception(LifecycleError("the inline executor was closed"))

    async def run(self, program: Program, tasks: Sequence[Task]) -> list[TaskResult]:
        """Run tasks one after the other; see :meth:`Executor.run`.

        Calls under way at the same time take turns task by task. When cancelled, a task that runs
        in the thread goes on to its end and its result is dropped; the next one waits for it.
        """
        self._check_open(tasks)
        self._waiting += len(tasks)
        results: list[TaskResult] = []
        try:
            for task in tasks:
                results.append(await self._run_one(program, task))
        except BaseException:
            discard_results(self._directory.ledger, results)
            raise
        finally:
            self._waiting -= len(tasks) - len(results)
        return results

    def _check_open(self, tasks: Sequence[Task]) -> None:
        if self._closed:
            raise LifecycleError("the inline executor was closed")
        if self._loop is None:
            raise LifecycleError("the inline executor is not started")
        if self._loop is not asyncio.get_running_loop():
            raise LifecycleError("the inline executor belongs to another event loop")
        for task in tasks:
            if task.slot not in (None, 0):
                raise OptionError(f"slot {task.slot} does not exist: an inline executor has slot 0 only")

    async def _run_one(self, program: Program, task: Task) -> TaskResult:
        await self._turn.acquire()
        result: TaskResult | None = None
        try:
            if self._closed:
                raise LifecycleError("the inline executor was closed")
            cost = self._cost_of(program)
            prefix = self._begin_attempt()
            size = sum(ref.size for refs in task.inputs for ref in refs)
            if cost.fits_loop(size):
                result = self._run_on_loop(task)
            else:
                result = await self._run_in_thread(task)
        finally:
            # A task in the thread outlives a cancelled call, and keeps its turn until it ends.
            if self._running is None:
                self._turn.release()
        cost.learn(result.seconds, size)
        if result.failure is not None and not any(result.blocks()):
            sweep_attempt(self._directory, prefix)
        self._waiting -= 1
        self._done += result.failure is None
        self._failed += result.failure is not None
        return result

    def _begin_attempt(self) -> str:
        """Give the task a writer whose file names tell what it wrote, should it fail."""
        self._attempt += 1
        prefix = f"{self._prefix}-{self._attempt:x}-"
        self._environment.writer = BlockWriter(self._directory.path, self._directory.spill_path, prefix)
        return prefix

    def _cost_of(self, program: Program) -> _Cost:
        cost = self._costs.get(program.id)
        if cost is None:
            self._environment.add_program(program.id, program.payload)
            cost = self._costs[program.id] = _Cost()
            while len(self._costs) > PROGRAMS_CACHED_MAX:
                self._environment.forget_program(self._costs.popitem(last=False)[0])
        else:
            self._costs.move_to_end(program.id)
        return cost

    def _run_on_loop(self, task: Task) -> TaskResult:
        # A function of the user that calls asyncio.run() works in a worker, so it must work here.
        loop, current = asyncio.get_running_loop(), asyncio.current_task()
        if current is not None:
            asyncio._leave_task(loop, current)
        asyncio._set_running_loop(None)
        try:
            return self._environment.run(task)
        finally:
            asyncio._set_running_loop(loop)
            if current is not None:
                asyncio._enter_task(loop, current)

    async def _run_in_thread(self, task: Task) -> TaskResult:
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = _TaskThread(loop)
        finished = self._running = self._thread.submit(lambda: self._environment.run(task))
        try:
            return await asyncio.shield(finished)
        except asyncio.CancelledError:
            if not finished.done():
                finished.add_done_callback(self._end_abandoned)
            raise
        finally:
            if finished.done():
                self._running = None

    def _end_abandoned(self, finished: asyncio.Future[TaskResult]) -> None:
        if finished.exception() is None:
            discard_results(self._directory.ledger, [finished.result()])
        self._running = None
        self._turn.release()

    def statistics(self) -> ExecutorStatistics:
        """Figures since the start."""
        running = int(self._turn.locked())
        return ExecutorStatistics(
            slots=1,
            tasks_running=running,
            tasks_queued=max(0, self._waiting - running),
            tasks_done=self._done,
            tasks_failed=self._failed,
        )


class _Cost:
    """What runs of one program cost lately."""

    __slots__ = ("_bytes", "_seconds")

    def __init__(self) -> None:
        self._seconds = -1.0
        self._bytes = 0

    def fits_loop(self, size: int) -> bool:
        """True when a run with ``size`` bytes of input is short enough for the loop."""
        if self._seconds < 0:
            return size < UNKNOWN_BYTES_MAX
        growth = max(1.0, size / max(self._bytes, 1024))
        return self._seconds * growth < LOOP_SECONDS_MAX

    def learn(self, seconds: float, size: int) -> None:
        """Note one run; the slowest counts, and fades."""
        faded = self._seconds * _DECAY
        if seconds >= faded:
            self._seconds, self._bytes = seconds, size
        else:
            self._seconds = faded


class _TaskThread:
    """One thread that runs calls in order; a daemon, so that a stuck task cannot hold up the exit.

    Parameters
    ----------
    loop: where the futures belong.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: queue.SimpleQueue[_ThreadCall | None] = queue.SimpleQueue()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="aiostream-inline", daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], TaskResult]) -> asyncio.Future[TaskResult]:
        """Run ``call`` in the thread."""
        future: asyncio.Future[TaskResult] = self._loop.create_future()
        self._calls.put((call, future))
        return future

    async def aclose(self, timeout_s: float) -> bool:
        """End the thread after what it runs; False when that takes longer than ``timeout_s``."""
        self._calls.put(None)
        try:
            await asyncio.wait_for(self._ended.wait(), timeout_s)
        except TimeoutError:
            return False
        self._thread.join()  # its last act was to set the event: it ends at once
        return True

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            call, future = item
            try:
                self._tell(_resolve, future, call())
            except BaseException as error:  # TaskEnvironment.run gives failures as values: this is a bug
                self._tell(_refuse, future, error)
        self._tell(self._ended.set)

    def _tell(self, callback: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed under us
            self._loop.call_soon_threadsafe(callback, *args)


_ThreadCall = tuple[Callable[[], TaskResult], "asyncio.Future[TaskResult]"]


def _resolve(future: asyncio.Future[TaskResult], result: TaskResult) -> None:
    if not future.done():
        future.set_result(result)


def _refuse(future: asyncio.Future[TaskResult], error: BaseException) -> None:
    if not future.done():
        future.set_exception(InternalError(f"a task raised out of its environment: {error!r}"))
