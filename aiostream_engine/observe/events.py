"""Event records of the engine: plain frozen values, fit for logs, listeners and views.

The batch and receiver events are those of Spark's StreamingListener (rows LIS-1 … LIS-11);
times are epoch milliseconds, durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..types import BatchTime

__all__ = [
    "BatchCompleted",
    "BatchInfo",
    "BatchStarted",
    "BatchSubmitted",
    "CircuitBroken",
    "Event",
    "InputInfo",
    "OutputOperationCompleted",
    "OutputOperationInfo",
    "OutputOperationStarted",
    "RateUpdated",
    "ReceiverError",
    "ReceiverInfo",
    "ReceiverStarted",
    "ReceiverStopped",
    "StreamingStarted",
    "StreamingStopped",
    "TicksCoalesced",
    "WorkerLost",
]


@dataclass(frozen=True, slots=True)
class InputInfo:
    """What one input gave to a batch; ``records`` is -1 when unknown before reading."""

    stream_id: int
    name: str
    records: int
    bytes: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutputOperationInfo:
    """One output operation of one batch."""

    batch_time: BatchTime
    id: int
    name: str
    description: str = ""
    start_ms: int | None = None
    end_ms: int | None = None
    failure: str | None = None

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end, None before the end."""
        if self.start_ms is None or self.end_ms is None:
            return None
        return (self.end_ms - self.start_ms) / 1000


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """One batch; delays follow row SCH-5. The ``_s`` times come from the monotonic clock.

    records_given_up: skipped or dead-lettered in this batch.
    given_up_share: of the step that gives up the largest share of its records, over the window of the
        circuit breaker, from 0 to 1.
    """

    batch_id: int
    batch_time: BatchTime
    inputs: tuple[InputInfo, ...] = ()
    submission_ms: int | None = None
    processing_start_ms: int | None = None
    processing_end_ms: int | None = None
    scheduling_delay_s: float | None = None
    processing_delay_s: float | None = None
    total_delay_s: float | None = None
    outputs: tuple[OutputOperationInfo, ...] = ()
    ticks_coalesced: int = 0
    failure: str | None = None
    records_given_up: int = 0
    given_up_share: float = 0.0

    @property
    def records(self) -> int:
        """Records of all inputs whose number is known."""
        return sum(max(0, info.records) for info in self.inputs)


@dataclass(frozen=True, slots=True)
class ReceiverInfo:
    """One receiver (row RCV-19).

    lag: records that each partition of a log is behind, by its name.
    held_back: records behind transactions that are not over (scenario E18).
    """

    stream_id: int
    name: str
    active: bool
    restarts: int = 0
    last_error: str | None = None
    last_error_ms: int | None = None
    queue_records: int = 0
    queue_bytes: int = 0
    queue_fill: float = 0.0
    rate_limit: float | None = None
    records_total: int = 0
    bytes_total: int = 0
    records_dropped: int = 0
    lag: Mapping[str, int] = field(default_factory=dict)
    held_back: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """The base of all event records; ``at_ms`` is when it happened."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class StreamingStarted(Event):
    """The context is active; guarantees are the computed ones, a line per source -> sink pair."""

    guarantees: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StreamingStopped(Event):
    """The context has stopped; ``failure`` says why when it was not asked to."""

    failure: str | None = None


@dataclass(frozen=True, slots=True)
class ReceiverStarted(Event):
    receiver: ReceiverInfo


@dataclass(frozen=True, slots=True)
class ReceiverError(Event):
    receiver: ReceiverInfo


@dataclass(frozen=True, slots=True)
class ReceiverStopped(Event):
    receiver: ReceiverInfo


@dataclass(frozen=True, slots=True)
class BatchSubmitted(Event):
    batch: BatchInfo


@dataclass(frozen=True, slots=True)
class BatchStarted(Event):
    batch: BatchInfo


@dataclass(frozen=True, slots=True)
class BatchCompleted(Event):
    """All outputs of a batch are over, also when some failed (row LIS-9)."""

    batch: BatchInfo


@dataclass(frozen=True, slots=True)
class OutputOperationStarted(Event):
    output: OutputOperationInfo


@dataclass(frozen=True, slots=True)
class OutputOperationCompleted(Event):
    output: OutputOperationInfo


@dataclass(frozen=True, slots=True)
class TicksCoalesced(Event):
    """Ticks that cut no batch of their own, because the engine was late or busy."""

    ticks: int
    late_s: float


@dataclass(frozen=True, slots=True)
class CircuitBroken(Event):
    """A step gave up too many of its records, and the stream stops; ``records`` were tried in the window."""

    step: str
    records_given_up: int
    records: int


@dataclass(frozen=True, slots=True)
class RateUpdated(Event):
    stream_id: int
    rate: float


@dataclass(frozen=True, slots=True)
class WorkerLost(Event):
    """A worker process died; ``reason`` names exit code or signal and the step it ran."""

    slot: int
    reason: str
