"""A job's plan after each named stage of planning."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import OptionError
from ..executors.stage import StageProgram
from ..operators.structure import (
    Leaf,
    Merge,
    Partitioned,
    Record,
    StateScan,
    Structure,
    Terminal,
    ToBlocks,
    ToBuckets,
    Words,
    children_of,
)
from ..plan.explain import lineage
from ..plan.nodes import Deferred, Node, Side, Source, walk_nodes
from .programs import ProgramCache
from .stages import JobPlan, plan_job

__all__ = ["EXPLAIN_STAGES", "explain"]

EXPLAIN_STAGES = ("logical", "physical", "optimised", "code")


def explain(node: Node, programs: ProgramCache, stage: str = "physical") -> str:
    """The plan of ``node`` as text.

    stage: ``logical`` the lineage; ``physical`` stages and fused steps; ``optimised`` the same
        after the rules; ``code`` the generated functions. Raises OptionError for another name.
    """
    if stage not in EXPLAIN_STAGES:
        raise OptionError(f"there is no stage {stage!r} to explain: use one of {', '.join(EXPLAIN_STAGES)}")
    if stage == "logical":
        return lineage(node)
    plan = plan_job(node, ToBlocks(), _stand_ins(node))
    if stage == "physical":
        return _render(plan, lambda structure, terminal: (structure, terminal))
    if stage == "optimised":
        return _render(plan, programs.optimised)
    return _code(plan, programs)


def _stand_ins(node: Node) -> dict[int, Node]:
    """Nodes that must look at data are shown as one step over their parent."""
    known: dict[int, Node] = {}
    for item in walk_nodes(node):
        if isinstance(item, Deferred | Side):
            parent = item.parents[0] if isinstance(item, Deferred) else item.parent
            known[item.id] = Source(
                name=item.name,
                partitions=item.partitions,
                partitioner=item.partitioner,
                parts=((),) * item.partitions,
                format=f"result of {item.name} over [{parent.id}]",
            )
    return known


def _render(plan: JobPlan, rewrite: Callable[[Structure, Terminal], tuple[Structure, Terminal]]) -> str:
    lines = []
    for stage in plan.stages:
        needs = f", after {', '.join(f'stage {need}' for need in sorted(stage.needs))}" if stage.needs else ""
        lines.append(f"stage {stage.id}: {stage.name or 'result'} ({len(stage.partitions)} tasks{needs})")
        for structure in _distinct(plan, stage.id):
            shown, terminal = rewrite(structure, stage.terminal)
            lines.append(f"    -> {_terminal(terminal)}")
            lines.extend(f"    {'  ' * depth}{text}" for depth, text in _tree(shown, 0))
    return "\n".join(lines)


def _distinct(plan: JobPlan, stage: int) -> list[Structure]:
    return list({id(item.structure): item.structure for item in plan.stages[stage].partitions}.values())


def _tree(structure: Structure, depth: int) -> list[tuple[int, str]]:
    lines = [(depth, _label(structure))]
    for child in children_of(structure):
        lines.extend(_tree(child, depth + 1))
    return lines


def _label(structure: Structure) -> str:
    match structure:
        case Leaf(format):
            return f"read {format}"
        case Words():
            return "read words of text"
        case Merge(combiner):
            return f"merge segments ({combiner.step})" if combiner else "read segments"
        case Record(op):
            return f"{op.kind} {op.step}" + (f" = {op.expression}" if op.expression else "")
        case Partitioned(op):
            return f"partition {op.step}"
        case StateScan(step=step):
            return f"state {step}"
    return type(structure).__name__.lower()


def _terminal(terminal: Terminal) -> str:
    if isinstance(terminal, ToBuckets):
        how = (
            "count"
            if terminal.counter
            else "keep keys once"
            if terminal.distinct
            else f"combine {terminal.combiner.step}"
            if terminal.combiner
            else "move"
        )
        return f"{how} to {terminal.partitioner.partitions} by {type(terminal.partitioner).__name__}"
    return {"ToBlocks": "blocks", "CountTerminal": "count"}.get(type(terminal).__name__, "value")


def _code(plan: JobPlan, programs: ProgramCache) -> str:
    parts = []
    for stage in plan.stages:
        for structure in _distinct(plan, stage.id):
            source = (
                StageProgram(*programs.optimised(structure, stage.terminal), stage.name).compiled().source
            )
            parts.append(f"# stage {stage.id}: {stage.name or 'result'}\n{source}")
    return "\n".join(parts)
