"""The machine that says which batch is cut, run and committed."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiostream_engine.errors import InternalError
from aiostream_engine.runtime.machine import Batch, BatchMachine, BatchPhase, Commit, Halt, Instruction, Run
from aiostream_engine.types import BatchTime


def machine(in_flight: int = 2, concurrent: int = 1) -> BatchMachine:
    return BatchMachine(in_flight, concurrent, zero_ms=0)


def ids(instructions: list[Instruction]) -> list[tuple[str, int]]:
    return [
        (type(item).__name__, item.batch.id) for item in instructions if isinstance(item, Run | Commit)
    ] + [("Halt", 0)] * sum(isinstance(item, Halt) for item in instructions)


def cut(m: BatchMachine, label: int) -> Batch:
    return m.cut(BatchTime(label))[0]


def test_the_first_batch_runs_at_once_and_the_next_waits_for_it():
    m = machine()
    first, instructions = m.cut(BatchTime(1000))
    assert ids(instructions) == [("Run", 1)]
    assert ids(m.cut(BatchTime(2000))[1]) == []
    assert ids(m.done(first)) == [("Commit", 1), ("Run", 2)]


def test_a_batch_knows_the_label_of_the_one_before():
    """CTX-22: the first one, the zero time."""
    m = BatchMachine(5, 1, zero_ms=500)
    assert [cut(m, label).previous for label in (1000, 2500, 3000)] == [500, 1000, 2500]


def test_no_more_batches_are_cut_than_may_be_in_flight():
    """SCH-4."""
    m = machine(in_flight=2)
    cut(m, 1)
    assert m.may_cut
    cut(m, 2)
    assert not m.may_cut
    with pytest.raises(InternalError, match="2 are in flight"):
        cut(m, 3)


@pytest.mark.parametrize("label", [1000, 999, -5])
def test_labels_must_rise(label: int):
    """D1."""
    m = machine()
    cut(m, 1000)
    with pytest.raises(InternalError, match="does not rise"):
        cut(m, label)


def test_a_label_must_be_later_than_the_zero_time():
    with pytest.raises(InternalError, match="does not rise"):
        BatchMachine(2, 1, zero_ms=1000).cut(BatchTime(1000))


def test_batches_that_run_together_are_committed_in_order():
    """SCH-3: unlike in the original."""
    m = machine(in_flight=3, concurrent=3)
    first, second, third = (cut(m, label) for label in (1, 2, 3))
    assert ids(m.done(third)) == []
    assert ids(m.done(first)) == [("Commit", 1)]
    assert ids(m.done(second)) == [("Commit", 2), ("Commit", 3)]
    assert m.idle


def test_after_a_failure_nothing_is_cut_or_started():
    m = machine()
    first = cut(m, 1)
    cut(m, 2)
    assert ids(m.failed(first)) == [("Halt", 0)]
    assert (m.may_cut, m.idle) == (False, True)


def test_a_batch_before_the_failed_one_is_still_committed_and_one_behind_is_not():
    m = machine(in_flight=3, concurrent=3)
    first, second, third = (cut(m, label) for label in (1, 2, 3))
    m.failed(second)
    assert [m.is_blocked(batch) for batch in (first, second, third)] == [False, False, True]
    assert not m.idle
    assert ids(m.done(third)) == []
    assert ids(m.done(first)) == [("Commit", 1)]
    assert m.idle


def test_a_commit_that_failed_blocks_all_later_ones():
    """B11."""
    m = machine(in_flight=2, concurrent=2)
    first, second = cut(m, 1), cut(m, 2)
    assert ids(m.done(first)) == [("Commit", 1)]
    assert ids(m.commit_failed(first)) == [("Halt", 0)]
    assert ids(m.done(second)) == []
    assert m.idle


def test_the_halt_is_told_once():
    m = machine(in_flight=2, concurrent=2)
    first, second = cut(m, 1), cut(m, 2)
    assert ids(m.failed(first)) == [("Halt", 0)]
    assert ids(m.failed(second)) == []
    assert ids(m.halt()) == []


def test_a_halt_from_outside_lets_what_runs_come_to_its_end():
    m = machine(in_flight=2)
    first = cut(m, 1)
    cut(m, 2)
    assert ids(m.halt()) == [("Halt", 0)]
    assert not m.idle
    assert ids(m.done(first)) == [("Commit", 1)]
    assert m.idle


def test_a_batch_is_done_or_failed_once_and_only_while_it_runs():
    m = machine()
    first, second = cut(m, 1), cut(m, 2)
    with pytest.raises(InternalError, match="is waiting, not running"):
        m.done(second)
    m.done(first)
    with pytest.raises(InternalError, match="is committed, not running"):
        m.failed(first)


def test_a_resumed_machine_goes_on_behind_the_last_batch():
    m = machine()
    m.resume(7, 7000, 7000)
    batch = cut(m, 8000)
    assert (batch.id, batch.previous) == (8, 7000)


class Batches(RuleBasedStateMachine):
    """Any order of cuts, ends, failures and halts, against a model of lists."""

    def __init__(self) -> None:
        super().__init__()
        self.committed: list[int] = []
        self.cut_ids: list[int] = []
        self.labels: list[int] = []
        self.running: dict[int, Batch] = {}
        self.ended: set[int] = set()
        self.failed: set[int] = set()
        self.halts = 0
        self.in_flight, self.concurrent = 3, 2
        self.m = machine(self.in_flight, self.concurrent)

    def obey(self, instructions: list[Instruction]) -> None:
        for item in instructions:
            match item:
                case Run(batch):
                    assert batch.id == max([*self.running, *self.ended, 0]) + 1, "started out of order"
                    assert not self.failed, "started after a failure"
                    self.running[batch.id] = batch
                case Commit(batch):
                    self.committed.append(batch.id)
                case Halt():
                    self.halts += 1

    @precondition(lambda self: self.m.may_cut)
    @rule(gap=st.integers(1, 5000))
    def cut_one(self, gap: int) -> None:
        label = (self.labels or [0])[-1] + gap
        batch, instructions = self.m.cut(BatchTime(label))
        assert batch.previous == (self.labels or [0])[-1]
        self.cut_ids.append(batch.id)
        self.labels.append(label)
        self.obey(instructions)

    def take(self, choice: int) -> Batch:
        number = sorted(self.running)[choice % len(self.running)]
        self.ended.add(number)
        return self.running.pop(number)

    @precondition(lambda self: self.running)
    @rule(choice=st.integers(0, 9))
    def end_one(self, choice: int) -> None:
        self.obey(self.m.done(self.take(choice)))

    @precondition(lambda self: self.running)
    @rule(choice=st.integers(0, 9))
    def fail_one(self, choice: int) -> None:
        batch = self.take(choice)
        self.failed.add(batch.id)
        self.obey(self.m.failed(batch))

    @rule()
    def halt_all(self) -> None:
        if not self.running or self.halts:
            self.obey(self.m.halt())

    @invariant()
    def ids_have_no_gaps_and_labels_rise(self) -> None:
        assert self.cut_ids == list(range(1, len(self.cut_ids) + 1))
        assert self.labels == sorted(set(self.labels))

    @invariant()
    def commits_are_the_first_ended_ones_in_order(self) -> None:
        expected = []
        for number in self.cut_ids:
            if number not in self.ended or number in self.failed:
                break
            expected.append(number)
        assert self.committed == expected

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.running) <= self.concurrent
        assert len(self.m.batches) <= self.in_flight
        assert self.halts <= 1

    @invariant()
    def idle_means_that_nothing_can_be_committed_any_more(self) -> None:
        before = [number for number in self.running if number < min(self.failed, default=10**9)]
        waiting = [batch for batch in self.m.batches if batch.phase is BatchPhase.WAITING]
        assert self.m.idle == (not before and (not waiting or self.m.halted))

    @invariant()
    def work_goes_on_while_there_is_room(self) -> None:
        waiting = any(batch.phase is BatchPhase.WAITING for batch in self.m.batches)
        assert self.m.halted or not waiting or len(self.running) == self.concurrent


Batches.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBatches = Batches.TestCase
