"""Running one task where it runs: the same code in the driver (inline) and in a worker process.

A program's payload unpickles to a callable ``(environment, task) -> TaskResult``; the planner's
compiled stages are such callables. Nothing here knows about processes or event loops.
"""

from __future__ import annotations

import pickle
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ..blocks.pickling import dumps
from ..blocks.storage import BlockWriter
from ..errors import BlocksReleasedError, CorruptionError, InternalError, StorageError, UnpicklableError
from .base import Task, TaskFailure, TaskResult
from .probe import Watch

__all__ = ["FailureSignal", "StateMissing", "TaskEnvironment", "current_environment", "describe"]

REPR_CHARS_MAX = 500

TaskProgram = Callable[["TaskEnvironment", Task], TaskResult]


class FailureSignal(Exception):
    """Carries a finished :class:`TaskFailure` out of a program."""

    def __init__(self, failure: TaskFailure) -> None:
        super().__init__(failure)
        self.failure = failure


class StateMissing(Exception):
    """The worker does not hold the state version that the task builds on."""


class TaskEnvironment:
    """What stays in a worker between tasks: programs, keyed state, broadcast values.

    Parameters
    ----------
    writer: writes the blocks of this worker.
    slot: number of the slot, reported in results.
    """

    def __init__(self, writer: BlockWriter, slot: int = 0) -> None:
        self.writer = writer
        self.slot = slot
        self.states: dict[tuple[str, int], Any] = {}
        self.state_budgets: dict[str, Any] = {}  # of states with a bound of their own, and "" of all others
        self.broadcast_values: OrderedDict[int, Any] = OrderedDict()
        self.task: Task | None = None
        self.accumulators: dict[int, Any] = {}
        self.watch_path = ""  # where a watched task says what it has in hand; set by a worker process
        self._dropped = 0  # the last drop of a broadcast that was heeded
        self._programs: dict[str, TaskProgram] = {}
        self._payloads: dict[str, bytes] = {}

    def add_program(self, program_id: str, payload: bytes) -> None:
        """Keep a program; it is unpickled at first use, so that a bad one fails its task alone."""
        self._payloads[program_id] = payload

    def forget_program(self, program_id: str) -> None:
        """Drop a program that the driver evicted."""
        self._payloads.pop(program_id, None)
        self._programs.pop(program_id, None)

    def watch(self, task: Task) -> Watch | None:
        """What to tell of each record that the task takes in hand; None when nobody looks."""
        probe = task.params.get("probe")
        if probe is None or not self.watch_path:
            return None
        try:
            return Watch(self.watch_path, probe)
        except OSError:  # no room: then a death tells less
            return None

    def close(self) -> None:
        """Drop all state, with what it has on disk."""
        while self.states:
            _free(self.states.popitem()[1])

    def run(self, task: Task) -> TaskResult:
        """Run one task; every failure comes back as a value, whatever the user code raised."""
        global _current
        started = time.perf_counter()
        self.task, self.accumulators = task, {}
        for serial, number in task.dropped_broadcasts:
            if serial > self._dropped:
                self.broadcast_values.pop(number, None)
                self._dropped = serial
        if self.states and (dropped := task.params.get("dropped_states")):
            for key in [key for key in self.states if key[0] in dropped]:
                _free(self.states.pop(key))
        previous, _current = _current, self
        try:
            result = self._program(task.program)(self, task)
        except StateMissing:
            result = TaskResult(task.id, state_missing=True)
        except FailureSignal as signal:
            result = TaskResult(task.id, failure=signal.failure)
        except BaseException as error:
            result = TaskResult(task.id, failure=describe(error, "task"))
        finally:
            _current, self.task = previous, None
        if result.failure is None and self.accumulators:
            result = self._with_accumulators(result)
        return result._replace(seconds=time.perf_counter() - started, slot=self.slot)

    def _with_accumulators(self, result: TaskResult) -> TaskResult:
        try:
            return result._replace(accumulators=dumps(self.accumulators))
        except Exception as error:
            return TaskResult(result.task, failure=describe(error, "accumulator", kind="unpicklable"))

    def _program(self, program_id: str) -> TaskProgram:
        program = self._programs.get(program_id)
        if program is None:
            program = self._programs[program_id] = pickle.loads(self._payloads[program_id])
        return program


def _free(state: Any) -> None:
    """What a program keeps is its own affair; some of it holds a file."""
    close = getattr(state, "close", None)
    if close is not None:
        close()


_current: TaskEnvironment | None = None


def current_environment() -> TaskEnvironment | None:
    """The environment of the task that runs now, None in the driver outside of tasks."""
    return _current


def describe(
    error: BaseException, step: str, *, kind: str | None = None, record: str | None = None
) -> TaskFailure:
    """An exception as plain text; never fails, whatever ``__str__`` or ``__repr__`` of it do."""
    return TaskFailure(
        kind or _kind_of(error),
        step,
        f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
        _safely(str, error),
        record,
        _safely(lambda e: "".join(traceback.format_exception(e)), error),
    )


def _kind_of(error: BaseException) -> str:
    if isinstance(error, BlocksReleasedError):
        return "released"
    if isinstance(error, StorageError):
        return "storage"
    if isinstance(error, CorruptionError):
        return "corrupt"
    if isinstance(error, UnpicklableError):
        return "unpicklable"
    return "internal" if isinstance(error, InternalError) else "user"


def _safely(render: Callable[[BaseException], str], error: BaseException) -> str:
    try:
        return render(error)[-20_000:]
    except BaseException as second:
        return f"<unprintable: {type(second).__name__}>"
