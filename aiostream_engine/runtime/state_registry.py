"""Which version of each keyed state exists, and the blocks from which it can be rebuilt.

The state itself stays in the worker that owns the partition. What is kept here is a chain of
blocks in shared memory, a snapshot and the changes after it, so that a worker may die. The snapshot
comes in slices, one in each batch, so that no batch has to write the state as a whole.
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
from .chains import ChainLink, snapshot_bytes
from .records import StateChange

__all__ = ["StateRegistry", "StateStatistics"]

DROPPED_MAX = 64  # each task carries them, so that every worker hears of them sooner or later

CHAIN_BLOCKS_MAX = 2048  # a snapshot begins at half of them, and is over long before
CHAIN_BYTES_MIN = 4 * 1024 * 1024  # below this a longer chain is cheaper than a snapshot
CHAIN_RATIO = 2  # a snapshot begins when the changes are so many times as large as the last one
SLICES_MAX = 512  # a snapshot takes about so many batches at most, however large the state is
WAIT_COMMITS = 64  # for the snapshot of a partition whose state is not changed by any batch


@dataclass(slots=True)
class _Partition:
    """``replaced`` are the first links of the chain that this version cut off, kept for one more batch.

    wrote: this version added a link to the chain; one that changed nothing adds none.
    snapshot_bytes: of the last complete snapshot. sweep: version at which the one began that is under way.
    wanted: a snapshot is to be made for the sake of the journal. waits: commits since that was said.
    """

    version: int = 0
    batch: int = -1
    keys: int = 0
    chain: list[ChainLink] = field(default_factory=list)
    replaced: list[ChainLink] = field(default_factory=list)
    bytes: int = 0
    snapshot_bytes: int = 0
    sweep: int = 0
    swept_bytes: int = 0
    wanted: bool = False
    waits: int = 0
    snapshots: int = 0
    slice_bytes_max: int = 0
    wrote: bool = False
    partitions: int = 0
    cache_bytes: int = 0
    disk_bytes: int = 0
    hits: int = 0
    misses: int = 0

    def sweep_bytes(self, slice_bytes: int) -> int:
        """How much of a snapshot the next batch shall write; 0 for nothing.

        In step with what has changed since it began, so that it ends before as much has changed again.
        """
        changes_bytes = self.bytes - self.snapshot_bytes
        if not self.sweep:
            grown = changes_bytes > max(CHAIN_BYTES_MIN, CHAIN_RATIO * self.snapshot_bytes)
            if not grown and len(self.chain) < CHAIN_BLOCKS_MAX // 2 and not self.wanted:
                return 0
            return max(slice_bytes, self.bytes // SLICES_MAX)
        since = sum(link.block.size - link.swept_bytes for link in self.chain if link.version >= self.sweep)
        return max(slice_bytes, self.bytes // SLICES_MAX, since - self.swept_bytes)

    @property
    def previous(self) -> list[ChainLink]:
        """The chain of ``version - 1``."""
        return [*self.replaced, *(self.chain[:-1] if self.wrote else self.chain)]


@dataclass(frozen=True, slots=True)
class StateStatistics:
    """Size of one keyed state; chain figures are what a lost worker would cost to rebuild.

    snapshots: of partitions, since start. slice_bytes_max: the most that a batch wrote of one.
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
    snapshots: int = 0
    slice_bytes_max: int = 0


class StateRegistry:
    """Versions and chains of all keyed states of a context; on the driver's loop."""

    def __init__(self, ledger: BlockLedger) -> None:
        self._ledger = ledger
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self.dropped: tuple[str, ...] = ()
        self._changes: list[StateChange] = []
        self._durable: set[str] = set()
        self.config = StateConfig()
        self.configs: dict[str, StateConfig] = {}
        """Of states that do not lie where the others do, by id."""

    def config_of(self, state_id: str) -> StateConfig:
        """Where a state lies."""
        return self.configs.get(state_id, self.config)

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
        changelog, config = volatile and base != target, self.config_of(use.state_id)
        return StateDirective(
            use.state_id,
            use.partition,
            base,
            target,
            tuple([link.block for link in chain]) if restore else None,
            changelog=changelog,
            sweep_bytes=partition.sweep_bytes(config.snapshot_slice_bytes) if changelog else 0,
            sweep=partition.sweep,
            memory_bytes_max=config.memory_bytes_max if config.on_disk else 0,
            own_bound=use.state_id in self.configs,
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
        elif partition.replaced:
            self._release(partition.replaced)
            partition.replaced = []
        partition.wrote = report.block is not None
        if report.block is not None:
            link = ChainLink(
                report.block,
                report.version,
                report.is_snapshot or not partition.chain,
                report.sweep,
                report.block.size if report.is_snapshot else report.swept_bytes,
                report.sweep_done,
            )
            if use.state_id in self._durable:
                self._note(use, report, link)
            self._extend(partition, link, report.is_snapshot)
        partition.version, partition.batch = report.version, use.batch

    def _undo(self, use: StateUse, partition: _Partition) -> None:
        """The batch was run again: what its first run gave does not count."""
        if not partition.wrote:
            return
        self._release(partition.chain[-1:])
        partition.chain, partition.replaced = partition.previous, []
        # The worker gave the snapshot up when it went back, and a complete one may be a part again.
        partition.bytes = sum(link.block.size for link in partition.chain)
        partition.sweep, partition.snapshot_bytes = 0, snapshot_bytes(partition.chain)
        for known in self._changes:
            if (known.state_id, known.partition, known.version) == (
                use.state_id,
                use.partition,
                partition.version,
            ):
                self._ledger.release([known.block])
                self._changes.remove(known)
                break

    def _release(self, links: Iterable[ChainLink]) -> None:
        self._ledger.release([link.block for link in links])

    def _extend(self, partition: _Partition, link: ChainLink, is_snapshot: bool) -> None:
        """Add a link; it cuts off what a complete snapshot makes needless."""
        self._ledger.retain([link.block])
        if not partition.chain:
            partition.snapshot_bytes = link.block.size
        goes_on = link.sweep and link.sweep == partition.sweep
        partition.swept_bytes = link.swept_bytes + (partition.swept_bytes if goes_on else 0)
        partition.sweep, partition.waits = link.sweep, 0 if link.sweep else partition.waits
        partition.slice_bytes_max = max(partition.slice_bytes_max, link.swept_bytes)
        partition.chain.append(link)
        partition.bytes += link.block.size
        if is_snapshot or link.sweep_done:
            began = link.version if is_snapshot else link.sweep
            kept = [item for item in partition.chain if item.version >= began]
            partition.replaced = partition.chain[: len(partition.chain) - len(kept)]
            partition.chain = kept
            partition.bytes = sum(item.block.size for item in kept)
            partition.snapshot_bytes, partition.sweep, partition.swept_bytes = partition.swept_bytes, 0, 0
            partition.wanted, partition.waits = False, 0
            partition.snapshots += 1

    def _note(self, use: StateUse, report: StateReport, link: ChainLink) -> None:
        self._ledger.retain([link.block])
        change = _change(use.state_id, use.partition, use.partitions, link, use.batch, report.keys)
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
        links: Sequence[ChainLink],
        *,
        write: bool = False,
    ) -> None:
        """A state of an earlier run, to be loaded by the worker that gets the partition.

        links: its chain; the registry takes over the hold of its blocks.
        write: the chain is not in the journal as it is here; the next commit writes it.
        """
        entry = _Partition(version, batch, -1, list(links))
        entry.bytes, entry.snapshot_bytes = sum(link.block.size for link in links), snapshot_bytes(links)
        entry.partitions = partitions
        self._partitions[state_id, partition] = entry
        if write:
            self._changes.extend(self._whole(state_id, partition, entry))

    def rewrite(self, state_id: str, partition: int, batch: int) -> None:
        """Have the beginning of a chain move on: the journal holds much else because of it.

        The commit of ``batch`` writes a small chain anew, if that can be. Of a larger one a snapshot is made
        by the next batches; when they do not come to it, it is written anew as well.
        """
        entry = self._partitions.get((state_id, partition))
        if entry is not None and entry.bytes > self.config_of(state_id).snapshot_slice_bytes:
            entry.wanted, entry.waits = True, entry.waits + 1
            if entry.waits <= WAIT_COMMITS:
                return
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
        self._ledger.retain([link.block for link in entry.chain])
        entry.waits = 0
        return [
            _change(
                state_id,
                partition,
                entry.partitions,
                link._replace(first=index == 0),
                entry.batch,
                entry.keys,
            )
            for index, link in enumerate(entry.chain)
        ]

    def chains(self, state_id: str) -> dict[int, tuple[int, list[BlockRef]]]:
        """Version and chain of each partition of a state."""
        return {
            partition: (entry.version, [link.block for link in entry.chain])
            for (name, partition), entry in self._partitions.items()
            if name == state_id
        }

    def drop(self, state_ids: Collection[str]) -> None:
        """Forget states, which may be seeded anew; workers hear of it with their next tasks."""
        self.dropped = (*self.dropped, *sorted(state_ids))[-DROPPED_MAX:]
        for key in [key for key in self._partitions if key[0] in state_ids]:
            partition = self._partitions.pop(key)
            self._release([*partition.chain, *partition.replaced])
        self.release_changes([change for change in self._changes if change.state_id in state_ids])
        self._changes = [change for change in self._changes if change.state_id not in state_ids]

    def end(self, state_ids: Collection[str]) -> None:
        """Forget states for good: their stream has ended."""
        self.drop(state_ids)
        self._durable.difference_update(state_ids)
        for state_id in state_ids:
            self.configs.pop(state_id, None)

    def is_current(self, state_id: str, partition: int, batch: int) -> bool:
        """True when the partition has been brought to ``batch``."""
        entry = self._partitions.get((state_id, partition))
        return entry is not None and entry.batch == batch

    def statistics(self) -> list[StateStatistics]:
        """Sizes, by state."""
        totals: dict[str, list[int]] = {}
        largest: dict[str, int] = {}
        for (state_id, _), entry in self._partitions.items():
            figures = (
                entry.keys,
                len(entry.chain),
                entry.bytes,
                entry.cache_bytes,
                entry.disk_bytes,
                entry.hits,
                entry.misses,
                entry.snapshots,
            )
            total = totals.setdefault(state_id, [0] * len(figures))
            totals[state_id] = [sum(pair) for pair in zip(total, figures, strict=True)]
            largest[state_id] = max(largest.get(state_id, 0), entry.slice_bytes_max)
        return [StateStatistics(state_id, *[*total, largest[state_id]]) for state_id, total in totals.items()]


def _change(
    state_id: str, partition: int, partitions: int, link: ChainLink, batch: int, keys: int
) -> StateChange:
    return StateChange(
        state_id,
        partition,
        partitions,
        link.version,
        link.first,
        link.block,
        batch,
        keys,
        sweep=link.sweep,
        swept_bytes=link.swept_bytes,
        sweep_done=link.sweep_done,
    )
