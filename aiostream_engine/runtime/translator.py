"""From the stream graph to the RDDs of one batch, each made once and kept as long as it is needed."""

from __future__ import annotations

import inspect
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeGuard

from ..blocks.directory import BlockLedger
from ..errors import GraphError
from ..operators import kernels
from ..operators.kernels import kernel
from ..operators.partitioners import FunctionPartitioner, HashPartitioner, Partitioner
from ..operators.structure import ToValue
from ..plan.graph import (
    InputStream,
    InverseWindowStream,
    OutputNode,
    SideStream,
    SnapshotStream,
    StateStream,
    StreamNode,
    TransformStream,
    WindowStream,
    walk_streams,
)
from ..plan.nodes import Exchange, Node, Source, StateNode
from ..sources.base import BatchInput
from ..state.guard import policy_of
from ..state.specs import FilteredInverseWindow, Snapshot
from ..types import BatchTime, BlockRef
from ..windows.intervals import (
    Interval,
    entering,
    is_due_within,
    last_tick_at,
    leaving,
    remember_of_parent,
    window_at,
)
from .empty_batches import EmptyBatches
from .jobs import JobRunner
from .machine import Batch
from .records import KeptBlock
from .recovered import KeptPart, Layout

__all__ = ["Dataset", "DatasetFactory", "Translator", "has_state", "stored_state_id"]


class Dataset(Protocol):
    """What the translator needs to know of an RDD."""

    node: Node


class DatasetFactory(Protocol):
    """Makes RDDs; the engine context, seen from below."""

    default_parallelism: int

    @property
    def runner(self) -> JobRunner: ...

    def from_node(self, node: Node) -> Any: ...

    def empty_rdd(self) -> Any: ...

    def union(self, rdds: Sequence[Any]) -> Any: ...

    def parallelize(self, records: Iterable[Any], partitions: int | None = None) -> Any: ...


class Translator:
    """Makes and remembers the RDDs of the streams of one graph.

    Parameters
    ----------
    factory: makes RDDs.
    outputs, inputs: the graph.
    interval_ms: the batch interval.
    remember_ms: least time that every RDD is kept (row CTX-18).
    cached: ids of streams that the user asked to persist.
    pack: blocks to partitions.
    previous_done: awaited before a state is changed, so that batches do it in order.
    """

    def __init__(
        self,
        factory: DatasetFactory,
        outputs: Sequence[OutputNode],
        inputs: Sequence[InputStream],
        interval_ms: int,
        remember_ms: int,
        cached: set[int],
        pack: Callable[[Sequence[BlockRef], int], tuple[tuple[BlockRef, ...], ...]],
        previous_done: Callable[[Batch], Awaitable[None]],
    ) -> None:
        self._factory = factory
        self._interval_ms = interval_ms
        self._remember_ms = remember_ms
        self._pack = pack
        self._previous_done = previous_done
        self.zero_ms = 0
        self.nodes = list(walk_streams([*inputs, *(output.parent for output in outputs)]))
        self._retention = _retention(self.nodes, interval_ms, remember_ms)
        self._kept = (
            cached | _shared(self.nodes, outputs) | _window_parents(self.nodes) | _lettered(self.nodes)
        )
        self._forced = [
            node for node in self.nodes if node.id in _window_parents(self.nodes) or has_state(node)
        ]
        self._rdds: defaultdict[int, dict[int, Any]] = defaultdict(dict)
        self._inputs: dict[int, dict[int, BatchInput]] = defaultdict(dict)
        self._fired: dict[int, int] = {}
        self._uses: Counter[int] = Counter()  # RDD node -> streams and batches that hold it
        self._marked: set[int] = set()
        self._held: dict[tuple[int, int], list[BlockRef]] = {}
        self._letters: dict[tuple[int, int], Source] = {}
        self._windows = _windows_over(self.nodes)
        everything = {node.id for node in self.nodes}  # what is remembered is looked up by batch
        self._empty = EmptyBatches(self.nodes, everything if remember_ms else self._kept)
        self._layout: Layout | None = None

    @property
    def _ledger(self) -> BlockLedger:
        return self._factory.runner.directory.ledger

    def add_input(self, node: InputStream, time: int, content: BatchInput) -> None:
        """The frozen content of an input for the batch ``time``."""
        self._inputs[node.id][time] = content

    # -- into how many partitions --------------------------------------------------------------

    @property
    def layout(self) -> Layout:
        """Into how many partitions batches are cut now."""
        own = {node.name: node.partitioner.partitions for node in self.nodes if has_state(node)}
        return self._layout or Layout(self._factory.default_parallelism, own)

    def use_layout(self, layout: Layout | None) -> None:
        """Cut batches as an earlier run did, where a hash places records; None: as the program says (B6)."""
        self._layout = layout

    def _partitioner(self, node: StateStream | InverseWindowStream) -> Partitioner:
        own = node.partitioner
        wanted = own.partitions if self._layout is None else self._layout.steps.get(node.name, own.partitions)
        if wanted != own.partitions and isinstance(own, HashPartitioner | FunctionPartitioner):
            return replace(own, partitions=wanted)
        return own

    # -- one batch -----------------------------------------------------------------------------

    def is_due(self, node: StreamNode, batch: Batch) -> bool:
        """True when the stream has an RDD in this batch; a slide that fell between two batches is due now."""
        if node.slide_ms == self._interval_ms and not isinstance(node, WindowStream | InverseWindowStream):
            return True
        return is_due_within(batch.previous, batch.time, self.zero_ms, node.slide_ms)

    async def rdd(self, node: StreamNode, batch: Batch) -> Any | None:
        """The RDD of a stream for a batch; None when it has none (row DS-2). Made at the first call."""
        made = self._rdds[node.id]
        if batch.time in made:
            return made[batch.time]
        made[batch.time] = rdd = await self._make_or_repeat(node, batch) if self.is_due(node, batch) else None
        if rdd is not None:
            self._uses[rdd.node.id] += 1
            if node.id in self._kept:
                self._keep(node, rdd, batch.time)
        return rdd

    def is_empty(self, node: StreamNode, batch: Batch) -> bool:
        """True of a stream that gives the same in all batches without input, of which ``batch`` is one."""
        return self._empty_key(node, batch) is not None

    def _empty_key(self, node: StreamNode, batch: Batch) -> tuple[int, int] | None:
        def is_empty(input_id: int) -> bool:
            content = self._inputs[input_id].get(batch.time)
            return content is not None and not content.blocks and not content.datasets

        return self._empty.key(node, self._factory.default_parallelism, is_empty)

    async def _make_or_repeat(self, node: StreamNode, batch: Batch) -> Any | None:
        """The RDD of a batch; one that is empty like an earlier one is that."""
        key = self._empty_key(node, batch)
        if key is None:
            return await self._make(node, batch)
        rdd = self._empty.get(key)
        if rdd is None and (rdd := await self._make(node, batch)) is not None:
            self._empty.put(key, rdd)
        return rdd

    def _keep(self, node: StreamNode, rdd: Dataset, time: int) -> None:
        if isinstance(rdd.node, Source):
            if not isinstance(node, InputStream):  # an input's own blocks go with the input
                self._held[node.id, time] = refs = [ref for part in rdd.node.parts for ref in part]
                self._ledger.retain(refs)
        elif not self._factory.runner.is_marked(rdd.node):
            self._factory.runner.mark(rdd.node)
            self._marked.add(rdd.node.id)

    async def force(self, batch: Batch) -> None:
        """Compute what later batches build on, whether an output asked for it or not."""
        for node in self._forced:
            rdd = await self.rdd(node, batch)
            if rdd is not None and self._factory.runner.is_marked(rdd.node):
                await self._factory.runner.keep(rdd.node, batch.time)

    async def _make(self, node: StreamNode, batch: Batch) -> Any | None:
        match node:
            case InputStream():
                return self._input(node, batch.time)
            case TransformStream():
                return await self._transform(node, batch)
            case WindowStream():
                return await self._window(node, batch)
            case StateStream():
                return await self._state(node, batch)
            case InverseWindowStream():
                return await self._inverse_window(node, batch)
            case SnapshotStream():
                return await self._snapshot(node, batch)
            case SideStream():
                return await self._side(node, batch)

    async def _side(self, node: SideStream, batch: Batch) -> Any | None:
        (parent,) = node.parents
        rdd = await self.rdd(parent, batch)
        if rdd is None or not _is_read_apart(parent):
            return None if rdd is None else rdd.dead_letters()
        letters = self._letters.get((parent.id, batch.time))
        return self._factory.empty_rdd() if letters is None else self._factory.from_node(letters)

    def _input(self, node: InputStream, time: int) -> Any | None:
        content = self._inputs[node.id].get(time)
        if content is None:
            return None
        rdds = list(content.datasets)
        if content.blocks or not rdds:
            parts = _parts(content) or self._pack(content.blocks, self._factory.default_parallelism)
            source = node.source
            rdds.append(
                self._factory.from_node(
                    Source(
                        name=node.name,
                        parts=parts,
                        partitions=len(parts),
                        format=source.format,
                        format_args=source.format_args,
                    )
                )
            )
        return self._factory.union(rdds)

    async def _transform(self, node: TransformStream, batch: Batch) -> Any | None:
        rdds = [await self.rdd(parent, batch) for parent in node.parents]
        if not node.takes_missing:
            if all(rdd is None for rdd in rdds):
                return None
            rdds = [self._factory.empty_rdd() if rdd is None else rdd for rdd in rdds]
        result = node.build(rdds, batch.time)
        if inspect.isawaitable(result):
            result = await result
        if result is not None and not hasattr(result, "node"):
            raise GraphError(
                f"transform {node.name!r} must return an RDD or None, not {type(result).__name__}"
            )
        if result is not None and result.context is not self._factory:
            raise GraphError(f"transform {node.name!r} returned an RDD of another context")
        return result

    async def _window(self, node: WindowStream, batch: Batch) -> Any | None:
        (parent,) = node.parents
        await self.rdd(parent, batch)
        await self._previous_done(batch)
        window = self._window_of(node, batch)
        rdds = [
            rdd for time, rdd in sorted(self._rdds[parent.id].items()) if time in window and rdd is not None
        ]
        return self._factory.union(rdds) if rdds else self._factory.empty_rdd()

    def _window_of(self, node: WindowStream | InverseWindowStream, batch: Batch) -> Interval:
        """The window that the batch answers: it ends at a slide, whatever the label of the batch is.

        Where slides were missed only the last one is answered. A tumbling window then begins where
        the one before ended, so that no record is left out; one that overlaps keeps its length.
        """
        end = last_tick_at(batch.time, node.slide_ms, self.zero_ms)
        if node.window_ms == node.slide_ms:
            return Interval(last_tick_at(batch.previous, node.slide_ms, self.zero_ms), end)
        return window_at(end, node.window_ms)

    # -- state ---------------------------------------------------------------------------------

    async def _state(self, node: StateStream, batch: Batch) -> Any:
        (parent,) = node.parents
        await self._previous_done(batch)
        rdd = await self.rdd(parent, batch)
        if rdd is None and node.rests_when_missing:
            return await self._rest(node, batch)
        partitioner = self._partitioner(node)
        inputs = [_placed(rdd, partitioner, node.name)]
        if node.initial is not None and node.id not in self._fired:
            inputs.append(_placed(self._initial(node.initial), partitioner, node.name))
        update = _state_node(node, node.spec, batch, inputs, partitioner)
        if node.spec.mapped:
            result = self._factory.from_node(update)
            self._keep(node, result, batch.time)
            await self._factory.runner.keep(update, batch.time)
        else:
            await self._bring_forward(node, update, batch)
            result = self._scan(node, batch)
        self._fired[node.id] = batch.time
        return result

    async def _rest(self, node: StateStream, batch: Batch) -> Any | None:
        """The state as it is, brought to this batch; None before there is one."""
        if node.id not in self._fired:
            return None
        partitioner = self._partitioner(node)
        await self._advance(_state_node(node, Snapshot(), batch, [_nothing(partitioner)], partitioner), batch)
        self._fired[node.id] = batch.time
        return self._scan(node, batch)

    def _initial(self, initial: Any) -> Any:
        return initial if hasattr(initial, "node") else self._factory.parallelize(list(initial))

    async def _advance(self, update: StateNode, batch: Batch) -> None:
        """Change the state now, so that outputs only read it, in whatever number."""
        await self._factory.runner.run(update, ToValue(update.name, kernel(kernels.first_n, 0)), batch.time)

    async def _bring_forward(self, node: StateStream, update: StateNode, batch: Batch) -> None:
        """:meth:`_advance`, and keep the dead letters, which are not to be read from the state."""
        policy = policy_of(node.spec)
        if policy is None or not policy.gives_dead_letters:
            await self._advance(update, batch)
            return
        nothing = ToValue(update.name, kernel(kernels.first_n, 0))
        side = f"dead-letters:{update.name}"
        letters = await self._factory.runner.run_for_side(update, nothing, side, batch.time)
        self._letters[node.id, batch.time] = letters
        self._held[node.id, batch.time] = [ref for part in letters.parts for ref in part]

    def _scan(self, node: StateStream | InverseWindowStream, batch: Batch) -> Any:
        reading = Snapshot(filtered=isinstance(node.spec, FilteredInverseWindow))
        scan = _state_node(node, reading, batch, [], self._partitioner(node), scan=True)
        return self._factory.from_node(scan)

    async def _snapshot(self, node: SnapshotStream, batch: Batch) -> Any | None:
        (state,) = node.parents
        if await self.rdd(state, batch) is None or not isinstance(state, StateStream):
            return None
        return self._scan(state, batch)

    async def _inverse_window(self, node: InverseWindowStream, batch: Batch) -> Any:
        (parent,) = node.parents
        await self._previous_done(batch)
        await self.rdd(parent, batch)
        last = self._fired.get(node.id)
        now = self._window_of(node, batch)
        before = window_at(last, node.window_ms) if last is not None else window_at(now.begin, 0)
        if node.window_ms == node.slide_ms:  # all leaves, which the state knows best
            before = window_at(now.begin, 0)
        inputs = [self._reduced(node, parent, span) for span in (entering(before, now), leaving(before, now))]
        await self._advance(_state_node(node, node.spec, batch, inputs, self._partitioner(node)), batch)
        self._fired[node.id] = now.end
        return self._scan(node, batch)

    def _reduced(self, node: InverseWindowStream, parent: StreamNode, span: Any) -> Node:
        made = self._rdds[parent.id]
        rdds = [rdd for time, rdd in sorted(made.items()) if time in span and rdd is not None]
        rdds = [rdd for rdd in rdds if rdd.node.partitions]
        partitioner = self._partitioner(node)
        if not rdds:
            return _nothing(partitioner)
        return _placed(self._factory.union(rdds), partitioner, node.name)

    # -- across a restart ----------------------------------------------------------------------

    def fired(self) -> dict[str, int]:
        """When each stateful stream was brought forward last, by name."""
        return {node.name: self._fired[node.id] for node in self.nodes if node.id in self._fired}

    def horizons(self, batch: Batch) -> dict[str, int]:
        """For each window the label up to which the RDDs that it reads go with the commit of ``batch``."""
        return {
            name: batch.time - self._retention[node_id]
            for node_id, names in self._windows.items()
            for name in names
        }

    def kept_blocks(self, batch: Batch) -> list[KeptBlock]:
        """What later windows read of this batch."""
        blocks: list[KeptBlock] = []
        for node_id, names in self._windows.items():
            rdd = self._rdds[node_id].get(batch.time)
            if rdd is None:
                continue
            source = rdd.node if isinstance(rdd.node, Source) else self._factory.runner.kept(rdd.node)
            if source is None:
                continue
            placed = (
                source.partitioner.partitions if isinstance(source.partitioner, HashPartitioner) else None
            )
            blocks.extend(
                KeptBlock(names, index, source.partitions, placed, ref)
                for index, part in enumerate(source.parts)
                for ref in part
            )
        return blocks

    def restore(self, fired: dict[str, int], kept: dict[str, dict[int, dict[int, KeptPart]]]) -> None:
        """Go on after an earlier run: what fired when, and the RDDs that windows still need."""
        self._fired = {
            node.id: fired[node.name] for node in self.nodes if node.name in fired and has_state(node)
        }
        for node_id, names in self._windows.items():
            # Windows over one stream share its RDDs: each name finds them.
            found = {time: parts for name in reversed(names) for time, parts in kept.get(name, {}).items()}
            for time in sorted(found):
                self._rdds[node_id][time] = self._factory.from_node(_restored(names[0], found[time]))

    # -- forgetting ----------------------------------------------------------------------------

    def forget(self, batch: Batch) -> None:
        """Let go of what no later batch needs (row DS-7); called when ``batch`` is committed."""
        for node in self.nodes:
            self._forget(node, batch.time - self._retention[node.id])

    def _forget(self, node: StreamNode, horizon: float) -> None:
        made = self._rdds[node.id]
        while made and (time := next(iter(made))) <= horizon:  # oldest first
            rdd = made.pop(time)
            self._letters.pop((node.id, time), None)
            if rdd is not None:
                self._let_go(rdd.node.id)
                self._ledger.release(self._held.pop((node.id, time), ()))
        contents = self._inputs.get(node.id, {})
        while contents and (time := next(iter(contents))) <= horizon:
            self._ledger.release(contents.pop(time).blocks)

    def _let_go(self, rdd_node: int) -> None:
        self._uses[rdd_node] -= 1
        if self._uses[rdd_node] <= 0:
            del self._uses[rdd_node]
            if rdd_node in self._marked:
                self._marked.discard(rdd_node)
                self._factory.runner.drop([rdd_node])

    def close(self) -> None:
        """Let go of all blocks and states: the stream has ended, the engine may live on."""
        for node in self.nodes:
            self._forget(node, math.inf)
        runner = self._factory.runner
        self._empty.clear()
        runner.drop(self._marked)  # of a batch that failed half-way
        self._marked.clear()
        runner.states.end(
            {node.state_id for node in self.nodes if isinstance(node, StateStream | InverseWindowStream)}
        )

    def remembered(self, node: StreamNode, begin: int, end: int) -> list[tuple[BatchTime, Any]]:
        """The RDDs of a stream with a label in [begin, end], in order (row DS-8)."""
        made = self._rdds[node.id]
        return [
            (BatchTime(time), rdd)
            for time, rdd in sorted(made.items())
            if begin <= time <= end and rdd is not None
        ]


def _parts(content: BatchInput) -> tuple[tuple[BlockRef, ...], ...]:
    """The blocks of an input as its source parts them, empty when it does not."""
    blocks = iter(content.blocks)
    return tuple(tuple(itertools.islice(blocks, size)) for size in content.part_sizes)


def _restored(name: str, parts: dict[int, KeptPart]) -> Source:
    first = next(iter(parts.values()))
    blocks = tuple(tuple(parts[index].blocks) if index in parts else () for index in range(first.partitions))
    formats = {(ref.format, ref.args) for part in blocks for ref in part} or {("pickle", ())}
    format, args = formats.pop()
    return Source(
        name=name,
        parts=blocks,
        partitions=first.partitions,
        partitioner=None if first.placed is None else HashPartitioner(first.placed),
        format=format,
        format_args=args,
    )


def _windows_over(nodes: Sequence[StreamNode]) -> dict[int, tuple[str, ...]]:
    """Streams that windows look back on, with the names under which their RDDs outlive the driver."""
    windows: defaultdict[int, list[str]] = defaultdict(list)
    for node in nodes:
        if isinstance(node, WindowStream | InverseWindowStream):
            windows[node.parents[0].id].append(node.name)
    return {node_id: tuple(sorted(names)) for node_id, names in windows.items()}


def _placed(rdd: Any | None, partitioner: Partitioner, name: str) -> Node:
    """The pairs of ``rdd`` where the state has its keys."""
    if rdd is None or rdd.node.partitions == 0:
        return _nothing(partitioner)
    node: Node = rdd.node
    if node.partitioner == partitioner:
        return node
    return Exchange(name=name, parent=node, partitions=partitioner.partitions, partitioner=partitioner)


def _nothing(partitioner: Partitioner) -> Source:
    parts: tuple[tuple[BlockRef, ...], ...] = ((),) * partitioner.partitions
    return Source(name="nothing", parts=parts, partitions=partitioner.partitions, partitioner=partitioner)


def _state_node(
    node: StateStream | InverseWindowStream,
    spec: Any,
    batch: Batch,
    inputs: Sequence[Node],
    partitioner: Partitioner,
    scan: bool = False,
) -> StateNode:
    return StateNode(
        name=node.name,
        state_id=node.state_id,
        spec=spec,
        inputs=tuple(inputs),
        batch=batch.time,
        scan=scan,
        partitions=partitioner.partitions,
        # What map_with_state yields need not be pairs at all; a scanned state lies by its keys.
        partitioner=None if spec.mapped else partitioner,
    )


def has_state(node: StreamNode) -> TypeGuard[StateStream | InverseWindowStream]:
    """True of a stream that keeps a keyed state."""
    return isinstance(node, StateStream | InverseWindowStream)


def stored_state_id(node: StateStream | InverseWindowStream) -> str:
    """What a checkpoint calls a state; unlike ``state_id`` it does not tell streams of one engine apart.

    Each of these has a directory of its own, and may be the only stream of the engine that it restarts on.
    """
    return f"state of {node.name}"


def _shared(nodes: Sequence[StreamNode], outputs: Sequence[OutputNode]) -> set[int]:
    """Streams with more than one consumer: computed once a batch (row DS-1)."""
    uses = Counter(
        parent.id
        for node in nodes
        for parent in node.parents
        if not (isinstance(node, SideStream) and _is_read_apart(parent))
    )
    uses.update(output.parent.id for output in outputs)
    return {node_id for node_id, count in uses.items() if count > 1}


def _lettered(nodes: Sequence[StreamNode]) -> set[int]:
    """Steps that are run once for their records and their dead letters."""
    parents = [node.parents[0] for node in nodes if isinstance(node, SideStream)]
    return {parent.id for parent in parents if not _is_read_apart(parent)}


def _is_read_apart(node: StreamNode) -> bool:
    """True of a stream that is read from a state, which dead letters are no part of."""
    return isinstance(node, StateStream) and not node.spec.mapped


def _window_parents(nodes: Sequence[StreamNode]) -> set[int]:
    return {
        parent.id
        for node in nodes
        if isinstance(node, WindowStream | InverseWindowStream)
        for parent in node.parents
    }


def _retention(nodes: Sequence[StreamNode], interval_ms: int, remember_ms: int) -> dict[int, int]:
    """How long each stream's RDDs are kept; children push what they need to their parents (row DS-6).

    A batch's own RDDs go when it is committed (retention 0): a window's parent is computed in its
    batch and needs nothing from below afterwards.
    """
    retention = {node.id: remember_ms for node in nodes}
    for node in reversed(nodes):
        if isinstance(node, WindowStream | InverseWindowStream):
            needed = remember_of_parent(node.slide_ms, node.window_ms)
            for parent in node.parents:
                retention[parent.id] = max(retention[parent.id], needed)
    return retention
