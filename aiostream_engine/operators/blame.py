"""Which step of a generated function is at fault, and the record that it had in hand.

Good records pay nothing for this: it is read from the traceback, whose line numbers say the step
and whose frames hold the record.
"""

from __future__ import annotations

import itertools
import linecache
import operator
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import CodeType, TracebackType
from typing import Any

__all__ = ["CHUNK", "PAIR", "Compiled", "Mark", "codes_of", "show_in_tracebacks"]

# Tracebacks show the lines of so many generated functions, the latest.
SOURCES_SHOWN_MAX = 512

# The record in hand where a pair was never made, but its key and value were.
PAIR = "k, v"

# The record in hand where C takes a chunk through a step.
CHUNK = "chunk, it"

_shown: deque[str] = deque()


@dataclass(frozen=True, slots=True)
class Mark:
    """What a generated line does.

    step: whose work it is.
    record: the variable with the record in hand, PAIR, CHUNK, or None where there is none.
    """

    step: str
    record: str | None = None


@dataclass(frozen=True, slots=True)
class Compiled:
    """The generated function and how to read its errors.

    source: the code, for ``explain`` and for debuggers.
    run: ``run(runtime)``; see ``executors/stage.py`` for what the runtime offers.
    """

    source: str
    run: Callable[[Any], None]
    filename: str
    lines: dict[int, Mark]
    steps_of_code: dict[int, str]

    def blame(self, error: BaseException) -> tuple[str, Any, bool]:
        """The step at fault, the record in its hand, and whether there was one."""
        step, record, found = "stage", None, False
        mark = _UNKNOWN
        trace: TracebackType | None = error.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            if frame.f_code.co_filename == self.filename:
                mark = self.lines.get(trace.tb_lineno, _UNKNOWN)
                step, record, found = _in_hand(mark, frame.f_locals)
            elif mark.record is None:
                # A generator of a partition step runs when a later step asks it for records.
                step = self.steps_of_code.get(id(frame.f_code), step)
            trace = trace.tb_next
        if not found and hasattr(error, "record_in_hand"):  # a function that takes many at once said it
            return step, error.record_in_hand, True
        return step, record, found


_UNKNOWN = Mark("stage")


def _in_hand(mark: Mark, variables: dict[str, Any]) -> tuple[str, Any, bool]:
    if mark.record == CHUNK:
        return mark.step, _in_chunk(variables), True
    if mark.record == PAIR:
        return mark.step, (variables.get("k"), variables.get("v")), "v" in variables
    if mark.record in variables:
        return mark.step, variables[mark.record], True
    return mark.step, None, False


def _in_chunk(variables: dict[str, Any]) -> Any:
    """The record behind which the iterator over the chunk stopped."""
    chunk, iterator = variables["chunk"], variables["it"]
    place = len(chunk) - operator.length_hint(iterator) - 1
    return next(itertools.islice(chunk, max(0, place), None), None)


def show_in_tracebacks(filename: str, source: str) -> None:
    """Let tracebacks show the lines of a generated function."""
    linecache.cache[filename] = len(source), None, source.splitlines(keepends=True), filename
    _shown.append(filename)
    if len(_shown) > SOURCES_SHOWN_MAX:
        linecache.cache.pop(_shown.popleft(), None)


def codes_of(call: Any) -> Iterator[CodeType]:
    """The code objects that run when ``call`` is called, as far as they can be seen."""
    if isinstance(call, partial):
        for part in (call.func, *call.args):
            yield from codes_of(part)
        return
    code = getattr(call, "__code__", None)
    if code is None:
        code = getattr(getattr(type(call), "__call__", None), "__code__", None)  # noqa: B004
    if isinstance(code, CodeType):
        yield code
        yield from (constant for constant in code.co_consts if isinstance(constant, CodeType))
