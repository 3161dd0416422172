"""What the scheduling machine of the process pool tells its shell to do."""

from __future__ import annotations

from typing import NamedTuple

from ..probe import InHand, Probe

__all__ = [
    "Abort",
    "Break",
    "Complete",
    "Convicted",
    "Fail",
    "Instruction",
    "Lost",
    "Send",
    "StartWorker",
    "StopWorker",
    "Terminate",
]


class StartWorker(NamedTuple):
    """Start process number ``generation`` of a slot now."""

    slot: int
    generation: int


class Send(NamedTuple):
    """Hand a job to an idle worker, after telling it which programs to forget.

    number: identifies this attempt; a reply with another number is stale.
    attempt: 1 for the first try of the job.
    with_program: the worker does not hold the program yet.
    probe: how to watch the attempt, None for not at all.
    """

    slot: int
    job: int
    number: int
    attempt: int
    with_program: bool
    forget: tuple[str, ...] = ()
    probe: Probe | None = None


class Terminate(NamedTuple):
    """Kill a worker: politely first, for certain after the grace time."""

    slot: int
    reason: str


class StopWorker(NamedTuple):
    """Ask an idle worker to leave, and kill it if it does not."""

    slot: int


class Complete(NamedTuple):
    """A job is done; ``outcome`` is what :meth:`Machine.result` was given."""

    job: int
    outcome: object


class Fail(NamedTuple):
    """A job is given up; kind is ``poison`` or ``deadline``.

    hand: what the last worker had in hand, as far as it is known.
    """

    job: int
    kind: str
    message: str
    hand: InHand | None = None


class Convicted(NamedTuple):
    """A record is given up because it kills its workers; the job goes on without it."""

    job: int
    step: str
    record: str | None
    message: str


class Lost(NamedTuple):
    """A worker died that was not asked to leave: to be told to the listeners."""

    slot: int
    reason: str


class Break(NamedTuple):
    """The pool is given up; ``at_start`` tells that it never came up."""

    message: str
    at_start: bool


class Abort(NamedTuple):
    """A job will get no result, because the pool is broken."""

    job: int


Instruction = StartWorker | Send | Terminate | StopWorker | Complete | Fail | Convicted | Lost | Break | Abort
