"""Run the program of one stage by hand: no planner, no executor."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiostream_engine.blocks.formats import encode_records, read_chunks
from aiostream_engine.blocks.storage import BlockWriter
from aiostream_engine.executors.base import Task, TaskFailure, TaskResult
from aiostream_engine.executors.stage import StageProgram
from aiostream_engine.executors.task import TaskEnvironment
from aiostream_engine.operators.function import Fn
from aiostream_engine.operators.structure import (
    Combiner,
    ErrorPolicy,
    Leaf,
    Partitioned,
    PartitionOp,
    Record,
    RecordOp,
    Structure,
    Terminal,
    ToBlocks,
)
from aiostream_engine.types import BlockRef

PICKLES = Leaf("pickle")
LINES = Leaf("lines", ("utf-8", "strict"))


def steps(*ops: RecordOp | PartitionOp, over: Structure = PICKLES) -> Structure:
    """The steps in the order in which a record meets them."""
    for op in ops:
        over = Record(op, over) if isinstance(op, RecordOp) else Partitioned(op, over)
    return over


def op(
    kind: str, call: Callable[..., Any] | None = None, step: str = "", policy: ErrorPolicy | None = None
) -> RecordOp:
    """A record step, named after its kind."""
    return RecordOp(kind, step or kind, None if call is None else Fn(call, step or kind), policy)


def partition_op(call: Callable[..., Any], step: str = "partition", passes: str = "") -> PartitionOp:
    """A step over a whole partition."""
    return PartitionOp(step, Fn(call, step), passes)


def combiner(call: Callable[[Any, Any], Any], *, map_side: bool = True) -> Combiner:
    """A reduction by key."""
    return Combiner("reduce", Fn(call), Fn(call), None, map_side)


def pickled(*records: Any) -> BlockRef:
    """Records as a block inside of its reference."""
    return BlockRef("pickle", encode_records(list(records)), records=len(records))


def text(content: str) -> BlockRef:
    """Text as a received block of lines."""
    return BlockRef("lines", content.encode(), args=("utf-8", "strict"))


class StageRunner:
    """Runs stages as tasks of one worker.

    Parameters
    ----------
    directory: where blocks are written.
    """

    def __init__(self, directory: Path) -> None:
        self.environment = TaskEnvironment(BlockWriter(str(directory), str(directory), "t"))
        self._tasks = 0

    def run(
        self,
        structure: Structure,
        terminal: Terminal,
        *inputs: Sequence[BlockRef],
        index: int = 0,
        params: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> TaskResult:
        """The result of one task, failed or not."""
        self._tasks += 1
        program = StageProgram(structure, terminal, "source")
        self.environment.add_program(str(self._tasks), pickle.dumps(_Ready(program)))
        task = Task(
            self._tasks, str(self._tasks), tuple(map(tuple, inputs)), index, params=params or {}, **fields
        )
        _PROGRAMS[id(program)] = program
        try:
            return self.environment.run(task)
        finally:
            del _PROGRAMS[id(program)]

    def records(self, structure: Structure, *inputs: Sequence[BlockRef], **options: Any) -> list[Any]:
        """What a stage keeps as blocks; it must not fail."""
        result = self.run(structure, ToBlocks(), *inputs, **options)
        assert result.failure is None, result.failure
        return records_of(result.outputs)

    def failure(self, structure: Structure, *inputs: Sequence[BlockRef], **options: Any) -> TaskFailure:
        """Why a stage failed; it must fail."""
        result = self.run(structure, options.pop("terminal", ToBlocks()), *inputs, **options)
        assert result.failure is not None
        return result.failure


def records_of(refs: Iterable[BlockRef]) -> list[Any]:
    """The records of blocks, in order."""
    return [record for ref in refs for chunk in read_chunks(ref) for record in chunk]


_PROGRAMS: dict[int, StageProgram] = {}


class _Ready:
    """Stands for a program in a pickle without pickling its functions, which are local to tests."""

    def __init__(self, program: StageProgram) -> None:
        self._number = id(program)

    def __reduce__(self) -> tuple[Any, ...]:
        return _program_of, (self._number,)


def _program_of(number: int) -> StageProgram:
    return _PROGRAMS[number]
