"""Which batch may be cut, run and committed: a pure machine, events in, instructions out.

Batches are numbered from 1 without gaps, run in order of their numbers (several at a time only
when asked for), and are committed strictly in order. Nothing here reads a clock or awaits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..errors import InternalError
from ..types import BatchTime

__all__ = ["Batch", "BatchMachine", "BatchPhase", "Commit", "Halt", "Instruction", "Run"]


class BatchPhase(Enum):
    """Where a batch is; it only moves down this list."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    COMMITTED = "committed"
    FAILED = "failed"


@dataclass(slots=True)
class Batch:
    """One batch: number, label, label of the batch before, phase, and tokens of transactional sinks.

    begun: over when its content is frozen for good, None when nothing has to be written for that.
    Before, nothing of the batch may be seen outside. freeze: sets ``begun``; None when that was done,
    or is not needed.
    """

    id: int
    time: BatchTime
    previous: int
    ticks_missed: int = 0
    phase: BatchPhase = BatchPhase.WAITING
    tokens: dict[str, list[Any]] = field(default_factory=dict)
    begun: asyncio.Future[None] | None = field(default=None, repr=False)
    freeze: Callable[[], None] | None = field(default=None, repr=False)

    async def frozen(self) -> None:
        """Return when the content is frozen for good. Raises StorageError."""
        if self.freeze is not None:
            self.freeze()
        if self.begun is not None:
            await asyncio.shield(self.begun)


@dataclass(frozen=True, slots=True)
class Run:
    """Start the batch."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Commit:
    """Make the batch true, then forget what is older than it needs."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Halt:
    """Cut and start nothing more: something failed."""


Instruction = Run | Commit | Halt


@dataclass(slots=True)
class BatchMachine:
    """The order of batches.

    in_flight_max: batches cut and not committed; beyond it no batch may be cut.
    concurrent_max: batches that run at the same time.
    zero_ms: zero time of the stream.
    """

    in_flight_max: int
    concurrent_max: int
    zero_ms: int
    batches: deque[Batch] = field(default_factory=deque)
    first_failed: int = 0  # number of a batch, 0 while none failed
    last_id: int = 0
    last_time: int = -1
    halted: bool = False

    def __post_init__(self) -> None:
        self.last_time = max(self.last_time, self.zero_ms)

    @property
    def may_cut(self) -> bool:
        """True when one more batch may be cut."""
        return not self.halted and len(self.batches) < self.in_flight_max

    @property
    def idle(self) -> bool:
        """True when no batch is under way that could still be committed."""
        for batch in self.batches:
            if batch.phase is BatchPhase.FAILED or self.is_blocked(batch):
                return True
            if batch.phase is BatchPhase.RUNNING or not self.halted:
                return False
        return True

    def is_blocked(self, batch: Batch) -> bool:
        """True when an earlier batch failed, so that this one can never be committed."""
        return 0 < self.first_failed < batch.id

    def _running(self) -> int:
        return sum(batch.phase is BatchPhase.RUNNING for batch in self.batches)

    def cut(self, time: BatchTime, ticks_missed: int = 0) -> tuple[Batch, list[Instruction]]:
        """A batch was cut. Raises InternalError when it may not be, or its label does not rise."""
        if not self.may_cut:
            raise InternalError(f"batch {time} was cut while {len(self.batches)} are in flight")
        if time <= self.last_time:
            raise InternalError(f"label {time} does not rise over {self.last_time}")
        self.last_id += 1
        batch = Batch(self.last_id, time, self.last_time, ticks_missed)
        self.last_time = time
        self.batches.append(batch)
        return batch, self._startable()

    def done(self, batch: Batch) -> list[Instruction]:
        """All outputs of a batch are over and well."""
        self._expect(batch, BatchPhase.RUNNING)
        batch.phase = BatchPhase.DONE
        instructions: list[Instruction] = []
        while (
            self.batches and self.batches[0].phase is BatchPhase.DONE and not self.is_blocked(self.batches[0])
        ):
            first = self.batches.popleft()
            first.phase = BatchPhase.COMMITTED
            instructions.append(Commit(first))
        return instructions + self._startable()

    def failed(self, batch: Batch) -> list[Instruction]:
        """A batch failed for good: later ones are not committed, earlier ones still may be."""
        self._expect(batch, BatchPhase.RUNNING)
        return self._fail(batch)

    def _fail(self, batch: Batch) -> list[Instruction]:
        batch.phase = BatchPhase.FAILED
        self.first_failed = min(self.first_failed or batch.id, batch.id)
        return self.halt()

    def halt(self) -> list[Instruction]:
        """Something outside of the batches failed: none is cut or started any more."""
        already, self.halted = self.halted, True
        return [] if already else [Halt()]

    def commit_failed(self, batch: Batch) -> list[Instruction]:
        """What should have made a batch true did not: it is not, and nothing later will be (scenario B11)."""
        self._expect(batch, BatchPhase.COMMITTED)
        return self._fail(batch)

    def resume(self, batch_id: int, time: int, previous: int) -> None:
        """Go on after batch ``batch_id`` of an earlier run, whose label was ``time``; nothing was cut yet."""
        self.last_id, self.last_time = batch_id, max(time, previous, self.zero_ms)

    def _expect(self, batch: Batch, phase: BatchPhase) -> None:
        if batch.phase is not phase:
            raise InternalError(f"batch {batch.id} is {batch.phase.value}, not {phase.value}")

    def _startable(self) -> list[Instruction]:
        free = self.concurrent_max - self._running()
        instructions: list[Instruction] = []
        for batch in self.batches:
            if free <= 0 or self.halted:
                break
            if batch.phase is BatchPhase.WAITING:
                batch.phase = BatchPhase.RUNNING
                instructions.append(Run(batch))
                free -= 1
        return instructions
