"""Which version of a state a task builds on, and the blocks from which a lost one is rebuilt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiostream_engine.blocks.directory import BlockLedger
from aiostream_engine.blocks.storage import BlockWriter
from aiostream_engine.config import StateConfig
from aiostream_engine.errors import BlocksReleasedError
from aiostream_engine.executors.base import StateDirective, StateReport
from aiostream_engine.planner.stages import StateUse
from aiostream_engine.runtime import state_registry
from aiostream_engine.runtime.state_registry import StateRegistry, StateStatistics
from aiostream_engine.types import BlockRef


class Worker:
    """Does what directives say, and leaves a block for each version that it makes."""

    def __init__(self, directory: Path) -> None:
        self.ledger = BlockLedger()
        self.registry = StateRegistry(self.ledger)
        self._writer = BlockWriter(str(directory), str(directory), "b")
        self.slices = 1  # of which a snapshot is made
        self.sweep = self.left = 0

    def run(self, batch: int, *, mapped: bool = False, size: int = 10) -> StateDirective:
        """One task of a batch, to its end."""
        use = StateUse("s", 0, batch, "step", mapped)
        directive = self.registry.directive(use, volatile=True)
        self.finish(use, directive, size)
        return directive

    def finish(self, use: StateUse, directive: StateDirective, size: int = 10) -> None:
        block = None
        if directive.changelog:
            path, _ = self._writer.write([b"x" * size])
            block = BlockRef("pickle", None, path, 0, size)
        report = StateReport(directive.target, block, False, 3)
        if directive.sweep_bytes:
            report = self._sweep(directive, report, size)
        self.registry.report(use, directive, report)

    def _sweep(self, directive: StateDirective, report: StateReport, size: int) -> StateReport:
        if self.slices == 1:
            return report._replace(is_snapshot=True)
        if self.sweep != directive.sweep or not self.left:
            self.sweep, self.left = directive.target, self.slices
        self.left -= 1
        return report._replace(sweep=self.sweep, swept_bytes=50, sweep_done=not self.left)

    def statistics(self) -> StateStatistics:
        (statistics,) = self.registry.statistics()
        return statistics

    def chain(self, batch: int) -> tuple[BlockRef, ...]:
        """What a worker that holds nothing is sent for the next batch."""
        use = StateUse("s", 0, batch, "step", False)
        restore = self.registry.directive(use, volatile=True, restore=True).restore
        assert restore is not None
        return restore


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setattr(state_registry, "CHAIN_RATIO", 1)
    worker = Worker(tmp_path)
    yield worker
    files = {path.name for path in tmp_path.iterdir()}
    assert len(files) == worker.ledger.statistics().files  # what nobody holds is gone


def versions(directive: StateDirective) -> tuple[int, int]:
    return directive.base, directive.target


def test_each_batch_brings_the_state_one_version_forward(worker: Worker) -> None:
    assert [versions(worker.run(batch)) for batch in (10, 20, 30)] == [(0, 1), (1, 2), (2, 3)]
    assert len(worker.chain(40)) == 3


def test_a_batch_that_is_run_again_starts_from_the_version_before_it(worker: Worker) -> None:
    worker.run(10)
    worker.run(20, mapped=True)
    assert versions(worker.run(20, mapped=True)) == (1, 2)
    assert len(worker.chain(30)) == 2


def test_a_state_that_is_its_own_output_is_only_read_again(worker: Worker) -> None:
    worker.run(10)
    again = worker.run(10)
    assert versions(again) == (1, 1)
    assert not again.changelog
    assert len(worker.chain(20)) == 1


def test_a_scan_reads_what_its_batch_left(worker: Worker) -> None:
    worker.run(10)
    scan = worker.registry.directive(StateUse("s", 0, 10, "scan", False, scan=True), volatile=True)
    assert versions(scan) == (1, 1)
    with pytest.raises(BlocksReleasedError, match=r"as of batch 20, but it is at batch 10"):
        worker.registry.directive(StateUse("s", 0, 20, "scan", False, scan=True), volatile=True)


def test_where_no_worker_can_be_lost_nothing_is_written(worker: Worker) -> None:
    directive = worker.registry.directive(StateUse("s", 0, 10, "step", False), volatile=False)
    assert not directive.changelog
    assert not directive.sweep_bytes


def test_a_long_chain_is_replaced_by_a_snapshot(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_registry, "CHAIN_BLOCKS_MAX", 8)
    asked = [bool(worker.run(batch).sweep_bytes) for batch in range(1, 12)]
    assert asked.count(True) >= 2
    assert len(worker.chain(12)) <= 4
    assert worker.ledger.statistics().files <= 2 * 4 + 1
    assert worker.statistics().snapshots == asked.count(True)


def test_a_large_changelog_is_replaced_by_a_snapshot(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_registry, "CHAIN_BYTES_MIN", 1000)
    for batch in (1, 2, 3):
        assert not worker.run(batch, size=600).sweep_bytes
    assert worker.run(4, size=500).sweep_bytes
    assert [ref.size for ref in worker.chain(5)] == [500]


def test_a_snapshot_in_slices_cuts_the_chain_off_when_it_is_complete(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_registry, "CHAIN_BYTES_MIN", 100)
    worker.slices = 3
    for batch in range(1, 4):
        assert worker.run(batch, size=100).sweep == 0
    assert [worker.run(batch, size=100).sweep for batch in (4, 5, 6)] == [0, 4, 4]
    assert len(worker.chain(7)) == 3
    assert worker.statistics().chain_bytes == 300
    assert (worker.statistics().snapshots, worker.statistics().slice_bytes_max) == (1, 50)


def test_slices_keep_in_step_with_what_changes_meanwhile(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_registry, "CHAIN_BYTES_MIN", 100)
    worker.registry.config = StateConfig(snapshot_slice_bytes=10)
    worker.slices = 100
    for batch in range(1, 4):
        worker.run(batch, size=100)
    assert worker.run(4, size=20_000).sweep_bytes == 10
    assert worker.run(5, size=100).sweep_bytes == 20_000 - 2 * 50


def test_a_snapshot_that_the_worker_lost_begins_anew(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_registry, "CHAIN_BYTES_MIN", 100)
    worker.slices = 3
    for batch in range(1, 6):
        worker.run(batch, size=100)
    worker.sweep, worker.left = 0, 0  # another worker, which has only the chain
    assert worker.run(6, size=100).sweep == 4
    assert [worker.run(batch, size=100).sweep for batch in (7, 8)] == [6, 6]
    assert len(worker.chain(9)) == 3


def test_the_chain_before_a_snapshot_is_kept_while_its_batch_may_be_run_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_registry, "CHAIN_BLOCKS_MAX", 4)
    worker.run(1)
    worker.run(2)
    assert worker.run(3, mapped=True).sweep_bytes
    use = StateUse("s", 0, 3, "step", True)
    again = worker.registry.directive(use, volatile=True, restore=True)
    assert versions(again) == (2, 3)
    assert len(again.restore or ()) == 2
    worker.finish(use, again)
    worker.run(4)


def test_the_end_of_a_snapshot_in_slices_can_be_run_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker gave the snapshot up when it went back, so there is a new one."""
    monkeypatch.setattr(state_registry, "CHAIN_BYTES_MIN", 100)
    worker.slices = 3
    for batch in range(1, 7):
        worker.run(batch, mapped=True, size=100)
    assert len(worker.chain(7)) == 3
    use = StateUse("s", 0, 6, "step", True)
    again = worker.registry.directive(use, volatile=True, restore=True)
    assert versions(again) == (5, 6)
    assert len(again.restore or ()) == 5
    worker.sweep, worker.left = 0, 0
    worker.finish(use, again, 100)
    assert len(worker.chain(7)) == 6
    assert [worker.run(batch, size=100).sweep for batch in (7, 8, 9)] == [0, 7, 7]
    assert len(worker.chain(10)) == 3


def test_a_chain_that_holds_the_journal_is_written_anew_or_replaced_by_a_snapshot(worker: Worker) -> None:
    """C14: a small one at once, a large one by the batches that come, or when none has come for long."""
    worker.registry.make_durable(["s"])
    worker.registry.config = StateConfig(snapshot_slice_bytes=150)

    def taken(batch: int) -> list[tuple[int, bool]]:
        changes = worker.registry.take_changes(batch, ["s"])
        worker.registry.release_changes(changes)
        return [(change.version, change.first) for change in changes]

    worker.run(1, size=100)
    assert taken(1) == [(1, True)]
    worker.registry.rewrite("s", 0, 2)
    assert taken(2) == [(1, True)]
    worker.run(3, size=100)
    assert taken(3) == [(2, False)]
    worker.registry.rewrite("s", 0, 3)
    assert taken(3) == []
    worker.slices = 2
    worker.run(4, size=100)
    worker.run(5, size=100)
    assert (len(worker.chain(6)), taken(5)) == (2, [(3, False), (4, False)])
    for batch in range(6, 7 + state_registry.WAIT_COMMITS):
        worker.registry.rewrite("s", 0, batch)
    assert taken(1000) == [(3, True), (4, False)]


def test_statistics_say_what_a_lost_worker_would_cost(worker: Worker) -> None:
    worker.run(1, size=100)
    worker.run(2, size=50)
    (statistics,) = worker.registry.statistics()
    assert (statistics.state_id, statistics.keys) == ("s", 3)
    assert (statistics.chain_blocks, statistics.chain_bytes) == (2, 150)


def test_a_partition_knows_the_batch_that_it_is_at(worker: Worker) -> None:
    worker.run(10)
    assert worker.registry.is_current("s", 0, 10)
    assert not worker.registry.is_current("s", 0, 20)
    assert not worker.registry.is_current("other", 0, 10)
