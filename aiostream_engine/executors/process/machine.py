"""Who runs what: the scheduling machine of the process pool, pure and synchronous.

Events go in as method calls with the time; instructions come out and the asyncio shell performs
them. Nothing here touches a process, a socket or a clock, so that every history of crashes,
deadlines and cancellations can be tested in microseconds.

The life of a slot::

    EMPTY --start--> STARTING --ready--> IDLE <--result-- BUSY
      ^                  |                |  --send-->     |
      |                  v                v                v
      +---- exited ---- DYING  <--- deadline, recycling, cancellation
"""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...config import PoolConfig
from ...errors import InternalError
from ..probe import InHand
from .instructions import (
    Abort,
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
from .suspicion import Suspicion, Verdict

__all__ = ["JobSpec", "Machine", "MachineStatistics", "SlotState"]

BACKOFF_S = 0.05
BACKOFF_MAX_S = 1.0
START_FAILURES_MAX = 5


# -- state -----------------------------------------------------------------------------------


class SlotState(enum.Enum):
    """Where a slot is in its life."""

    EMPTY = "empty"
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    DYING = "dying"


class JobSpec(NamedTuple):
    """A task as the machine sees it: pinned to ``slot``, or free when that is None."""

    slot: int | None
    step: str


@dataclass(slots=True)
class _Job:
    number: int
    run: int
    program: str
    slot: int | None
    step: str
    deaths: Suspicion


@dataclass(slots=True)
class _Attempt:
    number: int
    job: _Job
    deadline: float | None
    abandoned: bool = False


@dataclass(slots=True)
class _Slot:
    index: int
    state: SlotState = SlotState.EMPTY
    generation: int = 0
    due: float = 0.0  # EMPTY: when to start; STARTING: until when it must be ready
    attempt: _Attempt | None = None
    cause: str | None = None  # why it is DYING
    blameless: bool = False  # it dies on our own wish: not counted against the restart budget
    was_ready: bool = False  # in this generation
    deaths_in_row: int = 0
    start_failures: int = 0
    tasks: int = 0
    rss_bytes: int = 0
    programs: OrderedDict[str, None] = field(default_factory=OrderedDict)


class _Run:
    """The queued jobs of one call, free ones and pinned ones apart."""

    def __init__(self, slots: int) -> None:
        self.free: deque[_Job] = deque()
        self.pinned: tuple[deque[_Job], ...] = tuple(deque() for _ in range(slots))
        self.open = 0  # jobs neither completed nor failed

    def queue_of(self, job: _Job) -> deque[_Job]:
        return self.free if job.slot is None else self.pinned[job.slot]

    def next_for(self, slot: int) -> _Job | None:
        for queue in (self.pinned[slot], self.free):
            if queue:
                return queue.popleft()
        return None

    def queued(self) -> Iterable[_Job]:
        yield from self.free
        for queue in self.pinned:
            yield from queue


@dataclass(frozen=True, slots=True)
class MachineStatistics:
    """Figures since the start; ``results_stale`` were dropped since their attempt was over."""

    tasks_running: int
    tasks_queued: int
    tasks_done: int
    tasks_failed: int
    tasks_retried: int
    workers_started: int
    workers_lost: int
    workers_recycled: int
    results_stale: int
    worker_rss_bytes: tuple[int, ...]
    poison_records: int


@dataclass(slots=True)
class _Counts:
    done: int = 0
    failed: int = 0
    retried: int = 0
    started: int = 0
    lost: int = 0
    recycled: int = 0
    stale: int = 0
    convicted: int = 0


class Machine:
    """Schedules jobs on the workers of a pool.

    Parameters
    ----------
    slots: number of workers.
    config: deadlines, budgets and limits.
    validate: check the invariants after each event and raise InternalError; for tests.

    Every event method takes the time ``now`` in seconds, which never goes back, and returns
    instructions in the order in which they must be performed.
    """

    def __init__(self, slots: int, config: PoolConfig, *, validate: bool = False) -> None:
        self._config = config
        self._validating = validate
        self._slots = [_Slot(index) for index in range(slots)]
        self._runs: OrderedDict[int, _Run] = OrderedDict()
        self._queued = 0
        self._last_run = self._last_job = self._last_number = 0
        self._restarts: deque[float] = deque()
        self._counts = _Counts()
        self._opened = False  # all slots were ready once
        self._ready_once: set[int] = set()
        self.broken: str | None = None
        self._out: list[Instruction] = []

    # -- events ------------------------------------------------------------------------------

    def open(self, now: float) -> list[Instruction]:
        """Start all workers."""
        for slot in self._slots:
            self._start(slot, now)
        return self._flush()

    def submit(
        self, program: str, specs: Sequence[JobSpec], now: float
    ) -> tuple[int, int, list[Instruction]]:
        """Queue the jobs of one call; gives the number of the run and of its first job.

        Jobs are numbered onwards from the first in the order of ``specs``.
        """
        self._last_run += 1
        run = self._runs[self._last_run] = _Run(len(self._slots))
        first = self._last_job + 1
        for spec in specs:
            self._last_job += 1
            deaths = Suspicion(self._config.task_attempts_max, self._config.poison_records_max)
            job = _Job(self._last_job, self._last_run, program, spec.slot, spec.step, deaths)
            run.queue_of(job).append(job)
        run.open = len(specs)
        self._queued += len(specs)
        if not specs:
            del self._runs[self._last_run]
        self._dispatch(now)
        return self._last_run, first, self._flush()

    def ready(self, slot: int, generation: int, now: float) -> list[Instruction]:
        """A worker finished its handshake."""
        place = self._slots[slot]
        if place.generation == generation and place.state is SlotState.STARTING:
            place.state = SlotState.IDLE
            place.was_ready = True
            place.start_failures = 0
            self._ready_once.add(slot)
            self._opened = self._opened or len(self._ready_once) == len(self._slots)
            self._dispatch(now)
        return self._flush()

    def result(
        self,
        slot: int,
        generation: int,
        number: int,
        outcome: object,
        now: float,
        *,
        failed: bool = False,
        rss_bytes: int = 0,
        last: bool = False,
    ) -> list[Instruction]:
        """A worker replied to attempt ``number``; ignored and counted when that is over already.

        last: the worker was found dead with this reply in the pipe; it gets no further job.
        """
        place = self._slots[slot]
        if place.generation == generation and rss_bytes:
            place.rss_bytes = rss_bytes
        attempt = place.attempt
        current = place.generation == generation and place.state is SlotState.BUSY
        if attempt is None or not current or attempt.number != number:
            self._counts.stale += 1
            return self._flush()
        place.attempt, place.state = None, SlotState.IDLE
        place.deaths_in_row = 0
        place.tasks += 1
        if attempt.abandoned:
            self._counts.stale += 1
        else:
            self._counts.done += not failed
            self._counts.failed += failed
            self._out.append(Complete(attempt.job.number, outcome))
            self._close_job(attempt.job)
        if last:
            place.state = SlotState.DYING
        elif self._worn_out(place):
            self._recycle(place)
        self._dispatch_slot(place, now)
        return self._flush()

    def exited(
        self, slot: int, generation: int, reason: str, now: float, hand: InHand | None = None
    ) -> list[Instruction]:
        """A worker process is gone for good; ``reason`` names its signal or exit code.

        hand: what it had in hand, when its attempt was watched.
        """
        place = self._slots[slot]
        if place.generation != generation or place.state is SlotState.EMPTY:
            return self._flush()
        attempt, wished, ready = place.attempt, place.blameless, place.was_ready
        text = _account(place, reason, hand)
        if not wished or place.cause is not None:
            self._counts.lost += 1
            self._out.append(Lost(slot, text))
        self._vacate(place)
        if attempt is not None and not attempt.abandoned:
            self._retry_or_fail(attempt.job, text, hand, deadline=wished)
        if wished:
            place.due = now
        else:
            self._punish(place, text, now, ready=ready)
        if place.due <= now:
            self._start(place, now)
        self._dispatch(now)
        return self._flush()

    def condemn(self, slot: int, generation: int, cause: str, now: float) -> list[Instruction]:
        """A worker does not keep to the protocol: it is killed, and its job tried again elsewhere."""
        place = self._slots[slot]
        alive = place.state not in (SlotState.EMPTY, SlotState.DYING)
        if place.generation == generation and alive:
            self._terminate(place, cause, blameless=False)
        return self._flush()

    def cancel(self, run: int, now: float) -> list[Instruction]:
        """Abandon a run: its queued jobs are dropped, running ones may finish within the grace time."""
        entry = self._runs.pop(run, None)
        if entry is None:
            return self._flush()
        self._queued -= sum(1 for _ in entry.queued())
        for place in self._slots:
            attempt = place.attempt
            if attempt is not None and attempt.job.run == run:
                attempt.abandoned = True
                until = now + self._config.term_grace_s
                attempt.deadline = until if attempt.deadline is None else min(until, attempt.deadline)
        return self._flush()

    def tick(self, now: float) -> list[Instruction]:
        """Act on what is due; see :meth:`next_due`."""
        for place in self._slots:
            if place.state is SlotState.EMPTY and place.due <= now:
                self._start(place, now)
            elif place.state is SlotState.STARTING and place.due <= now:
                self._terminate(place, f"not ready within {self._config.start_timeout_s} s", blameless=False)
            elif place.state is SlotState.BUSY and place.attempt is not None:
                self._check_deadline(place, place.attempt, now)
        return self._flush()

    def next_due(self) -> float | None:
        """When :meth:`tick` has something to do next, None for never."""
        if self.broken is not None:
            return None
        dues = [due for place in self._slots if (due := self._due_of(place)) is not None]
        return min(dues, default=None)

    @property
    def opened(self) -> bool:
        """True once all workers have been ready."""
        return self._opened

    def statistics(self) -> MachineStatistics:
        """Figures since the start."""
        counts = self._counts
        return MachineStatistics(
            tasks_running=sum(1 for place in self._slots if place.attempt is not None),
            tasks_queued=self._queued,
            tasks_done=counts.done,
            tasks_failed=counts.failed,
            tasks_retried=counts.retried,
            workers_started=counts.started,
            workers_lost=counts.lost,
            workers_recycled=counts.recycled,
            results_stale=counts.stale,
            worker_rss_bytes=tuple(place.rss_bytes for place in self._slots),
            poison_records=counts.convicted,
        )

    # -- dispatch ----------------------------------------------------------------------------

    def _dispatch(self, now: float) -> None:
        if self._queued:
            for place in self._slots:
                self._dispatch_slot(place, now)

    def _dispatch_slot(self, place: _Slot, now: float) -> None:
        if place.state is not SlotState.IDLE or not self._queued or self.broken is not None:
            return
        for number, run in self._runs.items():
            job = run.next_for(place.index)
            if job is not None:
                self._runs.move_to_end(number)  # the next turn is another run's
                self._send(place, job, now)
                return

    def _send(self, place: _Slot, job: _Job, now: float) -> None:
        self._queued -= 1
        self._last_number += 1
        timeout = self._config.task_timeout_s
        deadline = None if timeout is None else now + timeout
        place.attempt = _Attempt(self._last_number, job, deadline)
        place.state = SlotState.BUSY
        known = job.program in place.programs
        place.programs[job.program] = None
        place.programs.move_to_end(job.program)
        forget = []
        while len(place.programs) > self._config.programs_cached_max:
            forget.append(place.programs.popitem(last=False)[0])
        self._out.append(
            Send(
                place.index,
                job.number,
                self._last_number,
                job.deaths.died + 1,
                not known,
                tuple(forget),
                job.deaths.probe(),
            )
        )

    # -- deaths and replacements -------------------------------------------------------------

    def _start(self, place: _Slot, now: float) -> None:
        if self.broken is not None:
            return
        place.generation += 1
        place.state = SlotState.STARTING
        place.due = now + self._config.start_timeout_s
        self._counts.started += 1
        self._out.append(StartWorker(place.index, place.generation))

    def _terminate(self, place: _Slot, cause: str, *, blameless: bool) -> None:
        place.state = SlotState.DYING
        place.cause, place.blameless = cause, blameless
        self._out.append(Terminate(place.index, cause))

    def _recycle(self, place: _Slot) -> None:
        self._counts.recycled += 1
        place.state = SlotState.DYING
        place.cause, place.blameless = None, True
        self._out.append(StopWorker(place.index))

    def _worn_out(self, place: _Slot) -> bool:
        tasks_max, rss_bytes_max = self._config.worker_tasks_max, self._config.worker_rss_bytes_max
        return (tasks_max is not None and place.tasks >= tasks_max) or (
            rss_bytes_max is not None and place.rss_bytes > rss_bytes_max
        )

    def _check_deadline(self, place: _Slot, attempt: _Attempt, now: float) -> None:
        if attempt.deadline is None or attempt.deadline > now:
            return
        if attempt.abandoned:
            cause = f"step {attempt.job.step!r} was cancelled and did not end within the grace time"
        else:
            cause = (
                f"step {attempt.job.step!r} ran longer than task_timeout_s = {self._config.task_timeout_s}"
            )
        self._terminate(place, cause, blameless=True)

    def _vacate(self, place: _Slot) -> None:
        place.state = SlotState.EMPTY
        place.attempt = None
        place.cause, place.blameless = None, False
        place.was_ready = False
        place.tasks = place.rss_bytes = 0
        place.programs.clear()

    def _retry_or_fail(self, job: _Job, reason: str, hand: InHand | None, *, deadline: bool) -> None:
        verdict = job.deaths.add(reason, hand, hung=deadline)
        if verdict is Verdict.FAIL:
            self._counts.failed += 1
            message = job.deaths.account(job.step if hand is None else hand.step, hung=deadline)
            self._out.append(Fail(job.number, "deadline" if deadline else "poison", message, hand))
            self._close_job(job)
            return
        if verdict is Verdict.CONVICT and hand is not None:
            self._counts.convicted += 1
            self._out.append(Convicted(job.number, hand.step, hand.record, job.deaths.convicts[-1].message))
        self._counts.retried += 1
        self._queued += 1
        self._runs[job.run].queue_of(job).appendleft(job)

    def _punish(self, place: _Slot, reason: str, now: float, *, ready: bool) -> None:
        place.deaths_in_row += 1
        place.start_failures += 0 if ready else 1
        wait = BACKOFF_S * 2.0 ** min(place.deaths_in_row - 2, 30) if place.deaths_in_row > 1 else 0.0
        place.due = now + min(wait, BACKOFF_MAX_S)
        self._spend_restart(now)
        self._judge(place, reason)

    def _spend_restart(self, now: float) -> None:
        self._restarts.append(now)
        while self._restarts[0] < now - self._config.worker_restarts_window_s:
            self._restarts.popleft()

    def _judge(self, place: _Slot, reason: str) -> None:
        if place.start_failures and not self._opened:
            self._break(f"worker {place.index} did not start: {reason}")
        elif place.start_failures >= START_FAILURES_MAX:
            self._break(f"worker {place.index} did not start {place.start_failures} times in a row: {reason}")
        elif len(self._restarts) > self._config.worker_restarts_max:
            self._break(
                f"{len(self._restarts)} workers were lost within {self._config.worker_restarts_window_s} s, "
                f"more than worker_restarts_max = {self._config.worker_restarts_max}; the last: {reason}"
            )

    def _break(self, message: str) -> None:
        if self.broken is not None:
            return
        self.broken = message
        self._out.append(Break(message, not self._opened))
        for place in self._slots:
            if place.attempt is not None:
                if not place.attempt.abandoned:
                    self._out.append(Abort(place.attempt.job.number))
                place.attempt.abandoned = True
        for run in self._runs.values():
            self._out.extend(Abort(job.number) for job in run.queued())
        self._runs.clear()
        self._queued = 0

    def _close_job(self, job: _Job) -> None:
        run = self._runs[job.run]
        run.open -= 1
        if run.open == 0:
            del self._runs[job.run]

    def _due_of(self, place: _Slot) -> float | None:
        if place.state in (SlotState.EMPTY, SlotState.STARTING):
            return place.due
        if place.state is SlotState.BUSY and place.attempt is not None:
            return place.attempt.deadline
        return None

    # -- output and invariants ---------------------------------------------------------------

    def _flush(self) -> list[Instruction]:
        out, self._out = self._out, []
        if self._validating:
            self._validate()
        return out

    def _validate(self) -> None:
        queued = [job.number for run in self._runs.values() for job in run.queued()]
        running = [place.attempt for place in self._slots if place.attempt is not None]
        live = [attempt.job.number for attempt in running if not attempt.abandoned]
        _check(len(queued) == self._queued, "the count of queued jobs is off")
        _check(len(set(queued + live)) == len(queued) + len(live), "a job is in two places")
        _check(sum(run.open for run in self._runs.values()) == len(queued) + len(live), "a job was mislaid")
        for place in self._slots:
            busy = place.state is SlotState.BUSY
            _check(not busy or place.attempt is not None, "a busy slot has no attempt")
            _check(
                place.attempt is None or busy or place.state is SlotState.DYING, "an attempt has no worker"
            )
            _check(len(place.programs) <= self._config.programs_cached_max, "too many programs in a worker")
            idle = place.state is SlotState.IDLE and self.broken is None
            waiting = any(run.free or run.pinned[place.index] for run in self._runs.values())
            _check(not (idle and waiting), "a slot idles while it has work")


def _account(place: _Slot, reason: str, hand: InHand | None) -> str:
    """Why a worker is gone, in words: its exit, and what it did or why we killed it."""
    if place.cause is not None:
        return f"{place.cause} ({reason})"
    if place.attempt is not None:
        # A stage is called after its last step; what a watched worker had in hand says more.
        step = place.attempt.job.step if hand is None else hand.step
        return f"{reason} while it ran step {step!r}"
    return reason


def _check(holds: bool, text: str) -> None:
    if not holds:
        raise InternalError(f"process pool: {text}")
