from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aiostream_engine.config import PoolConfig
from aiostream_engine.executors.probe import InHand
from aiostream_engine.executors.process.instructions import (
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
from aiostream_engine.executors.process.machine import BACKOFF_MAX_S, START_FAILURES_MAX, JobSpec, Machine


def opened(slots: int = 2, **options: Any) -> Machine:
    machine = Machine(slots, PoolConfig(**options), validate=True)
    machine.open(0.0)
    for slot in range(slots):
        machine.ready(slot, 1, 0.0)
    return machine


def submit(machine: Machine, *slots: int | None, program: str = "p", now: float = 0.0) -> list[Instruction]:
    return machine.submit(program, [JobSpec(slot, "step") for slot in slots], now)[2]


def sends(instructions: list[Instruction]) -> list[Send]:
    return [instruction for instruction in instructions if isinstance(instruction, Send)]


def kinds(instructions: list[Instruction]) -> list[type]:
    return [type(instruction) for instruction in instructions]


# -- dispatch --------------------------------------------------------------------------------


def test_opening_starts_each_worker_once() -> None:
    assert Machine(3, PoolConfig()).open(0.0) == [StartWorker(slot, 1) for slot in range(3)]


def test_jobs_wait_for_the_handshake() -> None:
    machine = Machine(1, PoolConfig(), validate=True)
    machine.open(0.0)
    assert submit(machine, None) == []
    assert kinds(machine.ready(0, 1, 1.0)) == [Send]


def test_free_jobs_go_to_any_idle_slot_and_one_at_a_time() -> None:
    machine = opened(2)
    sent = sends(submit(machine, None, None, None))
    assert [(send.slot, send.job) for send in sent] == [(0, 1), (1, 2)]
    complete, send = machine.result(1, 1, sent[1].number, "r", 1.0)
    assert complete == Complete(2, "r")
    assert isinstance(send, Send)
    assert (send.slot, send.job) == (1, 3)


def test_pinned_jobs_go_to_their_slot_only() -> None:
    machine = opened(2)
    (send,) = sends(submit(machine, 1, 1))
    assert send.slot == 1
    (_, following) = machine.result(1, 1, send.number, None, 1.0)
    assert isinstance(following, Send)
    assert following.slot == 1


def test_a_pinned_job_goes_before_free_ones_of_its_run() -> None:
    machine = opened(1)
    (first,) = sends(submit(machine, None, None, 0))
    assert first.job == 3


def test_runs_take_turns() -> None:
    machine = opened(1)
    (send,) = sends(submit(machine, None, None, None))
    submit(machine, None, None)
    order = [send.job]
    for _ in range(4):
        (send,) = sends(machine.result(0, 1, send.number, None, 1.0))
        order.append(send.job)
    assert order == [1, 2, 4, 3, 5]


def test_a_program_is_sent_once_a_worker_and_evicted_in_order_of_use() -> None:
    machine = opened(1, programs_cached_max=2)
    told = []
    for program in "aabcab":
        (send,) = sends(submit(machine, None, program=program))
        told.append((program, send.with_program, send.forget))
        machine.result(0, 1, send.number, None, 0.0)
    assert told == [
        ("a", True, ()),
        ("a", False, ()),
        ("b", True, ()),
        ("c", True, ("a",)),
        ("a", True, ("b",)),
        ("b", True, ("c",)),
    ]


def test_a_replacement_is_told_the_programs_anew() -> None:
    machine = opened(1)
    submit(machine, None)
    machine.exited(0, 1, "killed", 1.0)
    (send,) = sends(machine.ready(0, 2, 2.0))
    assert send.with_program


# -- stale messages --------------------------------------------------------------------------


def test_a_second_completion_of_a_job_is_ignored_and_counted() -> None:
    """B14"""
    machine = opened(1)
    (send,) = sends(submit(machine, None))
    assert kinds(machine.result(0, 1, send.number, None, 1.0)) == [Complete]
    assert machine.result(0, 1, send.number, None, 1.0) == []
    assert machine.statistics().results_stale == 1
    assert machine.statistics().tasks_done == 1


def test_a_reply_after_the_deadline_is_ignored() -> None:
    """A23"""
    machine = opened(1, task_timeout_s=5.0)
    (send,) = sends(submit(machine, None))
    assert kinds(machine.tick(5.0)) == [Terminate]
    assert machine.result(0, 1, send.number, None, 5.1) == []
    assert machine.statistics().results_stale == 1


def test_messages_of_an_earlier_generation_are_ignored() -> None:
    machine = opened(1)
    submit(machine, None)
    machine.exited(0, 1, "killed", 1.0)
    assert machine.ready(0, 1, 1.0) == []
    assert machine.exited(0, 1, "killed", 1.0) == []
    assert machine.condemn(0, 1, "rubbish", 1.0) == []
    assert kinds(machine.ready(0, 2, 1.0)) == [Send]


# -- deaths ----------------------------------------------------------------------------------


def test_a_lost_worker_is_replaced_and_its_job_goes_first_in_the_next_idle_slot() -> None:
    """A1"""
    machine = opened(2)
    one, two = sends(submit(machine, None, None, None))
    assert machine.exited(0, 1, "SIGKILL", 1.0) == [
        Lost(0, "SIGKILL while it ran step 'step'"),
        StartWorker(0, 2),
    ]
    _, again = machine.result(1, 1, two.number, None, 1.0)
    assert isinstance(again, Send)
    assert (again.job, again.attempt) == (one.job, 2)


def test_a_job_that_kills_each_worker_is_poison_and_names_the_causes() -> None:
    """A3"""
    machine = opened(1, task_attempts_max=3)
    submit(machine, None)
    now, out = 0.0, []
    for generation, cause in enumerate(["SIGSEGV", "SIGBUS", "SIGKILL"], 1):
        machine.ready(0, generation, now)
        out = machine.exited(0, generation, cause, now)
        now += BACKOFF_MAX_S
        machine.tick(now)
    (failure,) = [instruction for instruction in out if isinstance(instruction, Fail)]
    assert failure.kind == "poison"
    assert all(cause in failure.message for cause in ("SIGSEGV", "SIGBUS", "SIGKILL"))
    assert machine.statistics().tasks_retried == 2


def test_restarts_wait_longer_from_death_to_death_and_start_over_after_a_result() -> None:
    """A2"""
    machine = opened(1, task_attempts_max=100)
    submit(machine, None)
    waits, now = [], 0.0
    for generation in range(1, 9):
        started = machine.exited(0, generation, "killed", now)
        due = machine.next_due()
        assert due is not None
        waits.append(0.0 if StartWorker(0, generation + 1) in started else round(due - now, 6))
        now += waits[-1]
        machine.tick(now)
        machine.ready(0, generation + 1, now)
    assert waits == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    number = 9
    machine.result(0, 9, number, None, now)
    submit(machine, None, now=now)
    assert StartWorker(0, 10) in machine.exited(0, 9, "killed", now)


def test_too_many_losses_in_the_window_break_the_pool_and_abort_all_jobs() -> None:
    machine = opened(2, worker_restarts_max=2, task_attempts_max=100)
    submit(machine, None, 0, 1)
    out: list[Instruction] = []
    for generation in (1, 2, 3):
        out = machine.exited(0, generation, "killed", 1.0)
        machine.tick(10.0)
        machine.ready(0, generation + 1, 10.0)
    assert [type(instruction) for instruction in out].count(Break) == 1
    assert sum(isinstance(instruction, Abort) for instruction in out) == 3
    assert machine.broken is not None
    assert submit(machine, None) == []
    assert machine.next_due() is None


def test_losses_that_left_the_window_are_forgotten() -> None:
    machine = opened(1, worker_restarts_max=1, worker_restarts_window_s=10.0)
    now = 0.0
    for generation in range(1, 6):
        machine.exited(0, generation, "killed", now)
        now += 11.0
        machine.tick(now)
        machine.ready(0, generation + 1, now)
    assert machine.broken is None


def test_a_worker_that_never_gets_ready_at_the_first_start_breaks_the_pool() -> None:
    """A26"""
    machine = Machine(2, PoolConfig(start_timeout_s=3.0), validate=True)
    machine.open(0.0)
    machine.ready(0, 1, 1.0)
    assert machine.next_due() == 3.0
    assert kinds(machine.tick(3.0)) == [Terminate]
    (broken,) = [i for i in machine.exited(1, 1, "SIGKILL", 3.5) if isinstance(i, Break)]
    assert broken.at_start
    assert "not ready within 3.0 s" in broken.message


def test_replacements_that_never_get_ready_break_the_pool_in_the_end() -> None:
    machine = opened(1, worker_restarts_max=1000)
    now = 0.0
    machine.exited(0, 1, "killed", now)
    for generation in range(2, 2 + START_FAILURES_MAX):
        assert machine.broken is None
        now += 10.0
        machine.tick(now)
        machine.exited(0, generation, "no module", now)
    assert machine.broken is not None
    assert "5 times in a row" in machine.broken


def test_a_reply_found_in_the_pipe_of_a_dead_worker_counts_and_the_worker_gets_no_more() -> None:
    machine = opened(1)
    (send, *_) = sends(submit(machine, None, None))
    assert kinds(machine.result(0, 1, send.number, None, 1.0, last=True)) == [Complete]
    assert kinds(machine.exited(0, 1, "killed", 1.0)) == [Lost, StartWorker]
    (second,) = sends(machine.ready(0, 2, 1.0))
    assert second.attempt == 1


def test_a_condemned_worker_is_killed_and_its_job_tried_again() -> None:
    machine = opened(1)
    submit(machine, None)
    assert machine.condemn(0, 1, "rubbish on the wire", 1.0) == [Terminate(0, "rubbish on the wire")]
    lost, start = machine.exited(0, 1, "SIGKILL", 1.0)
    assert lost == Lost(0, "rubbish on the wire (SIGKILL)")
    assert start == StartWorker(0, 2)
    assert sends(machine.ready(0, 2, 1.0))[0].attempt == 2


# -- deadlines and recycling -----------------------------------------------------------------


def test_deadlines_count_as_attempts_but_not_against_the_restart_budget() -> None:
    """A8"""
    machine = opened(1, task_timeout_s=1.0, task_attempts_max=2, worker_restarts_max=1)
    submit(machine, None)
    for generation in (1, 2):
        machine.tick(10.0 * generation)
        out = machine.exited(0, generation, "SIGTERM", 10.0 * generation)
        assert StartWorker(0, generation + 1) in out
        machine.ready(0, generation + 1, 10.0 * generation)
    (failure,) = [instruction for instruction in out if isinstance(instruction, Fail)]
    assert failure.kind == "deadline"
    assert machine.broken is None


def test_a_worker_over_its_memory_is_recycled_after_its_task() -> None:
    """A10"""
    machine = opened(1, worker_rss_bytes_max=100)
    (send, *_) = sends(submit(machine, None, None))
    assert kinds(machine.result(0, 1, send.number, None, 1.0, rss_bytes=101)) == [Complete, StopWorker]
    assert machine.exited(0, 1, "code 0", 1.1) == [StartWorker(0, 2)]
    assert machine.statistics().workers_recycled == 1
    assert machine.statistics().workers_lost == 0


def test_a_worker_is_recycled_after_its_number_of_tasks() -> None:
    """A10"""
    machine = opened(1, worker_tasks_max=2)
    stops = 0
    (send, *_) = sends(submit(machine, None, None))
    for _ in range(2):
        out = machine.result(0, 1, send.number, None, 1.0)
        stops += StopWorker(0) in out
        send = (sends(out) or [send])[0]
    assert stops == 1


# -- cancellation ----------------------------------------------------------------------------


def test_a_cancelled_run_loses_its_queue_and_its_result() -> None:
    machine = opened(1, term_grace_s=2.0)
    run, _, out = machine.submit("p", [JobSpec(None, "s")] * 3, 0.0)
    machine.cancel(run, 1.0)
    assert machine.statistics().tasks_queued == 0
    assert machine.next_due() == 3.0
    assert machine.result(0, 1, sends(out)[0].number, None, 2.0) == []
    assert machine.statistics().results_stale == 1
    assert machine.next_due() is None


def test_an_abandoned_job_that_does_not_end_costs_its_worker_and_is_not_tried_again() -> None:
    machine = opened(1, term_grace_s=2.0)
    run, _, _ = machine.submit("p", [JobSpec(None, "s")], 0.0)
    machine.cancel(run, 1.0)
    assert kinds(machine.tick(3.0)) == [Terminate]
    assert kinds(machine.exited(0, 1, "SIGTERM", 3.1)) == [Lost, StartWorker]
    assert machine.ready(0, 2, 3.2) == []


# -- any history -----------------------------------------------------------------------------

_SLOTS = 3


class Histories(RuleBasedStateMachine):
    """Any order of events: each job ends exactly once, on its slot, one attempt at a time.

    The model plays the shell: it keeps the processes that the machine asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.alive: dict[int, int] = {}  # slot -> generation
        self.doomed: set[int] = set()  # slots whose process was told to end: its replies come too late
        self.sent: dict[int, Send] = {}  # slot -> what its process works at
        self.open: dict[int, int | None] = {}  # job -> slot it is pinned to
        self.runs: dict[int, set[int]] = {}

        self.deaths: dict[int, int] = {}
        self.convicted: dict[int, int] = {}
        self.records_max = 2

    @initialize(
        tasks_max=st.sampled_from([None, 1, 2]),
        timeout=st.sampled_from([None, 5.0]),
        programs=st.integers(1, 3),
        restarts=st.sampled_from([3, 10_000]),
    )
    def begin(self, tasks_max: int | None, timeout: float | None, programs: int, restarts: int) -> None:
        config = PoolConfig(
            task_timeout_s=timeout,
            worker_tasks_max=tasks_max,
            programs_cached_max=programs,
            worker_restarts_max=restarts,
            poison_records_max=self.records_max,
        )
        self.machine = Machine(_SLOTS, config, validate=True)
        self.programs: dict[int, set[str]] = {}
        self.program_of: dict[int, str] = {}
        self.attempts_max = config.task_attempts_max
        self.programs_max = programs
        self.perform(self.machine.open(self.now))

    def perform(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case StartWorker(slot, generation):
                    assert slot not in self.alive, "two processes in one slot"
                    self.alive[slot] = generation
                    self.programs[slot] = set()
                case Send():
                    self.take(instruction)
                case Complete(job):
                    self.end(job)
                case Fail(job):
                    assert self.deaths[job] == self.attempts_max
                    self.end(job)
                case Abort(job):
                    self.end(job)
                case Terminate(slot) | StopWorker(slot):
                    assert slot in self.alive
                    self.doomed.add(slot)
                case Convicted(job):
                    self.convicted[job] = self.convicted.get(job, 0) + 1
                    assert self.convicted[job] <= self.records_max
                case Lost() | Break():
                    pass

    def take(self, send: Send) -> None:
        assert send.slot in self.alive
        assert send.slot not in self.sent, "two tasks in one worker"
        assert send.job in self.open
        assert self.open[send.job] in (None, send.slot), "a pinned job went astray"
        assert send.job not in [other.job for other in self.sent.values()], "two attempts at a time"
        deaths = self.deaths.get(send.job, 0)
        assert send.attempt == deaths + 1
        assert deaths < 2 * PoolConfig().task_attempts_max * (self.records_max + 1), "no end of deaths"
        assert (send.probe is None) == (deaths == 0)
        assert send.probe is None or len(send.probe.convicts) == self.convicted.get(send.job, 0)
        held = self.programs[send.slot]
        if send.with_program:
            held.add(self.program_of[send.job])
        held -= set(send.forget)
        assert self.program_of[send.job] in held, "an unknown program"
        assert len(held) <= self.programs_max
        self.sent[send.slot] = send

    def end(self, job: int) -> None:
        assert job in self.open, "a job ended twice, or after it was cancelled"
        del self.open[job]

    @rule(
        slots=st.lists(st.sampled_from([None, None, *range(_SLOTS)]), max_size=5),
        program=st.sampled_from("abcd"),
    )
    def submit(self, slots: list[int | None], program: str) -> None:
        first = sum(len(jobs) for jobs in self.runs.values()) + 1
        jobs = range(first, first + len(slots))
        if self.machine.broken is not None:
            return
        self.open.update(zip(jobs, slots, strict=True))
        self.program_of.update(dict.fromkeys(jobs, program))
        run, got_first, out = self.machine.submit(program, [JobSpec(slot, "s") for slot in slots], self.now)
        assert got_first == first
        self.runs[run] = set(jobs)
        self.perform(out)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def handshake(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.alive)))
        self.perform(self.machine.ready(slot, self.alive[slot], self.now))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), failed=st.booleans(), last=st.booleans())
    def reply(self, data: st.DataObject, failed: bool, last: bool) -> None:
        slot = data.draw(st.sampled_from(sorted(self.sent)))
        self.answer(slot, failed=failed, last=last)
        if last:
            self.bury(slot)

    def answer(self, slot: int, *, failed: bool = False, last: bool = False) -> None:
        send = self.sent[slot]
        if slot not in self.doomed:
            del self.sent[slot]
        self.perform(
            self.machine.result(
                slot, self.alive[slot], send.number, None, self.now, failed=failed, last=last, rss_bytes=1
            )
        )

    @rule(slot=st.integers(0, _SLOTS - 1), generation=st.integers(0, 5), number=st.integers(10_000, 10_009))
    def stray_reply(self, slot: int, generation: int, number: int) -> None:
        self.perform(self.machine.result(slot, generation, number, None, self.now))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), call=st.integers(1, 2), tolerant=st.booleans())
    def death(self, data: st.DataObject, call: int, tolerant: bool) -> None:
        slot = data.draw(st.sampled_from(sorted(self.alive)))
        watched = slot in self.sent and self.sent[slot].probe is not None
        self.bury(slot, InHand("step", tolerant, call, None, None) if watched else None)

    def bury(self, slot: int, hand: InHand | None = None) -> None:
        generation = self.alive.pop(slot)
        send = self.sent.pop(slot, None)
        self.doomed.discard(slot)
        if send is not None:
            self.deaths[send.job] = self.deaths.get(send.job, 0) + 1
        self.perform(self.machine.exited(slot, generation, "killed", self.now, hand))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def rubbish(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.alive)))
        self.perform(self.machine.condemn(slot, self.alive[slot], "rubbish", self.now))

    @rule(seconds=st.sampled_from([0.01, 0.5, 3.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.perform(self.machine.tick(self.now))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(sorted(self.runs)))
        for job in self.runs[run]:
            self.open.pop(job, None)
        self.perform(self.machine.cancel(run, self.now))

    @invariant()
    def nothing_is_overdue_for_ever(self) -> None:
        if hasattr(self, "machine") and self.machine.broken is None and self.open:
            # Somebody has to act: a process that lives, or a timer.
            assert self.alive or self.machine.next_due() is not None

    def teardown(self) -> None:
        """Left alone with healthy workers, every open job ends."""
        if not hasattr(self, "machine"):
            return
        for _ in range(1000):
            if not self.open:
                break
            for slot in list(self.alive):
                if slot in self.doomed:
                    self.bury(slot)
                elif slot in self.sent:
                    self.answer(slot)
                else:
                    self.perform(self.machine.ready(slot, self.alive[slot], self.now))
            self.now += 10.0
            self.perform(self.machine.tick(self.now))
        assert not self.open, "a job was never ended"


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
