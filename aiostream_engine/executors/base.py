"""The executor seam: tasks go in, results come out, data moves by reference.

A *program* is what a stage does to one partition: a pickled plan that a worker compiles once
and keeps. A *task* binds a program to the blocks of one partition of one batch; it is small.
All executors pass one conformance suite (``tests/executors/test_conformance.py``).
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..types import BlockRef

__all__ = [
    "Executor",
    "ExecutorStatistics",
    "Program",
    "StateDirective",
    "StateReport",
    "Task",
    "TaskFailure",
    "TaskResult",
]


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled stage, by reference: ``id`` names the content, ``payload`` is shipped once a worker.

    step: what to call it in errors and logs.
    """

    id: str
    payload: bytes
    step: str


class StateDirective(NamedTuple):
    """What a task shall do with the partition of a keyed state that is pinned to its slot.

    The worker must hold ``base`` (a version number); when it does not, it loads ``restore``
    (a snapshot and the changes after it), or answers ``state_missing`` when that is None.
    A worker that holds ``target`` already does not update again.
    changelog: write the touched keys as a block. sweep_bytes: with so much of a snapshot in it, 0 for none;
        sweep: version at which the snapshot began that is to go on, 0 to begin one.
    memory_bytes_max: the most that all states of the worker take in memory, the rest on disk; 0 keeps
        this one in memory as a whole. own_bound: it is for this state alone.
    """

    state_id: str
    partition: int
    base: int
    target: int
    restore: tuple[BlockRef, ...] | None = None
    changelog: bool = False
    sweep_bytes: int = 0
    sweep: int = 0
    memory_bytes_max: int = 0
    own_bound: bool = False


class StateReport(NamedTuple):
    """What became of a :class:`StateDirective`: the version held now, and the block that was written.

    cache_bytes, disk_bytes: what it takes, of a state on disk. hits, misses: keys that were asked for
        and found in the cache, or looked for on disk; since the worker has it.
    sweep: version at which the snapshot began of which ``swept_bytes`` are in the block, 0 for none.
    sweep_done: it is complete, with the blocks since then.
    """

    version: int
    block: BlockRef | None
    is_snapshot: bool
    keys: int
    cache_bytes: int = 0
    disk_bytes: int = 0
    hits: int = 0
    misses: int = 0
    sweep: int = 0
    swept_bytes: int = 0
    sweep_done: bool = False


class Task(NamedTuple):
    """One partition of one stage of one batch.

    inputs: per leaf of the program the blocks to read, in order.
    slot: the slot that must run it (state is pinned there), or None for any.
    partition: index in the stage, given to functions that ask for it and used in errors.
    batch: label of the batch, or None outside of a stream.
    params: plain values for the program (shuffle width, seeds …).
    states: the keyed states that the program touches, in the order of its plan.
    dropped_broadcasts: (serial, broadcast) pairs, rising: copies that a worker shall drop once.
    attempt: 1 for the first try; set by the executor.
    spill: write large outputs on disk.
    """

    id: int
    program: str
    inputs: tuple[tuple[BlockRef, ...], ...]
    partition: int
    slot: int | None = None
    batch: int | None = None
    params: Mapping[str, Any] = {}
    states: tuple[StateDirective, ...] = ()
    dropped_broadcasts: tuple[tuple[int, int], ...] = ()
    attempt: int = 1
    spill: bool = False


class TaskFailure(NamedTuple):
    """Why a task failed, as plain text: no exception object crosses a process boundary.

    kind: ``user`` (a StepError), ``key`` (BadKeyError), ``unpicklable`` (a result could not be
        pickled), ``released`` (BlocksReleasedError), ``storage`` (StorageError), ``corrupt``
        (CorruptionError), ``poison`` (it killed its workers), ``deadline``, ``lost`` or ``internal``.
    """

    kind: str
    step: str
    error_type: str
    message: str
    record: str | None = None
    traceback: str = ""


class TaskResult(NamedTuple):
    """What one task gave.

    outputs: blocks of its main output: one, or one for each reducer of a shuffle.
    value: pickled result of an action, to be unpickled away from the control path.
    sides: further outputs by name (``dead-letters``, ``snapshot``).
    records_in, records_out: what was read and written, -1 where not counted.
    accumulators: pickled ``{id: partial value}``, empty when none was touched.
    counters: engine counters such as ``skipped`` and ``dead_lettered``, by step.
    tried: records that steps took which may give them up, by step.
    seconds: time in the worker.
    """

    task: int
    failure: TaskFailure | None = None
    outputs: tuple[BlockRef, ...] = ()
    value: bytes = b""
    sides: Mapping[str, BlockRef] = {}
    records_in: int = -1
    records_out: int = -1
    accumulators: bytes = b""
    counters: Mapping[str, int] = {}
    tried: Mapping[str, int] = {}
    states: tuple[StateReport, ...] = ()
    state_missing: bool = False
    seconds: float = 0.0
    slot: int = 0

    def blocks(self) -> Iterator[BlockRef]:
        """All blocks that the task wrote."""
        yield from self.outputs
        yield from self.sides.values()
        yield from (report.block for report in self.states if report.block is not None)


@dataclass(frozen=True, slots=True)
class ExecutorStatistics:
    """Figures of an executor since its start.

    results_stale: replies dropped because their attempt was over; output_lines_dropped: lines that
    workers printed over the permitted rate; poison_records were given up because they killed their worker.
    """

    slots: int
    tasks_running: int = 0
    tasks_queued: int = 0
    tasks_done: int = 0
    tasks_failed: int = 0
    tasks_retried: int = 0
    workers_started: int = 0
    workers_lost: int = 0
    worker_rss_bytes: tuple[int, ...] = field(default=())
    workers_recycled: int = 0
    results_stale: int = 0
    output_lines_dropped: int = 0
    poison_records: int = 0


class Executor(abc.ABC):
    """Runs tasks in ``slots`` places; an async context manager over one event loop."""

    name: str = "executor"

    @property
    @abc.abstractmethod
    def slots(self) -> int:
        """How many tasks run at the same time; slot numbers are ``0 … slots - 1``."""

    @property
    def volatile_workers(self) -> bool:
        """True when a worker can die apart from the driver, so that state needs a changelog."""
        return True

    @abc.abstractmethod
    async def start(self) -> None:
        """Make all slots ready. Raises WorkerStartError."""

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Stop all work and free everything; may be called twice and during start."""

    @abc.abstractmethod
    async def run(self, program: Program, tasks: Sequence[Task]) -> list[TaskResult]:
        """Run tasks of one program; gives their results in the order of ``tasks``.

        A task that a lost worker ran is tried again on a fresh one within the budget of
        :class:`~aiostream_engine.config.PoolConfig`; failures of user code come back as
        ``TaskResult.failure`` and are not retried. Cancelling the call abandons its tasks: those
        that run are finished or killed, and their late results are dropped.
        """

    @abc.abstractmethod
    def statistics(self) -> ExecutorStatistics:
        """Figures since the start."""

    async def __aenter__(self) -> Executor:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
