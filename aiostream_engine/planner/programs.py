"""Task trees to shippable programs, by named rules, each tree once.

A steady pipeline makes the same trees batch after batch: they are found here by content, and
neither rules nor pickling nor code generation run again.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..blocks.by_value import dumps_by_value
from ..errors import UnpicklableError
from ..executors.base import Program
from ..executors.stage import StageProgram
from ..operators.function import Fn
from ..operators.structure import Structure, Terminal
from .rules import RULES, Rule

__all__ = ["PlanCacheStatistics", "ProgramCache"]

_PACKAGE = __name__.partition(".")[0] + "."


@dataclass(frozen=True, slots=True)
class PlanCacheStatistics:
    """Trees found and trees planned since the start."""

    hits: int
    misses: int
    size: int


class ProgramCache:
    """Finds or makes the program of a tree; the least recently used go first beyond ``size_max``."""

    def __init__(self, rules: Sequence[Rule] = RULES, size_max: int = 1024) -> None:
        self.rules = tuple(rules)
        self._size_max = size_max
        self._programs: OrderedDict[tuple[Structure, Terminal], Program] = OrderedDict()
        self._hits = 0
        self._misses = 0

    def program(self, structure: Structure, terminal: Terminal, step: str) -> Program:
        """The program of one stage. Raises UnpicklableError naming the step."""
        key = (structure, terminal)
        program = self._programs.get(key)
        if program is not None:
            self._hits += 1
            self._programs.move_to_end(key)
            return program
        self._misses += 1
        program = self._programs[_without_functions(key)] = self._make(structure, terminal, step)
        if len(self._programs) > self._size_max:
            self._programs.popitem(last=False)
        return program

    def _make(self, structure: Structure, terminal: Terminal, step: str) -> Program:
        structure, terminal = self.optimised(structure, terminal)
        try:
            payload = dumps_by_value(StageProgram(structure, terminal, step))
        except Exception as error:
            raise UnpicklableError(f"step {step!r} cannot be sent to a worker: {error}") from error
        return Program(hashlib.blake2b(payload, digest_size=16).hexdigest(), payload, step)

    def optimised(self, structure: Structure, terminal: Terminal) -> tuple[Structure, Terminal]:
        """The tree after all rules, in their order."""
        for rule in self.rules:
            structure, terminal = rule(structure, terminal)
        return structure, terminal

    def statistics(self) -> PlanCacheStatistics:
        """How often the cache was of use."""
        return PlanCacheStatistics(self._hits, self._misses, len(self._programs))


def _without_functions(value: Any) -> Any:
    """An equal tree that does not hold what the user's functions captured."""
    if isinstance(value, Fn):
        return Fn(_forgotten, value.step, value.id)
    if isinstance(value, tuple):
        return tuple(map(_without_functions, value))
    if dataclasses.is_dataclass(value) and type(value).__module__.startswith(
        _PACKAGE
    ):  # not a key of the user
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(
            cast("Any", value), **{name: _without_functions(part) for name, part in parts.items()}
        )
    return value


def _forgotten(*_: Any) -> Any:
    raise AssertionError("a cached plan is compared, not run")
