"""Calls of a step that no generated code surrounds, under its error policy and the eyes of a watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..operators.codegen import DROP
from ..operators.structure import ErrorPolicy, RecordOp
from ..state.guard import GIVEN_UP

__all__ = ["GuardedCalls"]


class _Runtime(Protocol):
    def attempt(self, op: RecordOp, record: Any, call: Callable[[], Any]) -> Any: ...

    def recover(
        self, op: RecordOp, record: Any, error: Exception, again: Callable[[], Any] | None = None
    ) -> Any: ...

    def count_tried(self, step: str, records: int) -> None: ...


class GuardedCalls:
    """The :class:`~aiostream_engine.state.guard.Guard` of a stateful step in one task."""

    def __init__(self, runtime: _Runtime, step: str, policy: ErrorPolicy) -> None:
        self._runtime = runtime
        self._op = RecordOp("map", step, None, policy)

    def __call__(self, record: Any, call: Callable[[], Any], *, counts: bool = True) -> Any:
        runtime, op = self._runtime, self._op
        try:
            result = runtime.attempt(op, record, call)
        except Exception as error:
            result = runtime.recover(op, record, error, lambda: runtime.attempt(op, record, call))
        if result is DROP:
            return GIVEN_UP
        if not counts:
            runtime.count_tried(op.step, -1)
        return result
