"""Calls of steps that handle more than one record, under their error policy and the eyes of a watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from ..operators.codegen import DROP
from ..operators.structure import ErrorPolicy, RecordOp
from ..state.guard import GIVEN_UP
from .probe import Watch

__all__ = ["GuardedCalls", "WatchedStep"]


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


class WatchedStep:
    """A step that takes its records one by one and cannot give any up: notes the one that it took last.

    show: gives a bounded text of a record.
    """

    def __init__(self, watch: Watch, step: str, show: Callable[[Any], str]) -> None:
        self._watch = watch
        self._step = step
        self._show = show
        self._text = "none yet"

    def is_at_work(self) -> None:
        """What happens now is its doing."""
        self._watch.notes(self._step, self._text)

    def taken(self, records: Iterable[Any]) -> Iterator[Any]:
        """The records, each noted when it is taken."""
        self.is_at_work()
        return self._taken(iter(records))

    def _taken(self, records: Iterator[Any]) -> Iterator[Any]:
        count = 0
        self._watch.lets_go()  # what makes the next record is no doing of this step
        for record in records:
            count += 1
            self._text = f"{self._show(record)} (the last that the step took)"
            self.is_at_work()
            yield record
            self._watch.lets_go()
        self._text = f"all {count} records of the partition"
        self.is_at_work()

    def given(self, results: Iterable[Any]) -> Iterator[Any]:
        """What the step gives; it works only while it is asked."""
        iterator = iter(results)
        while True:
            self.is_at_work()
            try:
                result = next(iterator)
            except StopIteration:
                return
            finally:
                self._watch.lets_go()
            yield result

    def segments(self, segments: Iterable[Any]) -> Iterator[Any]:
        """Segments of pairs, as lists or as mappings of which the first is merged into."""
        for number, segment in enumerate(segments):
            if not isinstance(segment, dict):
                yield self._taken(iter(segment))
            else:
                yield _Items(self._taken(iter(segment.items()))) if number else segment
        self._watch.lets_go()


class _Items:
    def __init__(self, pairs: Iterator[Any]) -> None:
        self._pairs = pairs

    def items(self) -> Iterator[Any]:
        return self._pairs
