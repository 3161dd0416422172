"""Programs and tasks by hand, for the conformance suite and for tests of single executors.

Sent by value, as the functions of a user's script are, so that any executor can run them whether
or not its workers can import the tests.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cloudpickle

from aiostream_engine.blocks.formats import encode_records
from aiostream_engine.executors.base import Executor, Program, Task, TaskResult
from aiostream_engine.executors.task import TaskEnvironment
from aiostream_engine.types import BlockRef

cloudpickle.register_pickle_by_value(sys.modules[__name__])

_ids = itertools.count(1)


def program(function: Callable[[TaskEnvironment, Task], TaskResult], step: str = "step") -> Program:
    """A program made of a function that has the face of a compiled stage."""
    return Program(f"program-{next(_ids)}", cloudpickle.dumps(function), step)


def answering(function: Callable[[Task], Any], step: str = "step") -> Program:
    """A program whose value is what ``function`` gives for the task."""

    def run(environment: TaskEnvironment, task: Task) -> TaskResult:
        return TaskResult(task.id, value=pickle.dumps(function(task)))

    return program(run, step)


def echo(step: str = "echo") -> Program:
    """A program that gives the parameters of its task back."""
    return answering(lambda task: dict(task.params), step)


def task(stage: Program, id: int = 0, *, slot: int | None = None, **params: Any) -> Task:
    """A task without input."""
    return Task(id, stage.id, ((),), id, slot=slot, params=params)


def tasks(stage: Program, count: int, **params: Any) -> list[Task]:
    """Tasks without input, numbered from 0."""
    return [task(stage, id, **params) for id in range(count)]


def block(records: Sequence[Any]) -> BlockRef:
    """Records in a block that travels inside of its reference."""
    return BlockRef("pickle", encode_records(list(records)), records=len(records))


def value(result: TaskResult) -> Any:
    """The value of a result that must not be a failure."""
    assert result.failure is None, result.failure
    return pickle.loads(result.value)


async def values(executor: Executor, stage: Program, work: Iterable[Task]) -> list[Any]:
    """Run tasks and give their values."""
    return [value(result) for result in await executor.run(stage, list(work))]


async def eventually(condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
    """Wait until ``condition`` holds; TimeoutError when it does not in time.

    Polls, since what is waited for happens in other processes.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition did not come true")
        await asyncio.sleep(0.005)
