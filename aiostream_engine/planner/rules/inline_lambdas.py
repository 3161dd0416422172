"""Small lambdas become part of the loop: no call a record."""

from __future__ import annotations

from dataclasses import replace

from ...operators.structure import Combiner, Record, Structure, Terminal, ToBuckets
from .additions import is_addition
from .lambda_body import lambda_body
from .trees import rewritten

__all__ = ["inline_lambdas"]


def inline_lambdas(structure: Structure, terminal: Terminal) -> tuple[Structure, Terminal]:
    """Puts the expression of a lambda in the place of its call, under the conditions of
    :func:`~aiostream_engine.planner.rules.lambda_body.lambda_body`, for steps without an error policy
    and for merge functions before a shuffle. ``operator.add`` there is ``a + b``. Evaluation happens
    in the same order and as often as the call would have.
    """
    if isinstance(terminal, ToBuckets) and terminal.combiner is not None and terminal.combiner.map_side:
        terminal = replace(terminal, combiner=_inlined_merge(terminal.combiner))
    return rewritten(structure, _inlined_step), terminal


def _inlined_step(node: Structure) -> Structure:
    if not isinstance(node, Record):
        return node
    op = node.op
    body = None if op.fn is None or op.policy is not None else lambda_body(op.fn.call, ("x",))
    return node if body is None else replace(node, op=replace(op, expression=body))


def _inlined_merge(combiner: Combiner) -> Combiner:
    call = combiner.merge_value.call
    body = "{a} + {b}" if is_addition(call) else lambda_body(call, ("a", "b"))
    return replace(combiner, merge_expression=body)
