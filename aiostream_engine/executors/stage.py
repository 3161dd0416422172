"""The program that the planner ships: a task tree, compiled where it runs.

:class:`StageProgram` is what a :class:`~aiostream_engine.executors.base.Program` unpickles to;
:class:`TaskRuntime` is what its generated code calls for input, output, state and failures.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..blocks.formats import RECORDS_PER_PIECE, count_lines, encode_records, read_chunks, text_chunks
from ..blocks.pickling import dumps
from ..errors import AiostreamError, BadKeyError, StorageError, UnpicklableError
from ..operators.codegen import DROP, Compiled, compile_stage
from ..operators.expressions import apply
from ..operators.partitioners import Partitioner, RoundRobin
from ..operators.structure import (
    Combiner,
    Concat,
    ErrorPolicy,
    Multi,
    Partitioned,
    Record,
    RecordOp,
    StateScan,
    Structure,
    Terminal,
)
from ..state.changelog import log_block
from ..state.guard import policy_of
from ..state.specs import MapWithState, StateFailure, StateSpecification, UpdateState
from ..state.store import Changes, MemoryStore
from ..types import INLINE_BYTES_MAX, BlockRef, DeadLetter, OnError
from .base import StateDirective, StateReport, Task, TaskResult
from .guarded_calls import GuardedCalls, WatchedStep
from .keyed_state import block_on_disk, held_store
from .probe import NotRepeatable
from .task import REPR_CHARS_MAX, FailureSignal, StateMissing, TaskEnvironment, describe

__all__ = ["StageProgram", "TaskRuntime"]

BLOCK_BYTES = 4 * 1024 * 1024  # a task's records are kept in blocks of about this size
PIECES_MAX = 256  # and of no more lists than this, whose sizes travel with each reference
DEAD_LETTERS_MAX = 100_000  # per task; beyond it the batch fails instead of filling memory


class StageProgram:
    """A stage as a callable ``(environment, task) -> TaskResult``; compiles itself at first use."""

    def __init__(self, structure: Structure, terminal: Terminal, source_step: str) -> None:
        self.structure = structure
        self.terminal = terminal
        self.source_step = source_step
        self._compiled: Compiled | None = None
        self._watched: Compiled | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return StageProgram, (self.structure, self.terminal, self.source_step)

    def compiled(self) -> Compiled:
        """The generated code."""
        if self._compiled is None:
            self._compiled = compile_stage(self.structure, self.terminal, self.source_step)
        return self._compiled

    def watched(self) -> Compiled:
        """Code in which every record passes :meth:`TaskRuntime.apply`, for one that kills its worker."""
        if self._watched is None:
            tree = guarded(self.structure)
            self._watched = compile_stage(tree, self.terminal, self.source_step, watched=True)
        return self._watched

    def __call__(self, environment: TaskEnvironment, task: Task) -> TaskResult:
        runtime = TaskRuntime(environment, task)
        watch = runtime.watch
        compiled = self.watched() if runtime.watched_in_full else self.compiled()
        try:
            compiled.run(runtime)
        except (FailureSignal, StateMissing):
            raise
        except BaseException as error:
            raise FailureSignal(_blame(compiled, error)) from error
        finally:
            if watch is not None:
                watch.close()
        return runtime.result()


def _blame(compiled: Compiled, error: BaseException) -> Any:
    step, record, found = compiled.blame(error)
    text = bounded_repr(record) if found else None
    bad_key = isinstance(error, BadKeyError) or (isinstance(error, TypeError) and "unhashable" in str(error))
    if bad_key:
        return describe(error, step, kind="key", record=text)
    return describe(error, step, kind=None if isinstance(error, AiostreamError) else "user", record=text)


def bounded_repr(value: Any) -> str:
    """``repr`` cut to a bound; never fails."""
    try:
        text = repr(value)
    except Exception as error:
        return f"<unprintable {type(value).__name__}: {type(error).__name__}>"
    return text if len(text) <= REPR_CHARS_MAX else f"{text[:REPR_CHARS_MAX]}… ({len(text)} characters)"


class TaskRuntime:
    """Input, output, state and failures of one running task, for generated code and task functions."""

    def __init__(self, environment: TaskEnvironment, task: Task) -> None:
        self.environment = environment
        self.task = task
        self.index = task.partition
        self.indices: tuple[int, ...] = task.params.get("indices", ())
        self.records_in = 0
        self.records_out = 0
        self._outputs: list[BlockRef] = []
        self._pieces: list[bytes] = []
        self._records_in_pieces = 0
        self._value = b""
        self._states: list[StateReport] = []
        self._buckets: list[list[Any]] = []
        self._dead: dict[str, list[DeadLetter]] = {}
        self._dead_count = 0
        self._counters: dict[str, int] = {}
        self._tried: defaultdict[str, int] = defaultdict(int)
        self.watch = environment.watch(task)
        if self.watch is not None:
            self.apply = self._apply_watched  # type: ignore[method-assign]

    @property
    def watched_in_full(self) -> bool:
        """True when each record is to be noted, also those of steps that cannot give any up."""
        return self.watch is not None and self.watch.probe.full

    @property
    def random(self) -> random.Random:
        """A generator seeded by batch and partition, so that a repeated task does the same (A27)."""
        return random.Random(f"{self.task.batch}/{self.task.params.get('seed', 0)}/{self.index}")

    # -- input -----------------------------------------------------------------------------

    def leaf(self, number: int) -> Iterator[Sequence[Any]]:
        """The chunks of one input."""
        for ref in self.task.inputs[number]:
            for chunk in read_chunks(ref):
                self.records_in += len(chunk)
                yield chunk

    def words(self, number: int) -> Iterator[list[str]]:
        """The white-space separated words of one text input, by chunks."""
        for ref in self.task.inputs[number]:
            for text in text_chunks(ref):
                self.records_in += text.count("\n")
                yield text.split()

    def count_leaf(self, number: int) -> int:
        """How many records an input has, read no further than needed."""
        total = sum(self._count_block(ref) for ref in self.task.inputs[number])
        self.records_in += total
        return total

    @staticmethod
    def _count_block(ref: BlockRef) -> int:
        if ref.records >= 0:
            return ref.records
        if ref.format.endswith("lines"):
            return count_lines(ref)
        return sum(len(chunk) for chunk in read_chunks(ref))

    def merge(self, number: int, combiner: Combiner | None) -> Iterator[Iterable[Any]]:
        """One reducer's segments, combined by key when there is a combiner."""
        segments: Iterator[Any] = (chunk for ref in self.task.inputs[number] for chunk in read_chunks(ref))
        if combiner is None:
            yield from segments
            return
        if self.watched_in_full:
            segments = self._watched_step(combiner.step).segments(segments)
        acc: dict[Any, Any] = {}
        pair = None
        try:
            if combiner.map_side:
                acc = next(segments, {})
                merge = combiner.merge_combiners.call
                for segment in segments:
                    for key, value in segment.items():
                        pair = key, value
                        acc[key] = merge(acc[key], value) if key in acc else value
            else:
                create = combiner.create.call if combiner.create else _same
                merge = combiner.merge_value.call
                for segment in segments:
                    for key, value in segment:
                        pair = key, value
                        acc[key] = merge(acc[key], value) if key in acc else create(value)
        except Exception as error:
            kind = None if isinstance(error, AiostreamError) else "user"
            raise FailureSignal(
                describe(error, combiner.step, kind=kind, record=bounded_repr(pair))
            ) from error
        self.records_in += len(acc)
        yield acc.items()

    # -- output ----------------------------------------------------------------------------

    def flush(self, records: list[Any]) -> list[Any]:
        """Keep ``records`` as one block; gives a new list for the next ones."""
        if records:
            self.records_out += len(records)
            self._records_in_pieces += len(records)
            self._pieces.append(self._encode(records))
            if len(self._pieces) >= PIECES_MAX or sum(map(len, self._pieces)) >= BLOCK_BYTES:
                self._write_pieces()
        return []

    def _write_pieces(self) -> None:
        """Keep what was flushed as one block."""
        if self._pieces:
            sizes = tuple(map(len, self._pieces)) if len(self._pieces) > 1 else ()
            block = self._block(b"".join(self._pieces), self._records_in_pieces)
            self._outputs.append(block._replace(args=sizes))
            self._pieces, self._records_in_pieces = [], 0

    def value(self, value: Any) -> None:
        """The result of an action."""
        try:
            self._value = dumps(value)
        except Exception as error:
            raise FailureSignal(
                describe(error, "result", kind="unpicklable", record=bounded_repr(value))
            ) from error

    def buckets(self, partitioner: Partitioner) -> tuple[list[Callable[[Any], None]] | None, Any]:
        """Appenders of the reducers and the function that places a key among them."""
        self._buckets = [[] for _ in range(partitioner.partitions)]
        adds = [bucket.append for bucket in self._buckets]
        if isinstance(partitioner, RoundRobin):
            first = self.index % len(adds)
            return None, itertools.cycle(adds[first:] + adds[:first]).__next__
        return adds, partitioner.lookup()

    def finish_buckets(self) -> None:
        """Write the reducers' segments."""
        self._segments(self._buckets)

    def combined(self, partitioner: Partitioner, acc: dict[Any, Any]) -> None:
        """Split combined values by reducer and write the segments."""
        parts: list[dict[Any, Any]] = [{} for _ in range(partitioner.partitions)]
        place = partitioner.lookup()
        for key, value in acc.items():
            parts[place(key)][key] = value
        self._segments(parts)

    def _segments(self, parts: Sequence[Any]) -> None:
        pieces = [self._encode_pieces(part) for part in parts]
        sizes = [tuple(map(len, part)) if len(part) > 1 else () for part in pieces]
        payloads = [b"".join(part) for part in pieces]
        self.records_out = sum(len(part) for part in parts)
        if sum(len(payload) for payload in payloads) <= INLINE_BYTES_MAX:
            self._outputs = [
                BlockRef("pickle", payload, records=len(part), args=args)
                for payload, part, args in zip(payloads, parts, sizes, strict=True)
            ]
            return
        path, offsets = self.environment.writer.write(payloads, spill=self.task.spill)
        self._outputs = [
            BlockRef("pickle", None, path, offset, len(payload), len(part), args)
            for payload, offset, part, args in zip(payloads, offsets, parts, sizes, strict=True)
        ]

    def _encode_pieces(self, part: Any) -> list[bytes]:
        if len(part) <= RECORDS_PER_PIECE or not isinstance(part, list):
            return [self._encode(part)]
        starts = range(0, len(part), RECORDS_PER_PIECE)
        return [self._encode(part[at : at + RECORDS_PER_PIECE]) for at in starts]

    def _encode(self, records: Any) -> bytes:
        try:
            return encode_records(records)
        except Exception as error:
            culprit = next((item for item in records if not _picklable(item)), None)
            failure = describe(error, "result", kind="unpicklable", record=bounded_repr(culprit))
            raise FailureSignal(failure) from error

    def _block(self, payload: bytes, records: int) -> BlockRef:
        if len(payload) <= INLINE_BYTES_MAX:
            return BlockRef("pickle", payload, records=records)
        path, _ = self.environment.writer.write([payload], spill=self.task.spill)
        return BlockRef("pickle", None, path, 0, len(payload), records)

    # -- records that failed -----------------------------------------------------------------

    def apply(self, op: RecordOp, record: Any) -> Any:
        """One record through a step that has an error policy."""
        self._tried[op.step] += 1
        return apply(op, record)

    def _apply_watched(self, op: RecordOp, record: Any) -> Any:
        return self.attempt(op, record, partial(apply, op, record))

    def attempt(self, op: RecordOp, record: Any, call: Callable[[], Any]) -> Any:
        """One call for a record, watched where somebody looks."""
        self._tried[op.step] += 1
        if self.watch is None:
            return call()
        self.watch.takes(op, record, bounded_repr)
        try:
            return call()
        finally:
            self.watch.lets_go()

    def recover(
        self, op: RecordOp, record: Any, error: Exception, again: Callable[[], Any] | None = None
    ) -> Any:
        """Try again, then decide; gives the step's result or DROP, or raises the last error.

        again: makes the call once more; by default the step's function is applied to the record.
        """
        assert op.policy is not None
        if isinstance(error, NotRepeatable):
            self.fail(op.step, record, error)
        attempts = 1
        while attempts < op.policy.attempts and not self._is_verdict(error):
            attempts += 1
            self._count("retried", op.step)
            try:
                self._tried[op.step] -= 1  # it is the same record
                return again() if again is not None else self.apply(op, record)
            except Exception as further:
                error = further
        if op.policy.on_error is OnError.FAIL:
            raise error
        self.give_up(op.step, op.policy.on_error, record, error, attempts)
        return DROP

    def _is_verdict(self, error: Exception) -> bool:
        return self.watch is not None and self.watch.is_verdict(error)

    def give_up(self, step: str, on_error: OnError, record: Any, error: BaseException, attempts: int) -> None:
        """Skip a record or send it to the step's dead letters, and count it."""
        if on_error is OnError.SKIP:
            self._count("skipped", step)
            return
        failure = describe(error, step)
        self._dead_count += 1
        if self._dead_count > DEAD_LETTERS_MAX:
            text = f"over {DEAD_LETTERS_MAX} dead letters in one task; the last: {failure.message}"
            raise FailureSignal(failure._replace(message=text))
        self._count("dead_lettered", step)
        letter = DeadLetter(
            step,
            self.task.batch,
            self.index,
            record,
            failure.error_type,
            failure.message,
            failure.traceback,
            attempts,
        )
        self._dead.setdefault(step, []).append(letter)

    def fail(self, step: str, record: Any, error: BaseException) -> None:
        """Fail the task because of a record."""
        raise FailureSignal(describe(error, step, kind="user", record=bounded_repr(record))) from error

    def count_tried(self, step: str, records: int) -> None:
        """A step that handles records by itself took so many that it may give up."""
        self._tried[step] += records

    def count_retried(self, step: str) -> None:
        """A step that handles records by itself tries one again."""
        self._count("retried", step)

    def _count(self, what: str, step: str) -> None:
        name = f"{what}:{step}"
        self._counters[name] = self._counters.get(name, 0) + 1

    # -- steps in which a worker died --------------------------------------------------------

    def _watched_step(self, step: str) -> WatchedStep:
        assert self.watch is not None
        return WatchedStep(self.watch, step, bounded_repr)

    def note_many(self, step: str, records: Sequence[Any]) -> None:
        """Say that a step has many records in hand at once, where somebody looks."""
        if self.watch is not None and self.watch.probe.full:
            first, last = bounded_repr(records[0]), bounded_repr(records[-1])
            self.watch.notes(step, f"one of {len(records)}, from {first} to {last}")

    def takes(self, step: str, record: Any) -> None:
        """The code that is generated for a watch says what it does next."""
        if self.watch is not None:
            self.watch.notes(step, bounded_repr(record))

    def lets_go(self) -> None:
        """It is done with that."""
        if self.watch is not None:
            self.watch.lets_go()

    def watched_call(
        self, step: str, call: Callable[..., Any], first: tuple[Any, ...], records: Any, kind: str
    ) -> Any:
        """A function of a whole partition, or of several (``columns``), or one that gives a ``value``."""
        watched = self._watched_step(step)
        if kind == "columns":
            return watched.given(call(*first, [watched.taken(column) for column in records]))
        result = call(*first, watched.taken(records))
        if kind != "value":
            return watched.given(result)
        self.lets_go()
        return result

    # -- state -----------------------------------------------------------------------------

    def state(self, number: int, spec: StateSpecification, inputs: Sequence[Iterable[Any]]) -> Iterable[Any]:
        """Bring a keyed state to the batch, report it, and give what the step yields."""
        directive = self.task.states[number]
        step = self.task.params["state_steps"][number]
        told = spec.mapped or policy_of(spec) is not None
        store = held_store(self.environment, directive, step, mapped=told)
        changes = None
        if store.version != directive.target:
            try:
                changes = self._changes(spec, step, store, inputs)
            except StateFailure as failure:
                raise _failed_state(failure, step) from failure.__cause__
            store.apply(changes, directive.target)
        report = StateReport(store.version, None, False, len(store.entries), *store.usage)
        if changes is not None:
            if directive.changelog:
                report = self._logged(report, directive, step, store, changes)
            changes.clear()
        self._states.append(report)
        return spec.output(store, changes)

    def _logged(
        self, report: StateReport, directive: StateDirective, step: str, store: MemoryStore, changes: Changes
    ) -> StateReport:
        """Write what the batch adds to the changelog."""
        log = log_block(store, changes, directive.sweep_bytes, directive.sweep)
        if log is None:
            return report
        block = self._state_block(store, log.parts, step, changes)
        sweep, swept_bytes, done = log.swept
        return report._replace(
            block=block, is_snapshot=log.is_snapshot, sweep=sweep, swept_bytes=swept_bytes, sweep_done=done
        )

    def _changes(
        self, spec: StateSpecification, step: str, store: MemoryStore, inputs: Sequence[Iterable[Any]]
    ) -> Changes:
        time = self.task.batch or 0
        policy = policy_of(spec)
        watched = self.watched_in_full
        if isinstance(spec, UpdateState | MapWithState) and (policy is not None or watched):
            return spec.update(store, inputs, time, GuardedCalls(self, step, policy or ErrorPolicy()))
        if watched:
            inputs = [self._watched_step(step).taken(pairs) for pairs in inputs]
        return spec.update(store, inputs, time)

    def _state_block(
        self, store: MemoryStore, parts: Iterable[bytes], step: str, changes: Changes
    ) -> BlockRef:
        """A block of ``parts``, which pickle ``changes`` and the store as they are consumed."""
        try:
            if store.on_disk:
                return block_on_disk(self.environment.writer, parts)
            return self._block(b"".join(parts), -1)
        except AiostreamError:
            raise
        except Exception as error:
            pairs = itertools.chain(changes.changed.items(), store.entries.items())
            culprit = next((pair for pair in pairs if not _picklable(pair)), None)
            record = bounded_repr(culprit)
            raise FailureSignal(describe(error, step, kind="unpicklable", record=record)) from error

    # -- the result ------------------------------------------------------------------------

    def result(self) -> TaskResult:
        """All that the task gave."""
        self._write_pieces()
        return TaskResult(
            self.task.id,
            outputs=tuple(self._outputs),
            value=self._value,
            sides={
                f"dead-letters:{step}": self._block(self._encode(letters), len(letters))
                for step, letters in self._dead.items()
            },
            records_in=self.records_in,
            records_out=self.records_out,
            counters=self._counters,
            tried=dict(self._tried),
            states=tuple(self._states),
        )


def guarded(structure: Structure) -> Structure:
    """The tree with a policy on each step for single records; it is ``fail`` where there was none."""
    match structure:
        case Record(op, child):
            return Record(_guarded(op), guarded(child))
        case Partitioned(op, child):
            return Partitioned(op, guarded(child))
        case Multi(op, children):
            return Multi(op, tuple(map(guarded, children)))
        case StateScan(spec, step, children):
            return StateScan(spec, step, tuple(map(guarded, children)))
        case Concat(children):
            return Concat(tuple(map(guarded, children)))
    return structure


def _guarded(op: RecordOp) -> RecordOp:
    # What a flat step gives would be held as a whole, which may be more than memory has.
    if op.policy is not None or op.fn is None or op.kind.startswith("flat"):
        return op
    return replace(op, policy=ErrorPolicy(), expression=None, in_c=False)


def _failed_state(failure: StateFailure, step: str) -> FailureSignal:
    """Tells what a user's function raised apart from what the store did."""
    cause = failure.__cause__ or failure
    if isinstance(cause, FailureSignal):
        return cause
    kind = None if isinstance(cause, StorageError | UnpicklableError) else "user"
    return FailureSignal(describe(cause, step, kind=kind, record=bounded_repr(failure.record)))


def _same(value: Any) -> Any:
    return value


def _picklable(value: Any) -> bool:
    try:
        dumps(value)
    except Exception:
        return False
    return True
