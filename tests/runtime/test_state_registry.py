"""Which version of a state a task builds on, and the blocks from which a lost one is rebuilt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiostream_engine.blocks.directory import BlockLedger
from aiostream_engine.blocks.storage import BlockWriter
from aiostream_engine.errors import BlocksReleasedError
from aiostream_engine.executors.base import StateDirective, StateReport
from aiostream_engine.planner.stages import StateUse
from aiostream_engine.runtime import state_registry
from aiostream_engine.runtime.state_registry import StateRegistry
from aiostream_engine.types import BlockRef


class Worker:
    """Does what directives say, and leaves a block for each version that it makes."""

    def __init__(self, directory: Path) -> None:
        self.ledger = BlockLedger()
        self.registry = StateRegistry(self.ledger)
        self._writer = BlockWriter(str(directory), str(directory), "b")

    def run(self, batch: int, *, mapped: bool = False, size: int = 10) -> StateDirective:
        """One task of a batch, to its end."""
        use = StateUse("s", 0, batch, "step", mapped)
        directive = self.registry.directive(use, volatile=True)
        self.finish(use, directive, size)
        return directive

    def finish(self, use: StateUse, directive: StateDirective, size: int = 10) -> None:
        block = None
        if directive.changelog or directive.snapshot:
            path, _ = self._writer.write([b"x" * size])
            block = BlockRef("pickle", None, path, 0, size)
        self.registry.report(use, directive, StateReport(directive.target, block, directive.snapshot, 3))

    def chain(self, batch: int) -> tuple[BlockRef, ...]:
        """What a worker that holds nothing is sent for the next batch."""
        use = StateUse("s", 0, batch, "step", False)
        restore = self.registry.directive(use, volatile=True, restore=True).restore
        assert restore is not None
        return restore


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
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
    assert not directive.snapshot


def test_a_long_chain_is_replaced_by_a_snapshot(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_registry, "CHAIN_BLOCKS_MAX", 4)
    snapshots = [worker.run(batch).snapshot for batch in range(1, 12)]
    assert snapshots.count(True) >= 2
    assert len(worker.chain(12)) <= 4
    assert worker.ledger.statistics().files <= 2 * 4 + 1


def test_a_large_changelog_is_replaced_by_a_snapshot(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_registry, "CHAIN_BYTES_MIN", 1000)
    assert not worker.run(1, size=900).snapshot
    assert not worker.run(2, size=900).snapshot
    assert worker.run(3, size=500).snapshot
    assert [ref.size for ref in worker.chain(4)] == [500]


def test_the_chain_before_a_snapshot_is_kept_while_its_batch_may_be_run_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_registry, "CHAIN_BLOCKS_MAX", 2)
    worker.run(1)
    worker.run(2)
    assert worker.run(3, mapped=True).snapshot
    use = StateUse("s", 0, 3, "step", True)
    again = worker.registry.directive(use, volatile=True, restore=True)
    assert versions(again) == (2, 3)
    assert len(again.restore or ()) == 2
    worker.finish(use, again)
    worker.run(4)


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
