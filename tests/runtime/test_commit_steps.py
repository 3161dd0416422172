"""Any order of ticks, tasks, deaths, sinks and disks: both pure machines with the steps of a commit.

The shell of this test performs what the machine of batches and the machine of the pool say, in the way
of ``StreamDriver`` and ``CommitProtocol``, one small step at a time; hypothesis chooses the steps.
"""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aiostream_engine.config import PoolConfig
from aiostream_engine.executors.process.instructions import (
    Break,
    Complete,
    Fail,
    Instruction,
    Send,
    StartWorker,
    StopWorker,
    Terminate,
)
from aiostream_engine.executors.process.machine import JobSpec, Machine
from aiostream_engine.runtime.machine import Batch, BatchMachine, BatchPhase, Commit, Run
from aiostream_engine.runtime.machine import Instruction as Order
from aiostream_engine.types import BatchTime

SLOTS = 2
TASKS = 3


class CommitSteps(RuleBasedStateMachine):
    """What is outside: the journal (``durable``) and what readers see (``published``), in order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.label = 0
        self.missed = 0
        self.stopped = False
        self.cut_ids: list[int] = []
        self.open: dict[int, set[int]] = {}  # batch -> its jobs without a result
        self.runs: dict[int, int] = {}  # batch -> run of the pool
        self.batch_of: dict[int, Batch] = {}  # job -> its batch
        self.cut_batches: dict[int, Batch] = {}  # by id
        self.accepted: dict[int, int] = {}  # job -> results taken
        self.computed: dict[int, Batch] = {}  # all tasks done, sinks not yet staged
        self.queue: deque[tuple[deque[Batch], list[Batch]]] = deque()  # to commit, then to start
        self.committing: Batch | None = None  # its record is durable, its sinks are not published
        self.durable: list[int] = []
        self.published: list[int] = []
        self.failed: set[int] = set()

    @initialize(in_flight=st.integers(1, 4), concurrent=st.integers(1, 3), attempts=st.integers(1, 3))
    def begin(self, in_flight: int, concurrent: int, attempts: int) -> None:
        self.in_flight, self.concurrent, self.attempts = in_flight, concurrent, attempts
        self.m = BatchMachine(in_flight, concurrent, zero_ms=0)
        config = PoolConfig(task_attempts_max=attempts, worker_restarts_max=100_000)
        self.pool = Machine(SLOTS, config, validate=True)
        self.generation = [1] * SLOTS
        self.starting: set[int] = set(range(SLOTS))
        self.sent: dict[int, Send] = {}  # slot -> what its worker works at
        self.dying: set[int] = set()
        self.pool.open(0.0)

    # -- performing ----------------------------------------------------------------------------

    def obey(self, orders: list[Order]) -> None:
        commits = deque(item.batch for item in orders if isinstance(item, Commit))
        starts = [item.batch for item in orders if isinstance(item, Run)]
        if commits:
            self.queue.append((commits, starts))
        else:
            self.start(starts)

    def start(self, batches: list[Batch]) -> None:
        for batch in batches:
            if self.pool.broken is not None:  # the pool refuses the call
                self.fail(batch)
                continue
            specs = [JobSpec(n % SLOTS if n else None, "step") for n in range(TASKS)]
            run, first, instructions = self.pool.submit("program", specs, self.now)
            self.runs[batch.id] = run
            self.open[batch.id] = set(range(first, first + TASKS))
            self.batch_of.update(dict.fromkeys(self.open[batch.id], batch))
            self.perform(instructions)

    def perform(self, instructions: list[Instruction]) -> None:
        for item in instructions:
            match item:
                case Send():
                    assert item.slot not in self.sent, "two attempts on one worker"
                    self.sent[item.slot] = item
                case StartWorker(slot, generation):
                    self.generation[slot] = generation
                    self.starting.add(slot)
                case Terminate(slot) | StopWorker(slot):
                    self.dying.add(slot)
                case Complete(job, outcome):
                    self.settle(job, good=bool(outcome))
                case Fail(job):
                    self.settle(job, good=False)
                case Break():  # ends all calls
                    for batch_id in list(self.open):
                        self.fail(self.cut_batches[batch_id])

    def settle(self, job: int, *, good: bool) -> None:
        self.accepted[job] = self.accepted.get(job, 0) + 1
        batch = self.batch_of[job]
        jobs = self.open.get(batch.id)
        if jobs is None:
            raise AssertionError("a result of a run that was given up")
        jobs.discard(job)
        if not good:
            self.give_up(batch)
        elif not jobs:
            del self.open[batch.id]
            self.computed[batch.id] = batch

    def give_up(self, batch: Batch) -> None:
        self.open.pop(batch.id, None)
        self.perform(self.pool.cancel(self.runs[batch.id], self.now))
        self.fail(batch)

    def fail(self, batch: Batch) -> None:
        self.open.pop(batch.id, None)
        self.failed.add(batch.id)
        self.obey(self.m.failed(batch))

    # -- rules ---------------------------------------------------------------------------------

    @rule(gap=st.integers(1, 3))
    def tick(self, gap: int) -> None:
        self.label += 1000 * gap
        if self.stopped:
            return
        if not self.m.may_cut:
            self.missed += 1
            return
        batch, orders = self.m.cut(BatchTime(self.label), self.missed)
        assert batch.ticks_missed == self.missed
        self.missed = 0
        self.cut_ids.append(batch.id)
        self.cut_batches[batch.id] = batch
        self.obey(orders)

    @rule(slot=st.integers(0, SLOTS - 1))
    def worker_ready(self, slot: int) -> None:
        if slot in self.starting:
            self.starting.discard(slot)
            self.perform(self.pool.ready(slot, self.generation[slot], self.now))

    @rule(slot=st.integers(0, SLOTS - 1), good=st.sampled_from([True, True, True, False]))
    def task_done_or_failed(self, slot: int, good: bool) -> None:
        if slot in self.sent and slot not in self.dying:
            order = self.sent.pop(slot)
            self.perform(self.pool.result(slot, self.generation[slot], order.number, good, self.now))

    @rule(slot=st.integers(0, SLOTS - 1), number=st.integers(1, 30))
    def stale_or_double_result(self, slot: int, number: int) -> None:
        """B14: a completion that came before, or of an attempt that is over."""
        if slot not in self.sent or self.sent[slot].number != number:
            before = self.pool.statistics().results_stale
            assert self.pool.result(slot, self.generation[slot], number, True, self.now) == []
            assert self.pool.statistics().results_stale == before + 1

    @rule(slot=st.integers(0, SLOTS - 1))
    def worker_lost(self, slot: int) -> None:
        if slot not in self.starting:
            self.sent.pop(slot, None)
            self.dying.discard(slot)
            self.perform(self.pool.exited(slot, self.generation[slot], "SIGKILL", self.now))

    @rule()
    def time_passes(self) -> None:
        self.now += 2.0
        self.perform(self.pool.tick(self.now))

    @precondition(lambda self: self.computed)
    @rule(choice=st.integers(0, 9))
    def sink_ack(self, choice: int) -> None:
        """All sinks of a batch have staged: its outputs are over."""
        batch = self.computed.pop(sorted(self.computed)[choice % len(self.computed)])
        self.obey(self.m.done(batch))

    @precondition(lambda self: self.computed)
    @rule(choice=st.integers(0, 9))
    def sink_fail(self, choice: int) -> None:
        batch = self.computed.pop(sorted(self.computed)[choice % len(self.computed)])
        self.failed.add(batch.id)
        self.obey(self.m.failed(batch))

    def next_commit(self) -> Batch | None:
        """The batch whose record is to be written; those behind a failed one never are."""
        while self.queue:
            commits, starts = self.queue[0]
            if commits and self.m.is_blocked(commits[0]):
                self.queue.popleft()  # and nothing that follows happens
            elif commits:
                return commits[0]
            else:
                self.queue.popleft()
                self.start(starts)
        return None

    @precondition(lambda self: self.committing is None and self.queue)
    @rule()
    def checkpoint_ack(self) -> None:
        batch = self.next_commit()
        if batch is not None:
            self.queue[0][0].popleft()
            self.durable.append(batch.id)
            self.committing = batch

    @precondition(lambda self: self.committing is None and self.queue)
    @rule()
    def checkpoint_fail(self) -> None:
        batch = self.next_commit()
        if batch is not None:
            self.queue.popleft()
            self.failed.add(batch.id)
            self.obey(self.m.commit_failed(batch))

    @precondition(lambda self: self.committing is not None)
    @rule(good=st.sampled_from([True, True, True, False]))
    def publish(self, good: bool) -> None:
        batch, self.committing = self.committing, None
        assert batch is not None
        if good:
            self.published.append(batch.id)
            if not self.queue[0][0]:
                self.start(self.queue.popleft()[1])
        else:  # true, and published again by the next driver
            self.queue.popleft()
            self.failed.add(batch.id)
            self.obey(self.m.commit_failed(batch))

    @rule()
    def stop(self) -> None:
        self.stopped = True

    # -- what always holds -----------------------------------------------------------------------

    @invariant()
    def commits_are_in_order_and_without_a_gap(self) -> None:
        assert self.durable == list(range(1, len(self.durable) + 1))
        assert set(self.durable) <= set(self.cut_ids)

    @invariant()
    def nothing_is_published_before_its_commit_and_nothing_out_of_order(self) -> None:
        assert self.published == self.durable[: len(self.published)]

    @invariant()
    def behind_a_failed_batch_nothing_becomes_true(self) -> None:
        first = min(self.failed, default=None)
        assert first is None or all(number <= first for number in self.durable)

    @invariant()
    def one_result_of_each_task_is_taken(self) -> None:
        assert all(count == 1 for count in self.accepted.values())

    @invariant()
    def bounds_hold(self) -> None:
        if hasattr(self, "m"):
            assert len(self.m.batches) <= self.in_flight
            running = [batch for batch in self.m.batches if batch.phase is BatchPhase.RUNNING]
            assert len(running) <= self.concurrent
            assert len(self.open) <= self.concurrent
            assert self.pool.statistics().tasks_running <= SLOTS
            assert all(order.attempt <= self.attempts for order in self.sent.values())

    def teardown(self) -> None:
        """After a stop without a further failure all that was cut comes true: nothing hangs."""
        if hasattr(self, "m"):
            self.stopped = True
            for _ in range(400):
                self.step_on()
            if not self.failed:
                assert self.published == self.durable == self.cut_ids
            assert self.m.idle

    def step_on(self) -> None:
        for slot in range(SLOTS):
            if slot in self.dying:
                self.worker_lost(slot)
            self.worker_ready(slot)
            self.task_done_or_failed(slot, True)
        self.time_passes()
        for number in sorted(self.computed):
            self.obey(self.m.done(self.computed.pop(number)))
        if self.committing is not None:
            self.publish(True)
        elif self.queue:
            self.checkpoint_ack()


CommitSteps.TestCase.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
TestCommitSteps = CommitSteps.TestCase
