"""Functions that only add are replaced by the one that is written in C."""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import partial
from typing import Any

from ...operators import kernels
from ...operators.function import Fn
from ...operators.kernels import kernel
from ...operators.structure import Combiner, Merge, Structure, Terminal, ToBuckets, ToValue
from .shapes import same_code
from .trees import rewritten

__all__ = ["add_in_c", "is_addition"]


def _add(a: Any, b: Any) -> Any:
    return a + b


def is_addition(call: Any) -> bool:
    """True for ``operator.add`` and for a function that only adds its two arguments in order."""
    return call is operator.add or same_code(call, _add)  # type: ignore[arg-type]


def add_in_c(structure: Structure, terminal: Terminal) -> tuple[Structure, Terminal]:
    """Applies to merge functions before and after a shuffle and to ``reduce``: a function that does
    nothing but ``a + b`` is ``operator.add``, which needs no frame.
    """
    if isinstance(terminal, ToBuckets) and terminal.combiner is not None:
        terminal = replace(terminal, combiner=_in_c(terminal.combiner))
    elif isinstance(terminal, ToValue):
        call = terminal.fn.call
        if isinstance(call, partial) and call.func is kernels.reduced and is_addition(call.args[0]):
            terminal = replace(terminal, fn=kernel(kernels.reduced, Fn(operator.add)))
    return rewritten(structure, _merged_in_c), terminal


def _merged_in_c(node: Structure) -> Structure:
    if isinstance(node, Merge) and node.combiner is not None:
        return replace(node, combiner=_in_c(node.combiner))
    return node


def _in_c(combiner: Combiner) -> Combiner:
    return replace(
        combiner,
        merge_value=_replaced(combiner.merge_value),
        merge_combiners=_replaced(combiner.merge_combiners),
    )


def _replaced(fn: Fn) -> Fn:
    return Fn(operator.add, fn.step) if is_addition(fn.call) else fn
