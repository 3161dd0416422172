"""Every error the engine raises, as one tree that says who is to blame.

AiostreamError
├── UserCodeError                 a function given to an operator is at fault
│   ├── StepError                 … it raised; carries step, batch, record and worker traceback
│   ├── UnpicklableError          … it, or what it captured, cannot be sent to a worker
│   ├── BadKeyError               … it made a key that cannot be partitioned or compared
│   ├── PoisonTaskError           … it keeps killing the workers that run it
│   └── CircuitBreakerError       … it gives up nearly all of its records
├── ConfigurationError            the program or its options are wrong (a ValueError)
│   ├── OptionError               one option has a bad value
│   ├── GraphError                the stream graph is not valid
│   └── LifecycleError            a call in the wrong state (a RuntimeError)
├── EnvironmentFault              the world outside is at fault
│   ├── WorkerError               a worker process could not start, died or hung
│   │   ├── WorkerStartError
│   │   ├── WorkerLostError
│   │   └── TaskDeadlineError
│   ├── SourceError               a source gave up
│   ├── SinkError                 a sink gave up
│   └── StorageError              no room or no right to write blocks
├── CorruptionError               stored bytes are not what was written
├── BlocksReleasedError           data of a finished batch was asked for (a LookupError)
└── InternalError                 a bug of the engine: please report it
"""

from __future__ import annotations

__all__ = [
    "AiostreamError",
    "BadKeyError",
    "BlocksReleasedError",
    "CircuitBreakerError",
    "ConfigurationError",
    "CorruptionError",
    "EnvironmentFault",
    "GraphError",
    "InternalError",
    "LifecycleError",
    "OptionError",
    "PoisonTaskError",
    "SinkError",
    "SourceError",
    "StepError",
    "StorageError",
    "TaskDeadlineError",
    "UnpicklableError",
    "UserCodeError",
    "WorkerError",
    "WorkerLostError",
    "WorkerStartError",
]


class AiostreamError(Exception):
    """The base of every error that the engine raises on purpose."""


class UserCodeError(AiostreamError):
    """A function that the user gave to an operator is at fault."""


class StepError(UserCodeError):
    """A user function raised: says in which step, batch and partition, on which record.

    Parameters
    ----------
    step: name of the step (``name=`` of the operator, or its generated name).
    error_type: qualified class name of what was raised, as text: the object itself never
        crosses a process boundary, since it may not be picklable.
    message: ``str()`` of what was raised.
    record: bounded ``repr`` of the record in hand, or None where there was none.
    batch: label of the batch in epoch milliseconds, or None outside of a stream.
    partition: index of the partition, or None.
    worker_traceback: formatted traceback of the worker.
    """

    def __init__(
        self,
        step: str,
        error_type: str,
        message: str,
        *,
        record: str | None = None,
        batch: int | None = None,
        partition: int | None = None,
        worker_traceback: str = "",
    ) -> None:
        self.step = step
        self.error_type = error_type
        self.message = message
        self.record = record
        self.batch = batch
        self.partition = partition
        self.worker_traceback = worker_traceback
        super().__init__(step, error_type, message)

    def __str__(self) -> str:
        where = [f"step {self.step!r}"]
        if self.batch is not None:
            where.append(f"batch {self.batch}")
        if self.partition is not None:
            where.append(f"partition {self.partition}")
        text = f"{self.error_type}: {self.message} (in {', '.join(where)})"
        if self.record is not None:
            text += f"\n  record: {self.record}"
        if self.worker_traceback:
            text += f"\n  worker traceback:\n{self.worker_traceback.rstrip()}"
        return text


class UnpicklableError(UserCodeError):
    """A step's function, or something it captured, cannot be sent to a worker process."""


class BadKeyError(UserCodeError, TypeError):
    """A key cannot be partitioned: unhashable, NaN, or of a type without a stable hash."""


class PoisonTaskError(UserCodeError):
    """One task killed every worker that tried it, up to its budget of attempts."""


class CircuitBreakerError(UserCodeError):
    """A step skipped or dead-lettered more of its records than CircuitBreakerConfig allows."""


class ConfigurationError(AiostreamError, ValueError):
    """The program or its options are wrong; nothing was started or lost."""


class OptionError(ConfigurationError):
    """One option has a value that cannot be used; the text names option, value and remedy."""


class GraphError(ConfigurationError):
    """The stream graph is not valid, or was changed after start."""


class LifecycleError(AiostreamError, RuntimeError):
    """A call came in a state in which it has no meaning, such as start after stop."""


class EnvironmentFault(AiostreamError):
    """The world outside of the program is at fault."""


class WorkerError(EnvironmentFault):
    """A worker process could not do its work."""


class WorkerStartError(WorkerError):
    """A worker process did not become ready; carries the end of its standard error."""


class WorkerLostError(WorkerError):
    """A worker process died; the text names its exit code or signal and the step it ran."""


class TaskDeadlineError(WorkerError):
    """A task ran past its deadline and its worker was killed."""


class SourceError(EnvironmentFault):
    """A source failed for good, after its restart policy was used up."""


class SinkError(EnvironmentFault):
    """A sink failed for good, after its retry policy was used up."""


class StorageError(EnvironmentFault):
    """Blocks cannot be written: no space or no permission, in memory and on the spill path."""


class CorruptionError(AiostreamError):
    """Stored bytes are not what was written."""


class BlocksReleasedError(AiostreamError, LookupError):
    """An RDD of a finished batch was used after its data was released."""


class InternalError(AiostreamError):
    """An invariant of the engine does not hold: a bug; the text is worth a report."""
