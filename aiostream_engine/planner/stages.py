"""Cut a lineage at its shuffles into stages, and lower each stage to task trees.

Pure: reads nodes, gives stages. Blocks that do not exist yet are named by :class:`Pending`; the
runtime puts references in their place once the stage that makes them is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain

from ..errors import InternalError
from ..operators.structure import (
    Concat,
    Leaf,
    Merge,
    Multi,
    Partitioned,
    PartitionOp,
    Record,
    RecordOp,
    StateScan,
    Structure,
    Terminal,
    ToBlocks,
    ToBuckets,
    children_of,
)
from ..plan.nodes import (
    Aligned,
    Cartesian,
    Coalesced,
    Exchange,
    Narrow,
    Node,
    Source,
    StateNode,
    Union,
    Zipped,
    walk_nodes,
)
from ..state.guard import policy_of
from ..types import BlockRef

__all__ = ["JobPlan", "PartitionPlan", "Pending", "Stage", "StateUse", "plan_job"]

# Trees are pickled, hashed and compared by recursion: a longer chain of steps is run in pieces.
DEPTH_MAX = 64


@dataclass(frozen=True, slots=True)
class Pending:
    """The blocks that reducer ``reducer`` gets from all tasks of stage ``stage``, or that one task makes."""

    stage: int
    reducer: int
    task: int | None = None


@dataclass(frozen=True, slots=True)
class StateUse:
    """A partition of a keyed state that a task works on; ``scan`` reads what ``batch`` left."""

    state_id: str
    partition: int
    batch: int
    step: str
    mapped: bool  # gives more than the state, which a batch that is run again has to give again
    scan: bool = False
    partitions: int = 1


Input = tuple[BlockRef, ...] | Pending


@dataclass(frozen=True, slots=True)
class PartitionPlan:
    """What one task does, and on what: leaves of ``structure`` take ``inputs`` in order.

    indices: for each step that is given the index of its partition, in order, that index: after a
        union or a coalesce it is not the number of the task.
    depth: how deep the tree is.
    """

    structure: Structure
    inputs: tuple[Input, ...]
    states: tuple[StateUse, ...] = ()
    indices: tuple[int, ...] = ()
    depth: int = 1


@dataclass(slots=True)
class Stage:
    """Tasks that can run side by side once the stages in ``needs`` are done."""

    id: int
    name: str
    terminal: Terminal
    partitions: list[PartitionPlan]
    needs: frozenset[int] = frozenset()


@dataclass(slots=True)
class JobPlan:
    """The stages of one job, each after those that it needs; the last gives the result."""

    stages: list[Stage] = field(default_factory=list)

    @property
    def final(self) -> Stage:
        """The stage whose tasks give the job's result."""
        return self.stages[-1]


def plan_job(node: Node, terminal: Terminal, known: Mapping[int, Node] | None = None) -> JobPlan:
    """The stages that compute ``node`` and end in ``terminal``.

    known: nodes that are materialised, by id; their blocks are read instead of computing them.
    """
    planner = _Planner(known or {})
    for item in walk_nodes(node, planner.known):  # parents first: a long lineage needs no deep recursion
        planner.lower(item)
    partitions = planner.lower(node)
    planner.add_stage(node.name, terminal, partitions)
    return planner.plan


class _Planner:
    def __init__(self, known: Mapping[int, Node]) -> None:
        self.known = known
        self.plan = JobPlan()
        self._lowered: dict[int, list[PartitionPlan]] = {}

    def add_stage(self, name: str, terminal: Terminal, partitions: list[PartitionPlan]) -> int:
        needs = frozenset(
            item.stage for plan in partitions for item in plan.inputs if isinstance(item, Pending)
        )
        stage = Stage(len(self.plan.stages), name, terminal, partitions, needs)
        self.plan.stages.append(stage)
        return stage.id

    def lower(self, node: Node) -> list[PartitionPlan]:
        """One plan a partition; each node is lowered once, so that a shared shuffle runs once."""
        done = self._lowered.get(node.id)
        if done is None:
            done = self._lowered[node.id] = self._lower(self.known.get(node.id, node))
        return done

    def _lower(self, node: Node) -> list[PartitionPlan]:
        match node:
            case Source():
                leaf = Leaf(node.format, node.format_args)
                return [PartitionPlan(leaf, (part,)) for part in node.parts]
            case Narrow():
                return self._narrow(node)
            case Union():
                return [plan for parent in node.parents for plan in self.lower(parent)]
            case Aligned():
                columns = [self.lower(parent) for parent in node.parents]
                return concatenated(list(zip(*columns, strict=True)))
            case Coalesced():
                plans = self.lower(node.parent)
                return concatenated([[plans[i] for i in group] for group in node.groups])
            case Zipped():
                columns = [self.lower(parent) for parent in node.parents]
                return _joined(list(zip(*columns, strict=True)), partial(Multi, node.op))
            case Cartesian():
                left, right = self.lower(node.left), self.lower(node.right)
                return _joined([(a, b) for a in left for b in right], partial(Multi, node.op))
            case Exchange():
                return self._exchange(node)
            case StateNode():
                return self._state(node)
        raise InternalError(f"{node.name or type(node).__name__} was not resolved before planning")

    @staticmethod
    def _map(plans: list[PartitionPlan], wrap: Callable[[Structure], Structure]) -> list[PartitionPlan]:
        # Partitions mostly share one tree: wrapping each distinct tree once keeps them shared.
        wrapped: dict[int, Structure] = {}
        result = []
        for plan in plans:
            structure = wrapped.get(id(plan.structure))
            if structure is None:
                structure = wrapped[id(plan.structure)] = wrap(plan.structure)
            result.append(replace(plan, structure=structure, depth=plan.depth + 1))
        return result

    def _narrow(self, node: Narrow) -> list[PartitionPlan]:
        plans = self.lower(node.parent)
        if any(plan.depth >= DEPTH_MAX for plan in plans):
            plans = self._cut(node.name, plans)
        mapped = self._map(plans, _applied(node.op))
        if isinstance(node.op, PartitionOp) and node.op.passes == "index":
            return [replace(plan, indices=(*plan.indices, index)) for index, plan in enumerate(mapped)]
        return mapped

    def _cut(self, name: str, plans: list[PartitionPlan]) -> list[PartitionPlan]:
        """End a stage where a tree became too deep to be sent and compiled."""
        stage = self.add_stage(name, ToBlocks(), plans)
        leaf = Leaf("pickle")
        return [PartitionPlan(leaf, (Pending(stage, 0, task),)) for task in range(len(plans))]

    def _exchange(self, node: Exchange) -> list[PartitionPlan]:
        assert node.partitioner is not None
        terminal = ToBuckets(node.partitioner, node.combiner)
        stage = self.add_stage(node.name, terminal, self.lower(node.parent))
        merge = Merge(node.combiner)
        return [PartitionPlan(merge, (Pending(stage, reducer),)) for reducer in range(node.partitions)]

    def _state(self, node: StateNode) -> list[PartitionPlan]:
        columns = [self.lower(parent) for parent in node.inputs]
        rows = [[column[partition] for column in columns] for partition in range(node.partitions)]
        plans = []
        for partition, plan in enumerate(_joined(rows, partial(StateScan, node.spec, node.name))):
            told = node.spec.mapped or policy_of(node.spec) is not None
            use = StateUse(node.state_id, partition, node.batch, node.name, told, node.scan, node.partitions)
            plans.append(replace(plan, states=(*plan.states, use)))
        return plans


def _applied(op: RecordOp | PartitionOp) -> Callable[[Structure], Structure]:
    if isinstance(op, RecordOp):
        return lambda child: Record(op, child)
    return lambda child: Partitioned(op, child)


Rows = Sequence[Sequence[PartitionPlan]]


def _joined(rows: Rows, wrap: Callable[[tuple[Structure, ...]], Structure]) -> list[PartitionPlan]:
    """One plan a row, over the trees of all its plans; rows of the same trees share one."""
    made: dict[tuple[int, ...], Structure] = {}
    result = []
    for row in rows:
        trees = tuple(id(plan.structure) for plan in row)
        structure = made.get(trees)
        if structure is None:
            structure = made[trees] = wrap(tuple(plan.structure for plan in row))
        inputs = tuple(item for plan in row for item in plan.inputs)
        states = tuple(use for plan in row for use in plan.states)
        indices = tuple(index for plan in row for index in plan.indices)
        depth = 1 + max((plan.depth for plan in row), default=0)
        result.append(PartitionPlan(structure, inputs, states, indices, depth))
    return result


def concatenated(rows: Rows) -> list[PartitionPlan]:
    """Several partitions as one in each row; where all do the same to one leaf, it reads all their blocks."""
    result = [row[0] if len(row) == 1 else _one_leaf(row) for row in rows]
    others = iter(_joined([row for row, plan in zip(rows, result, strict=True) if plan is None], Concat))
    return [next(others) if plan is None else plan for plan in result]


def _one_leaf(row: Sequence[PartitionPlan]) -> PartitionPlan | None:
    first = row[0] if row else None
    if first is None or not is_record_chain(first.structure):
        return None
    inputs = [plan.inputs[0] for plan in row if plan.structure == first.structure]
    blocks = [blocks for blocks in inputs if not isinstance(blocks, Pending)]
    return replace(first, inputs=(tuple(chain.from_iterable(blocks)),)) if len(blocks) == len(row) else None


def is_record_chain(structure: Structure) -> bool:
    """True for record steps over one leaf: these do not see where one partition ends."""
    while isinstance(structure, Record):
        (structure,) = children_of(structure)
    return isinstance(structure, Leaf)
