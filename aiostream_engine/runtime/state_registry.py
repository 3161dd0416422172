"""Which version of each keyed state exists, and the blocks from which it can be rebuilt.

The state itself stays in the worker that owns the partition. What is kept here is a chain of
blocks in shared memory, a snapshot and the changes after it, so that a worker may die.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass, field

from ..blocks.directory import BlockLedger
from ..config import StateConfig
from ..errors import BlocksReleasedError
from ..executors.base import StateDirective, StateReport
from ..planner.stages import StateUse
from ..types import BlockRef
from .records import StateChange

__all__ = ["StateRegistry", "StateStatistics"]

DROPPED_MAX = 64  # each task carries them, so that every worker hears of them sooner or later

CHAIN_BLOCKS_MAX = 2048
CHAIN_BYTES_MIN = 4 * 1024 * 1024  # below this a longer chain is cheaper than a snapshot


@dataclass(slots=True)
class _Partition:
    """``replaced`` is the chain before the snapshot of this version, kept for one more batch.

    wrote: this version added a block to the chain; one that changed nothing adds none.
    """

    version: int = 0
    batch: int = -1
    keys: int = 0
    chain: list[BlockRef] = field(default_factory=list)
    replaced: list[BlockRef] | None = None
    snapshot_bytes: int = 0
    changes_bytes: int = 0
    wrote: bool = False
    partitions: int = 0
    cache_bytes: int = 0
    disk_bytes: int = 0
    hits: int = 0
    misses: int = 0

    @property
    def wants_snapshot(self) -> bool:
        grown = self.changes_bytes > max(CHAIN_BYTES_MIN, 2 * self.snapshot_bytes)
        return grown or len(self.chain) >= CHAIN_BLOCKS_MAX

    @property
    def previous(self) -> list[BlockRef]:
        """The chain of ``version - 1``."""
        if self.replaced is not None:
            return self.replaced
        return self.chain[:-1] if self.wrote else self.chain


@dataclass(frozen=True, slots=True)
class StateStatistics:
    """Size of one keyed state; chain figures are what a lost worker would cost to rebuild.

    cache_bytes, disk_bytes: what it takes as of its last batches, of a state on disk; 0 in memory.
    hits, misses: keys that were found in the cache, or looked for on disk, since the worker has them.
    """

    state_id: str
    keys: int
    chain_blocks: int
    chain_bytes: int
    cache_bytes: int = 0
    disk_bytes: int = 0
    hits: int = 0
    misses: int = 0


class StateRegistry:
    """Versions and chains of all keyed states of a context; on the driver's loop."""

    def __init__(self, ledger: BlockLedger) -> None:
        self._ledger = ledger
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self.dropped: tuple[str, ...] = ()
        self._changes: list[StateChange] = []
        self._durable: set[str] = set()
        self.config = StateConfig()

    def make_durable(self, state_ids: Iterable[str]) -> None:
        """Keep what batches change in these states for :meth:`take_changes`."""
        self._durable.update(state_ids)

    def is_durable(self, state_id: str) -> bool:
        """True when the changes of a state are kept for a journal."""
        return state_id in self._durable

    @property
    def changes_waiting(self) -> int:
        """Changes kept for a journal and not taken yet."""
        return len(self._changes)

    def directive(self, use: StateUse, *, volatile: bool, restore: bool = False) -> StateDirective:
        """What a task has to do with its partition.

        volatile: the worker may die apart from the driver, so changes must be written.
        restore: the worker said that it does not hold the base: send the chain along.
        """
        partition = self._partitions.setdefault((use.state_id, use.partition), _Partition())
        if use.scan and partition.batch != use.batch:
            raise BlocksReleasedError(
                f"the state of step {use.step!r} was asked for as of batch {use.batch}, but it is at batch "
                f"{partition.batch}: persist() the stream or read it within its batch"
            )
        again = partition.batch == use.batch and partition.version > 0
        if use.scan:
            base, target, chain = partition.version, partition.version, partition.chain
        elif not again:
            base, target, chain = partition.version, partition.version + 1, partition.chain
        elif use.mapped:
            base, target, chain = partition.version - 1, partition.version, partition.previous
        else:
            base, target, chain = partition.version, partition.version, partition.chain
        return StateDirective(
            use.state_id,
            use.partition,
            base,
            target,
            tuple(chain) if restore else None,
            changelog=volatile and base != target,
            snapshot=volatile and base != target and partition.wants_snapshot,
            memory_bytes_max=self.config.memory_bytes_max if self.config.on_disk else 0,
        )

    def report(self, use: StateUse, directive: StateDirective, report: StateReport) -> None:
        """A task finished: its version is the one that counts."""
        partition = self._partitions[use.state_id, use.partition]
        partition.keys, partition.partitions = report.keys, use.partitions
        partition.cache_bytes, partition.disk_bytes = report.cache_bytes, report.disk_bytes
        partition.hits, partition.misses = report.hits, report.misses
        if directive.base == directive.target:
            return
        if partition.version == directive.target:
            self._undo(use, partition)
        elif partition.replaced is not None:
            self._ledger.release(partition.replaced)
            partition.replaced = None
        partition.wrote = report.block is not None
        if report.block is not None:
            if use.state_id in self._durable:
                self._note(use, report, first=report.is_snapshot or not partition.chain)
            self._extend(partition, report.block, report.is_snapshot)
        partition.version, partition.batch = report.version, use.batch

    def _undo(self, use: StateUse, partition: _Partition) -> None:
        """The batch was run again: what its first run gave does not count."""
        if not partition.wrote:
            return
        self._ledger.release(partition.chain[-1:])
        partition.chain = partition.previous
        partition.replaced = None
        for known in self._changes:
            if (known.state_id, known.partition, known.version) == (
                use.state_id,
                use.partition,
                partition.version,
            ):
                self._ledger.release([known.block])
                self._changes.remove(known)
                break

    def _extend(self, partition: _Partition, block: BlockRef, is_snapshot: bool) -> None:
        self._ledger.retain([block])
        if is_snapshot:
            partition.replaced, partition.chain = partition.chain, [block]
            partition.snapshot_bytes, partition.changes_bytes = block.size, 0
        else:
            partition.chain.append(block)
            partition.changes_bytes += block.size

    def _note(self, use: StateUse, report: StateReport, *, first: bool) -> None:
        assert report.block is not None
        change = StateChange(
            use.state_id,
            use.partition,
            use.partitions,
            report.version,
            first,
            report.block,
            use.batch,
            report.keys,
        )
        self._ledger.retain([report.block])
        self._changes.append(change)

    def take_changes(self, batch: int, state_ids: Container[str]) -> list[StateChange]:
        """The blocks that batches up to ``batch`` (a label) added to chains of a stream's states.

        To be released after use. Streams that share an engine have labels in common, but no state.
        """
        taken: list[StateChange] = []
        left: list[StateChange] = []
        for change in self._changes:
            is_due = change.batch <= batch and change.state_id in state_ids
            (taken if is_due else left).append(change)
        self._changes = left
        return taken

    def release_changes(self, changes: list[StateChange]) -> None:
        """Let go of what :meth:`take_changes` gave."""
        self._ledger.release([change.block for change in changes])

    def seed(
        self,
        state_id: str,
        partition: int,
        partitions: int,
        version: int,
        batch: int,
        blocks: Sequence[BlockRef],
        *,
        write: bool = False,
    ) -> None:
        """A state of an earlier run, to be loaded by the worker that gets the partition.

        blocks: its chain; the registry takes over their hold.
        write: the chain is not in the journal as it is here; the next commit writes it.
        """
        size = sum(block.size for block in blocks)
        entry = _Partition(version, batch, -1, list(blocks), None, blocks[0].size, size - blocks[0].size)
        entry.partitions = partitions
        self._partitions[state_id, partition] = entry
        if write:
            self._changes.extend(self._whole(state_id, partition, entry))

    def rewrite(self, state_id: str, partition: int, batch: int) -> None:
        """Have the whole chain of a partition written anew by the commit of ``batch``, if that can be."""
        entry = self._partitions.get((state_id, partition))
        if (
            entry is None
            or not entry.chain
            or any(
                (change.state_id, change.partition) == (state_id, partition) and change.batch > batch
                for change in self._changes
            )
        ):
            return  # a later batch has been there; there will be another commit
        for change in [
            change for change in self._changes if (change.state_id, change.partition) == (state_id, partition)
        ]:
            self._ledger.release([change.block])
            self._changes.remove(change)
        self._changes.extend(self._whole(state_id, partition, entry))

    def _whole(self, state_id: str, partition: int, entry: _Partition) -> list[StateChange]:
        self._ledger.retain(entry.chain)
        whole = StateChange(
            state_id,
            partition,
            entry.partitions,
            entry.version,
            True,
            entry.chain[0],
            entry.batch,
            entry.keys,
        )
        return [whole, *(whole._replace(first=False, block=block) for block in entry.chain[1:])]

    def chains(self, state_id: str) -> dict[int, tuple[int, list[BlockRef]]]:
        """Version and chain of each partition of a state."""
        return {
            partition: (entry.version, list(entry.chain))
            for (name, partition), entry in self._partitions.items()
            if name == state_id
        }

    def drop(self, state_ids: Collection[str]) -> None:
        """Forget states, which may be seeded anew; workers hear of it with their next tasks."""
        self.dropped = (*self.dropped, *sorted(state_ids))[-DROPPED_MAX:]
        for key in [key for key in self._partitions if key[0] in state_ids]:
            partition = self._partitions.pop(key)
            self._ledger.release([*partition.chain, *(partition.replaced or ())])
        self.release_changes([change for change in self._changes if change.state_id in state_ids])
        self._changes = [change for change in self._changes if change.state_id not in state_ids]

    def end(self, state_ids: Collection[str]) -> None:
        """Forget states for good: their stream has ended."""
        self.drop(state_ids)
        self._durable.difference_update(state_ids)

    def is_current(self, state_id: str, partition: int, batch: int) -> bool:
        """True when the partition has been brought to ``batch``."""
        entry = self._partitions.get((state_id, partition))
        return entry is not None and entry.batch == batch

    def statistics(self) -> list[StateStatistics]:
        """Sizes, by state."""
        totals: dict[str, list[int]] = {}
        for (state_id, _), entry in self._partitions.items():
            figures = (
                entry.keys,
                len(entry.chain),
                sum(ref.size for ref in entry.chain),
                entry.cache_bytes,
                entry.disk_bytes,
                entry.hits,
                entry.misses,
            )
            total = totals.setdefault(state_id, [0] * len(figures))
            totals[state_id] = [sum(pair) for pair in zip(total, figures, strict=True)]
        return [StateStatistics(state_id, *total) for state_id, total in totals.items()]
