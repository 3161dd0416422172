"""Put keyed states back after a restart, also into another number of partitions or another form."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ..blocks.directory import BlockDirectory
from ..blocks.storage import read_bytes
from ..errors import GraphError
from ..operators.partitioners import HashPartitioner
from ..plan.graph import InverseWindowStream, StateStream, StreamNode
from ..state.budget import Budget
from ..state.disk_store import DiskStore
from ..state.store import MemoryStore
from ..types import BlockRef
from .chains import ChainLink
from .driver import StreamDriver
from .recovered import Layout, Recovered, StateChains
from .recovery import step_of_state
from .state_migration import Change, Lookup, NewStore, dealt_anew, migrated
from .translator import DatasetFactory, has_state, stored_state_id

__all__ = ["StateRestoring"]

_log = logging.getLogger("aiostream_engine.checkpoint")

Keeper = StateStream | InverseWindowStream


@dataclass(slots=True)
class StateRestoring:
    """Brings the states of a program back, in two steps.

    First all is as the last run had it: a batch that was begun is finished in the partitions in which it
    was begun, since its writes are named by them (scenario B6). Then the states are dealt over the
    partitions of the program, and the next commit writes them so (scenario H7).
    """

    recovered: Recovered
    nodes: Sequence[StreamNode]
    engine: DatasetFactory
    driver: StreamDriver

    async def restore(self) -> None:
        """Hand all chains to the registry. Raises GraphError and ConfigurationError where that cannot be."""
        layout = self._layout()
        for node in self._keepers:
            found = self.recovered.states.get(stored_state_id(node))
            if found is not None:
                await self._restore(node, found, layout.steps[node.name])

    @property
    def _keepers(self) -> list[Keeper]:
        return [node for node in self.nodes if has_state(node)]

    def _layout(self) -> Layout:
        """Into how many partitions the last run cut batches."""
        recovered, own = self.recovered, self.driver.translator.layout
        steps = {step_of_state(state_id): found.partitions for state_id, found in recovered.states.items()}
        layout = Layout(own.parallelism, {**own.steps, **steps})
        if recovered.pending:
            last = recovered.pending[-1].layout
            layout = Layout(last.parallelism, {**layout.steps, **last.steps})
        for node in self._keepers:
            found = recovered.states.get(stored_state_id(node))
            if not isinstance(node.partitioner, HashPartitioner) or (found and not found.hashed):
                layout.steps[node.name] = node.partitioner.partitions
        layout.steps = {name: count for name, count in layout.steps.items() if name in own.steps}
        return layout

    async def _restore(self, node: Keeper, found: StateChains, partitions: int) -> None:
        schema, migrate = (node.schema, node.migrate) if isinstance(node, StateStream) else (1, None)
        change = None
        if found.schema != schema:
            if migrate is None:
                raise GraphError(
                    f"the state of step {node.name!r} was written with version {found.schema}, the program "
                    f"has version {schema}: give migrate=, which makes the one from the other"
                )
            change = migrated(migrate, found.schema)
        if change is None and found.partitions == partitions and _lies_by_hash(node, found):
            await self._hand_over(node, found)
            return
        lookup = HashPartitioner(partitions).lookup()
        if not isinstance(node.partitioner, HashPartitioner):
            lookup = node.partitioner.lookup()
        chains = [chain.blocks for chain in found.chains.values()]
        stores = await self._dealt(node, chains, partitions, lookup, change)
        await self._seed(node, stores, 1, self.recovered.time)

    async def _hand_over(self, node: Keeper, found: StateChains) -> None:
        """The chains as they are, in blocks of our own: the journal may drop its segments."""
        runner = self.engine.runner
        for index, chain in found.chains.items():
            on_disk = runner.states.config_of(node.state_id).on_disk
            links = await asyncio.to_thread(_copied, chain.links, runner.directory, on_disk=on_disk)
            runner.directory.ledger.retain([link.block for link in links])
            time = self.recovered.time
            runner.states.seed(node.state_id, index, found.partitions, chain.version, time, links)

    async def _dealt(
        self,
        node: Keeper,
        chains: Sequence[Sequence[BlockRef]],
        partitions: int,
        lookup: Lookup,
        change: Change | None = None,
    ) -> list[MemoryStore]:
        runner = self.engine.runner
        config = runner.states.config_of(node.state_id)
        new_store: NewStore = MemoryStore
        if config.on_disk:
            budget = Budget(config.memory_bytes_max)
            new_store = functools.partial(DiskStore, runner.directory.spill_path, budget, node.name)
        return await asyncio.to_thread(dealt_anew, node.name, chains, partitions, lookup, change, new_store)

    async def _seed(self, node: Keeper, stores: Sequence[MemoryStore], version: int, time: int) -> None:
        runner = self.engine.runner
        for index, store in enumerate(stores):
            block = await asyncio.to_thread(_snapshot, store, runner.directory)
            runner.directory.ledger.retain([block])
            link = ChainLink(block, version, first=True, swept_bytes=block.size)
            runner.states.seed(node.state_id, index, len(stores), version, time, [link], write=True)

    # -- from one layout to another ------------------------------------------------------------

    def use_recorded_layout(self) -> Callable[[], Awaitable[None]] | None:
        """Cut batches as the last run did; gives what ends that, None when nothing differs."""
        recorded, own = self._layout(), self.driver.translator.layout
        if recorded == own:
            return None
        self.driver.translator.use_layout(recorded)
        self.engine.default_parallelism = recorded.parallelism
        return lambda: self._use_own_layout(recorded, own)

    async def _use_own_layout(self, recorded: Layout, own: Layout) -> None:
        self.driver.translator.use_layout(None)
        self.engine.default_parallelism = own.parallelism
        for node in self._keepers:
            if recorded.steps[node.name] != own.steps[node.name]:
                await self._deal(node, recorded.steps[node.name])

    async def _deal(self, node: Keeper, before: int) -> None:
        states, partitions = self.engine.runner.states, node.partitioner.partitions
        chains = states.chains(node.state_id)
        if not chains:
            return
        _log.info("the state of step %s is dealt over %d partitions, was %d", node.name, partitions, before)
        blocks, lookup = [chain for _, chain in chains.values()], node.partitioner.lookup()
        stores = await self._dealt(node, blocks, partitions, lookup)
        # Above any version that a worker may hold of a partition with the same number.
        version = 2 + max(version for version, _ in chains.values())
        states.drop([node.state_id])
        await self._seed(node, stores, version, self.driver.last_time)


def _copied(links: Sequence[ChainLink], directory: BlockDirectory, *, on_disk: bool) -> list[ChainLink]:
    payloads = (read_bytes(link.block) for link in links)
    if on_disk:
        path, sizes = directory.writer.write_on_disk(payloads)
    else:
        parts = list(payloads)
        path, sizes = directory.writer.write(parts)[0], [len(part) for part in parts]
    offsets = itertools.accumulate(sizes, initial=0)
    return [
        link._replace(block=BlockRef("pickle", None, path, offset, size))
        for link, offset, size in zip(links, offsets, sizes, strict=False)
    ]


def _snapshot(store: MemoryStore, directory: BlockDirectory) -> BlockRef:
    parts = store.snapshot_block()
    if store.on_disk:
        path, sizes = directory.writer.write_on_disk(parts)
    else:
        (payload,) = parts
        path, sizes = directory.writer.write([payload])[0], [len(payload)]
    return BlockRef("pickle", None, path, 0, sum(sizes))


def _lies_by_hash(node: Keeper, found: StateChains) -> bool:
    """True when the keys of a stored state lie as the program expects, but for the number of partitions."""
    return found.hashed and isinstance(node.partitioner, HashPartitioner)
