"""Figures of a stream, kept from its events: constant memory, one immutable snapshot to read."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import events as ev
from .redaction import redact

__all__ = ["DelayStatistics", "StatisticsSnapshot", "StreamStatistics", "quantile"]

FAILURES_MAX = 8


def quantile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank quantile of sorted values; ``share`` is in [0, 1]. Raises ValueError if empty."""
    if not ordered:
        raise ValueError("no values: a quantile needs one at least")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class DelayStatistics:
    """How one kind of delay is spread over the last batches, in seconds; zeros before the first."""

    last_s: float = 0.0
    avg_s: float = 0.0
    p50_s: float = 0.0
    p99_s: float = 0.0
    max_s: float = 0.0
    count: int = 0

    @classmethod
    def of(cls, seconds: Sequence[float]) -> DelayStatistics:
        """The figures of delays that are in order of time."""
        if not seconds:
            return cls()
        ordered = sorted(seconds)
        return cls(
            last_s=seconds[-1],
            avg_s=math.fsum(seconds) / len(seconds),
            p50_s=quantile(ordered, 0.5),
            p99_s=quantile(ordered, 0.99),
            max_s=ordered[-1],
            count=len(ordered),
        )


@dataclass(frozen=True, slots=True)
class StatisticsSnapshot:
    """A stream at one moment.

    Totals count from the start; delays and rates are over the last batches of the window.
    records_total and input_rate (records per second) know only inputs whose records are counted;
    bytes_total and input_bytes_rate (bytes per second) know those whose bytes are.
    batches_waiting: cut and not started. queue_fill: fullest queue, a share from 0 to 1.
    records_given_up: skipped or dead-lettered. given_up_share: of the worst step, over the window of the
    circuit breaker, from 0 to 1.
    last_failures: the newest failures, oldest first, secrets masked.
    """

    active: bool = False
    started_ms: int | None = None
    stopped_ms: int | None = None
    at_ms: int = 0
    batches_submitted: int = 0
    batches_started: int = 0
    batches_completed: int = 0
    batches_failed: int = 0
    last_batch: ev.BatchInfo | None = None
    records_total: int = 0
    bytes_total: int = 0
    input_rate: float = 0.0
    input_bytes_rate: float = 0.0
    scheduling_delay: DelayStatistics = field(default_factory=DelayStatistics)
    processing_delay: DelayStatistics = field(default_factory=DelayStatistics)
    total_delay: DelayStatistics = field(default_factory=DelayStatistics)
    ticks_coalesced: int = 0
    workers_lost: int = 0
    receiver_errors: int = 0
    records_given_up: int = 0
    given_up_share: float = 0.0
    receivers: tuple[ev.ReceiverInfo, ...] = ()
    guarantees: tuple[str, ...] = ()
    last_failures: tuple[str, ...] = ()

    @property
    def batches_waiting(self) -> int:
        return max(0, self.batches_submitted - self.batches_started)

    @property
    def batches_running(self) -> int:
        return max(0, self.batches_started - self.batches_completed)

    @property
    def queue_fill(self) -> float:
        return max((info.queue_fill for info in self.receivers), default=0.0)

    @property
    def uptime_s(self) -> float:
        """Seconds from start to stop, or to the last event while active."""
        if self.started_ms is None:
            return 0.0
        end_ms = self.at_ms if self.stopped_ms is None else self.stopped_ms
        return max(0, end_ms - self.started_ms) / 1000


class StreamStatistics:
    """Keeps figures from events: give each one to :meth:`observe`, read with :meth:`snapshot`.

    batches_max: how many of the last batches the delays and rates look back on.
    Quick enough to be a ``direct`` function of the event bus.
    """

    def __init__(self, batches_max: int = 256) -> None:
        if batches_max < 1:
            raise ValueError(f"batches_max is {batches_max}: it must be at least 1")
        self._completed: deque[ev.BatchInfo] = deque(maxlen=batches_max)
        self._failures: deque[str] = deque(maxlen=FAILURES_MAX)
        self._receivers: dict[int, ev.ReceiverInfo] = {}
        self._guarantees: tuple[str, ...] = ()
        self._active = False
        self._started_ms: int | None = None
        self._stopped_ms: int | None = None
        self._at_ms = 0
        self._submitted = self._started = self._finished = self._failed = 0
        self._records = self._bytes = 0
        self._given_up = 0
        self._ticks_coalesced = self._workers_lost = self._receiver_errors = 0

    def observe(self, event: ev.Event) -> None:
        """Take one event into the figures."""
        self._at_ms = max(self._at_ms, event.at_ms)
        match event:
            case ev.BatchSubmitted():
                self._submitted += 1
            case ev.BatchStarted():
                self._started += 1
            case ev.BatchCompleted(batch=batch):
                self._complete(batch)
            case ev.ReceiverStarted(receiver=info) | ev.ReceiverStopped(receiver=info):
                self._receivers[info.stream_id] = info
            case ev.ReceiverError(receiver=info):
                self._receivers[info.stream_id] = info
                self._receiver_errors += 1
                self._note(f"{info.name}: {info.last_error}")
            case ev.TicksCoalesced(ticks=ticks):
                self._ticks_coalesced += ticks
            case ev.WorkerLost(slot=slot, reason=reason):
                self._workers_lost += 1
                self._note(f"worker {slot}: {reason}")
            case ev.StreamingStarted() | ev.StreamingStopped():
                self._turn(event)

    def _turn(self, event: ev.StreamingStarted | ev.StreamingStopped) -> None:
        if isinstance(event, ev.StreamingStarted):
            self._active, self._started_ms, self._guarantees = True, event.at_ms, event.guarantees
            return
        self._active, self._stopped_ms = False, event.at_ms
        if event.failure is not None:
            self._note(event.failure)

    def _complete(self, batch: ev.BatchInfo) -> None:
        self._finished += 1
        self._records += batch.records
        self._bytes += sum(max(0, info.bytes) for info in batch.inputs)
        self._given_up += batch.records_given_up
        self._completed.append(batch)
        if batch.failure is not None:
            self._failed += 1
            self._note(f"batch {batch.batch_time}: {batch.failure}")

    def _note(self, failure: str) -> None:
        self._failures.append(redact(failure))

    def _rate(self, amounts: Sequence[int]) -> float:
        if len(self._completed) < 2:
            return 0.0
        # The first batch only marks the start of the time that the others cover.
        seconds = (self._completed[-1].batch_time - self._completed[0].batch_time) / 1000
        return sum(amounts[1:]) / seconds if seconds > 0 else 0.0

    def snapshot(self, receivers: Sequence[ev.ReceiverInfo] | None = None) -> StatisticsSnapshot:
        """The figures of this moment; ``receivers`` of this moment, else those last heard of."""
        batches = tuple(self._completed)
        known = tuple(self._receivers.values()) if receivers is None else tuple(receivers)
        scheduling = [b.scheduling_delay_s for b in batches if b.scheduling_delay_s is not None]
        processing = [b.processing_delay_s for b in batches if b.processing_delay_s is not None]
        total = [b.total_delay_s for b in batches if b.total_delay_s is not None]
        return StatisticsSnapshot(
            active=self._active,
            started_ms=self._started_ms,
            stopped_ms=self._stopped_ms,
            at_ms=self._at_ms,
            batches_submitted=self._submitted,
            batches_started=self._started,
            batches_completed=self._finished,
            batches_failed=self._failed,
            last_batch=batches[-1] if batches else None,
            records_total=self._records,
            bytes_total=self._bytes,
            input_rate=self._rate([b.records for b in batches]),
            input_bytes_rate=self._rate([sum(max(0, i.bytes) for i in b.inputs) for b in batches]),
            scheduling_delay=DelayStatistics.of(scheduling),
            processing_delay=DelayStatistics.of(processing),
            total_delay=DelayStatistics.of(total),
            ticks_coalesced=self._ticks_coalesced,
            workers_lost=self._workers_lost,
            receiver_errors=self._receiver_errors,
            records_given_up=self._given_up,
            given_up_share=batches[-1].given_up_share if batches else 0.0,
            receivers=known,
            guarantees=self._guarantees,
            last_failures=tuple(self._failures),
        )
