"""The rules that turn a task tree into a faster one with the same answers, in order.

A rule is a pure function ``(structure, terminal) -> (structure, terminal)`` in a file of its
own; its docstring lists the conditions. Pass other rules (or none) to a context to switch them off.
"""

from __future__ import annotations

from collections.abc import Callable

from ...operators.structure import Structure, Terminal
from .additions import add_in_c
from .chunks_in_c import chunks_in_c
from .count_values import count_values
from .distinct_keys import distinct_keys
from .inline_lambdas import inline_lambdas
from .split_words import split_words

__all__ = ["RULES", "Rule"]

Rule = Callable[[Structure, Terminal], tuple[Structure, Terminal]]

# What recognises a function by its shape comes before what makes it part of the loop.
RULES: tuple[Rule, ...] = (
    count_values,
    distinct_keys,
    split_words,
    inline_lambdas,
    chunks_in_c,
    add_in_c,
)
