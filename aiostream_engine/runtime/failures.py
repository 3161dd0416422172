"""A worker's plain-text failure as the error that the caller gets."""

from __future__ import annotations

from ..errors import (
    AiostreamError,
    BadKeyError,
    BlocksReleasedError,
    CorruptionError,
    InternalError,
    PoisonTaskError,
    StepError,
    StorageError,
    TaskDeadlineError,
    UnpicklableError,
    WorkerLostError,
)
from ..executors.base import Task, TaskFailure

__all__ = ["error_of"]

_BY_KIND: dict[str, type[AiostreamError]] = {
    "key": BadKeyError,
    "unpicklable": UnpicklableError,
    "released": BlocksReleasedError,
    "storage": StorageError,
    "corrupt": CorruptionError,
    "poison": PoisonTaskError,
    "deadline": TaskDeadlineError,
    "lost": WorkerLostError,
    "internal": InternalError,
}


def error_of(failure: TaskFailure, task: Task) -> AiostreamError:
    """The exception for a failed task, with step, batch, partition and record in its text."""
    if failure.kind == "user":
        return StepError(
            failure.step,
            failure.error_type,
            failure.message,
            record=failure.record,
            batch=task.batch,
            partition=task.partition,
            worker_traceback=failure.traceback,
        )
    where = f"step {failure.step!r}, partition {task.partition}"
    if task.batch is not None:
        where += f", batch {task.batch}"
    text = f"{failure.message} (in {where})"
    if failure.record is not None:
        text += f"\n  record: {failure.record}"
    if failure.kind == "internal" and failure.traceback:
        text += f"\n{failure.traceback}"
    return _BY_KIND.get(failure.kind, InternalError)(text)
