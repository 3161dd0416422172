"""Run a lineage: resolve what must look at data, plan, run the stages, bind their blocks.

One :class:`JobRunner` a context; one short-lived :class:`_Job` an action. A job owns the blocks it
makes and lets go of them at its end; what is persisted is owned by the runner.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from ..blocks.directory import BlockDirectory
from ..executors.base import Executor, Task, TaskResult
from ..operators.structure import Terminal, ToBlocks
from ..plan.nodes import Deferred, Node, Side, Source, walk_nodes
from ..planner.programs import ProgramCache
from ..planner.stages import JobPlan, PartitionPlan, Pending, Stage, plan_job
from ..types import BlockRef
from .breaker import outcomes_of_batch
from .failures import error_of
from .foregone import foregone_result
from .state_registry import StateRegistry

__all__ = ["JobRunner", "Materialiser"]

DROPS_TOLD_MAX = 64


class Materialiser(Protocol):
    """What a deferred node may use while it resolves itself."""

    async def run_terminal(self, node: Node, terminal: Terminal) -> list[TaskResult]:
        """Run ``node`` into ``terminal`` within the same job."""

    def adopt(self, refs: Iterable[BlockRef]) -> None:
        """Make blocks the job's own: they are released at its end."""

    def add_side(self, name: str, source: Source) -> None:
        """A further output of the node that resolves itself."""

    def count(self, counters: dict[str, int], tried: Mapping[str, int]) -> None:
        """Add to the engine's counters, and to the records that steps took which may give them up."""

    @property
    def directory(self) -> BlockDirectory:
        """Where blocks can be written."""

    @property
    def batch(self) -> int | None:
        """Label of the batch, None outside of a stream."""


class JobRunner:
    """Runs actions on an executor.

    Parameters
    ----------
    executor: where tasks run.
    directory: where blocks are.
    programs: the plan cache.
    on_accumulators: gets ``{id: partial}`` of each task that counted, once.
    on_counters: gets the engine counters of each task (``skipped:step`` …).
    """

    def __init__(
        self,
        executor: Executor,
        directory: BlockDirectory,
        programs: ProgramCache,
        on_accumulators: Callable[[dict[int, Any]], None],
        on_counters: Callable[[dict[str, int]], None],
        spill_above_bytes: int,
    ) -> None:
        self.executor = executor
        self.directory = directory
        self.programs = programs
        self.states = StateRegistry(directory.ledger)
        self.on_accumulators = on_accumulators
        self.on_counters = on_counters
        self.spill_above_bytes = spill_above_bytes
        self.dropped_broadcasts: tuple[tuple[int, int], ...] = ()
        self.task_ids = itertools.count(1)
        self.stage_seconds = 0.0
        self._marked: set[int] = set()
        self._on_disk: set[int] = set()
        self._kept: dict[int, Source] = {}
        self._sides: dict[tuple[int, str], Source] = {}
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    # -- persistence -------------------------------------------------------------------------

    def mark(self, node: Node, *, on_disk: bool = False) -> None:
        """Keep the blocks of ``node`` once it is computed; ``on_disk`` writes them there at once."""
        self._marked.add(node.id)
        if on_disk:
            self._on_disk.add(node.id)

    def is_marked(self, node: Node) -> bool:
        """True when ``node`` is to be kept."""
        return node.id in self._marked

    def kept(self, node: Node) -> Source | None:
        """The blocks of ``node`` if they exist."""
        return self._kept.get(node.id)

    @property
    def kept_nodes(self) -> Mapping[int, Source]:
        """All blocks that are kept, by the id of their node."""
        return self._kept

    def drop_broadcast(self, number: int) -> None:
        """Let workers forget a broadcast value: the next task of each tells it so."""
        # A bounded list: a worker that hears of none of them for so long has replaced its copy meanwhile.
        serial = self.dropped_broadcasts[-1][0] + 1 if self.dropped_broadcasts else 1
        self.dropped_broadcasts = (*self.dropped_broadcasts[-(DROPS_TOLD_MAX - 1) :], (serial, number))

    def drop(self, node_ids: Iterable[int]) -> None:
        """Let go of kept nodes; they are computed anew if they are asked for again."""
        for node_id in node_ids:
            self._marked.discard(node_id)
            self._on_disk.discard(node_id)
            self._locks.pop(node_id, None)
            source = self._kept.pop(node_id, None)
            if source is not None:
                self.directory.ledger.release(_refs(source))
            for key in [key for key in self._sides if key[0] == node_id]:
                self.directory.ledger.release(_refs(self._sides.pop(key)))

    # -- running -----------------------------------------------------------------------------

    async def run(self, node: Node, terminal: Terminal, batch: int | None = None) -> list[TaskResult]:
        """Run an action over all partitions; results come in the order of partitions."""
        job = _Job(self, batch)
        try:
            return await job.run_terminal(node, terminal)
        finally:
            job.release()

    async def run_for_side(self, node: Node, terminal: Terminal, side: str, batch: int) -> Source:
        """Run an action for one of its further outputs, whose blocks the caller has to release."""
        async with self.job(batch) as job:
            source = _side_of(await job.run_terminal(node, terminal), side)
            self.directory.ledger.retain(_refs(source))
            return source

    def job(self, batch: int | None = None) -> _Job:
        """A job to be used step by step, as an async context manager."""
        return _Job(self, batch)

    async def keep(self, node: Node, batch: int | None = None) -> Source:
        """Compute a marked node, once, and keep its blocks until :meth:`drop`."""
        async with self._locks[node.id]:
            source = self._kept.get(node.id)
            if source is None:
                source = await self._keep(node, batch)
            return source

    async def _keep(self, node: Node, batch: int | None) -> Source:
        job = _Job(self, batch, spill=node.id in self._on_disk)
        try:
            source, results = await job.materialise(node)
            self.directory.ledger.retain(_refs(source))
            self._kept[node.id] = source
            sides = dict(job.sides)
            for side in {name for result in results for name in result.sides}:
                sides[side] = _side_of(results, side)
            for side, kept in sides.items():
                self.directory.ledger.retain(_refs(kept))
                self._sides[node.id, side] = kept
            return source
        finally:
            job.release()

    def side(self, node: Side) -> Source:
        """A further output of a kept node; empty when nothing went there."""
        found = self._sides.get((node.parent.id, node.side))
        return found or Source(
            name=node.side, partitions=node.parent.partitions, parts=((),) * node.parent.partitions
        )


def _source_of(node: Node, results: Sequence[TaskResult]) -> Source:
    parts = tuple(result.outputs for result in results)
    return Source(name=node.name, partitions=len(parts), partitioner=node.partitioner, parts=parts)


def _side_of(results: Sequence[TaskResult], side: str) -> Source:
    parts = tuple((result.sides[side],) if side in result.sides else () for result in results)
    return Source(name=side, partitions=len(parts), parts=parts)


def _refs(source: Source) -> list[BlockRef]:
    return [ref for part in source.parts for ref in part]


class _Job:
    """One action: the nodes it resolved and the blocks it owns."""

    def __init__(self, runner: JobRunner, batch: int | None, *, spill: bool = False) -> None:
        self.runner = runner
        self.batch = batch
        self.spill = spill
        self.sides: dict[str, Source] = {}
        self._known: dict[int, Node] = {}
        self._owned: list[BlockRef] = []

    @property
    def directory(self) -> BlockDirectory:
        return self.runner.directory

    def adopt(self, refs: Iterable[BlockRef]) -> None:
        """Own blocks until the end of the job."""
        refs = list(refs)
        self.directory.ledger.retain(refs)
        self._owned.extend(refs)

    def add_side(self, name: str, source: Source) -> None:
        """A further output of the node that resolves itself, such as its dead letters."""
        self.sides[name] = source

    def count(self, counters: dict[str, int], tried: Mapping[str, int]) -> None:
        """Add to the engine's counters, and to the records that steps took which may give them up."""
        if counters:
            self.runner.on_counters(counters)
        outcomes = outcomes_of_batch.get()
        if outcomes is not None:
            outcomes.add(tried, counters)

    @property
    def blocks_owned(self) -> int:
        """How many blocks the job owns."""
        return len(self._owned)

    def release(self, since: int = 0) -> None:
        """Let go of what the job owns, or of what it came to own after its first ``since`` blocks."""
        self.directory.ledger.release(self._owned[since:])
        del self._owned[since:]

    async def __aenter__(self) -> _Job:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.release()

    # -- resolving ---------------------------------------------------------------------------

    async def run_terminal(self, node: Node, terminal: Terminal) -> list[TaskResult]:
        """Run ``node`` into ``terminal``."""
        await self._resolve(node)
        return await _Execution(self, plan_job(node, terminal, self._known)).run()

    async def materialise(self, node: Node) -> tuple[Source, list[TaskResult]]:
        """Compute ``node`` into blocks, although it is marked to be kept."""
        await self._resolve(node, itself=True)
        known = self._known.get(node.id, node)
        if isinstance(known, Source):
            return known, []
        results = await _Execution(self, plan_job(node, ToBlocks(), self._known)).run()
        return _source_of(node, results), results

    async def execution(self, node: Node, terminal: Terminal) -> _Execution:
        """The planned job, to be run partition by partition."""
        await self._resolve(node)
        return _Execution(self, plan_job(node, terminal, self._known))

    async def _resolve(self, node: Node, itself: bool = False) -> None:
        """Make every node below (and including) ``node`` one that can be planned.

        Parents come first, so that the depth of a lineage is no depth of calls: what is to be kept
        is computed before anything else, then the nodes that must look at data.
        """
        items = self._unresolved(node)
        for item in items:
            if isinstance(item, Side):
                self.runner.mark(item.parent)
                await self.runner.keep(item.parent, self.batch)
                self._known[item.id] = self.runner.side(item)
            elif self.runner.is_marked(item) and not (itself and item is node):
                self._known[item.id] = await self.runner.keep(item, self.batch)
        if any(isinstance(item, Deferred) for item in items):
            await self._resolve_deferred(node)

    async def _resolve_deferred(self, node: Node) -> None:
        for item in self._unresolved(node):
            if isinstance(item, Deferred):
                sources = [await self._materialised(parent) for parent in item.parents]
                replacement = await item.resolve(self, tuple(sources))
                await self._resolve(replacement)
                self._known[item.id] = self._known.get(replacement.id, replacement)

    def _unresolved(self, node: Node) -> list[Node]:
        """The nodes of a lineage down to those whose blocks are there, parents first."""
        kept = self.runner.kept_nodes
        items = list(walk_nodes(node, {**kept, **self._known} if kept else self._known))
        self._known.update((item.id, kept[item.id]) for item in items if item.id in kept)
        return [item for item in items if item.id not in self._known]

    async def _materialised(self, node: Node) -> Source:
        known = self._known.get(node.id, node)
        if isinstance(known, Source):
            return known
        results = await _Execution(self, plan_job(node, ToBlocks(), self._known)).run()
        source = _source_of(node, results)
        self._known[node.id] = source
        return source


class _Execution:
    """The stages of one plan, each run once; the last may be run piece by piece."""

    def __init__(self, job: _Job, plan: JobPlan) -> None:
        self._job = job
        self._plan = plan
        self._results: dict[int, list[TaskResult]] = {}

    @property
    def partitions(self) -> int:
        """Number of partitions of the result."""
        return len(self._plan.final.partitions)

    async def run(self, partitions: Sequence[int] | None = None) -> list[TaskResult]:
        """Run what is missing, then the last stage for ``partitions`` (all by default)."""
        await self._run_upstream()
        return await self._run_stage(self._plan.final, partitions)

    async def _run_upstream(self) -> None:
        waiting = self._plan.stages[:-1]
        waiting = [stage for stage in waiting if stage.id not in self._results]
        while waiting:
            ready = [stage for stage in waiting if all(need in self._results for need in stage.needs)]
            done = await _together([self._run_stage(stage) for stage in ready])
            self._results.update((stage.id, results) for stage, results in zip(ready, done, strict=True))
            waiting = [stage for stage in waiting if stage.id not in self._results]

    async def _run_stage(self, stage: Stage, partitions: Sequence[int] | None = None) -> list[TaskResult]:
        indices = range(len(stage.partitions)) if partitions is None else partitions
        groups: dict[int, list[int]] = {}
        for index in indices:
            groups.setdefault(id(stage.partitions[index].structure), []).append(index)
        parts = await _together([self._run_group(stage, group) for group in groups.values()])
        found = {
            index: result
            for group, part in zip(groups.values(), parts, strict=True)
            for index, result in zip(group, part, strict=True)
        }
        return [found[index] for index in indices]

    async def _run_group(self, stage: Stage, indices: list[int]) -> list[TaskResult]:
        """Run the tasks of one program; those whose result is known without running are not sent."""
        known = {index: self._foregone(stage, index) for index in indices}
        unknown = [index for index in indices if known[index] is None]
        if unknown:
            known.update(zip(unknown, await self._run_tasks(stage, unknown), strict=True))
        return [known[index] for index in indices]  # type: ignore[misc]

    def _foregone(self, stage: Stage, index: int) -> TaskResult | None:
        plan = stage.partitions[index]
        if plan.states:
            return None
        inputs = [self._bound(plan, number) for number in range(len(plan.inputs))]
        return foregone_result(plan.structure, stage.terminal, inputs, index)

    async def _run_tasks(self, stage: Stage, indices: list[int]) -> list[TaskResult]:
        runner = self._job.runner
        program = runner.programs.program(stage.partitions[indices[0]].structure, stage.terminal, stage.name)
        tasks = [self._task(stage, index, program.id) for index in indices]
        results = await runner.executor.run(program, tasks)
        missing = [number for number, result in enumerate(results) if result.state_missing]
        if missing:
            for number in missing:
                tasks[number] = self._task(stage, indices[number], program.id, restore=True)
            again = await runner.executor.run(program, [tasks[number] for number in missing])
            for number, result in zip(missing, again, strict=True):
                results[number] = result
        self._accept(stage, indices, tasks, results)
        return results

    def _task(self, stage: Stage, index: int, program_id: str, restore: bool = False) -> Task:
        plan = stage.partitions[index]
        runner = self._job.runner
        states = tuple(
            runner.states.directive(
                use,
                volatile=runner.executor.volatile_workers or runner.states.is_durable(use.state_id),
                restore=restore,
            )
            for use in plan.states
        )
        ledger = runner.directory.ledger
        return Task(
            next(runner.task_ids),
            program_id,
            tuple([self._bound(plan, number) for number in range(len(plan.inputs))]),
            index,
            plan.states[0].partition % runner.executor.slots if plan.states else None,
            self._job.batch,
            _params(plan, runner.states.dropped),
            states,
            runner.dropped_broadcasts,
            spill=self._job.spill or ledger.bytes_held > runner.spill_above_bytes,
        )

    def _bound(self, plan: PartitionPlan, number: int) -> tuple[BlockRef, ...]:
        source = plan.inputs[number]
        if not isinstance(source, Pending):
            return source
        results = self._results[source.stage]
        if source.task is not None:
            return results[source.task].outputs
        segments = [result.outputs[source.reducer] for result in results]
        return tuple([ref for ref in segments if ref.records != 0])

    def _accept(self, stage: Stage, indices: list[int], tasks: list[Task], results: list[TaskResult]) -> None:
        """Take over what finished tasks made; raise for the first that failed."""
        runner = self._job.runner
        for index, task, result in zip(indices, tasks, results, strict=True):
            self._job.adopt([*result.outputs, *result.sides.values()])
            if result.failure is not None:
                continue
            runner.stage_seconds += result.seconds
            if result.accumulators:
                runner.on_accumulators(pickle.loads(result.accumulators))
            if result.tried or result.counters:
                self._job.count(dict(result.counters), result.tried)
            for use, directive, report in zip(
                stage.partitions[index].states, task.states, result.states, strict=True
            ):
                runner.states.report(use, directive, report)
        for task, result in zip(tasks, results, strict=True):
            if result.failure is not None:
                raise error_of(result.failure, task)


def _params(plan: PartitionPlan, dropped_states: tuple[str, ...]) -> dict[str, Any]:
    params: dict[str, Any] = {}
    if dropped_states:
        params["dropped_states"] = dropped_states
    if plan.states:
        params["state_steps"] = [use.step for use in plan.states]
    if plan.indices:
        params["indices"] = plan.indices
    return params


async def _together(coroutines: Sequence[Any]) -> list[Any]:
    """Await all; a single one without the price of a task. The first failure cancels the others."""
    if len(coroutines) == 1:
        return [await coroutines[0]]
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
