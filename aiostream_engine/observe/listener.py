"""Listeners: objects whose methods are called with the events of a stream, in order."""

from __future__ import annotations

import inspect
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TextIO, TypeAlias

from . import events as ev
from .statistics import quantile

__all__ = ["EventHandler", "Listener", "StatsReportListener", "StreamingListener"]

EventHandler: TypeAlias = Callable[[ev.Event], "Awaitable[None] | None"]


class StreamingListener:
    """Override what you want to hear; each method may be plain or ``async def``.

    Methods are called one after the other, in the order of the events, on the event loop of the
    context: a plain method must return fast, an ``async`` one may await. What they raise is
    logged and counted, and never reaches the stream. Source: Spark's StreamingListener (LIS-1…9).
    """

    def on_streaming_started(self, event: ev.StreamingStarted) -> Any:
        """The context became active; once."""

    def on_streaming_stopped(self, event: ev.StreamingStopped) -> Any:
        """The context stopped; the last event."""

    def on_receiver_started(self, event: ev.ReceiverStarted) -> Any:
        """A receiver is registered."""

    def on_receiver_error(self, event: ev.ReceiverError) -> Any:
        """A receiver reported an error, also before a restart."""

    def on_receiver_stopped(self, event: ev.ReceiverStopped) -> Any:
        """A receiver ended, also before a restart."""

    def on_batch_submitted(self, event: ev.BatchSubmitted) -> Any:
        """A batch was cut and queued."""

    def on_batch_started(self, event: ev.BatchStarted) -> Any:
        """The first output of a batch starts."""

    def on_batch_completed(self, event: ev.BatchCompleted) -> Any:
        """All outputs of a batch are over, also when some failed."""

    def on_output_operation_started(self, event: ev.OutputOperationStarted) -> Any:
        """One output of a batch starts."""

    def on_output_operation_completed(self, event: ev.OutputOperationCompleted) -> Any:
        """One output of a batch is over; ``failure`` says why it failed."""

    def on_ticks_coalesced(self, event: ev.TicksCoalesced) -> Any:
        """Ticks passed without a batch of their own."""

    def on_circuit_broken(self, event: ev.CircuitBroken) -> Any:
        """A step gave up too many of its records: the stream stops."""

    def on_rate_updated(self, event: ev.RateUpdated) -> Any:
        """Rate control gave a source a new limit."""

    def on_worker_lost(self, event: ev.WorkerLost) -> Any:
        """A worker process died and is being replaced."""

    def on_event(self, event: ev.Event) -> Any:
        """Any event: gives it to its own method. Override it to hear all in one place."""
        method = _METHOD_OF.get(type(event))
        return None if method is None else getattr(self, method)(event)


_METHOD_OF: dict[type[ev.Event], str] = {
    ev.StreamingStarted: "on_streaming_started",
    ev.StreamingStopped: "on_streaming_stopped",
    ev.ReceiverStarted: "on_receiver_started",
    ev.ReceiverError: "on_receiver_error",
    ev.ReceiverStopped: "on_receiver_stopped",
    ev.BatchSubmitted: "on_batch_submitted",
    ev.BatchStarted: "on_batch_started",
    ev.BatchCompleted: "on_batch_completed",
    ev.OutputOperationStarted: "on_output_operation_started",
    ev.OutputOperationCompleted: "on_output_operation_completed",
    ev.TicksCoalesced: "on_ticks_coalesced",
    ev.CircuitBroken: "on_circuit_broken",
    ev.RateUpdated: "on_rate_updated",
    ev.WorkerLost: "on_worker_lost",
}

Listener: TypeAlias = StreamingListener | EventHandler


def handler_of(listener: Listener) -> EventHandler:
    """The one callable that takes an event of this listener. Raises TypeError for anything else."""
    on_event = getattr(listener, "on_event", None)
    if callable(on_event) and not inspect.isclass(listener):
        handler: EventHandler = on_event
        return handler
    if callable(listener) and not inspect.isclass(listener):
        return listener
    raise TypeError(f"{listener!r} is no listener: give a StreamingListener object or a callable")


_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.99, 1.0)


class StatsReportListener(StreamingListener):
    """Prints how total and processing delay are spread over the last ``batches_max`` batches (LIS-15).

    stream: where to print, standard error by default; one report a completed batch.
    """

    def __init__(self, batches_max: int = 10, stream: TextIO | None = None) -> None:
        if batches_max < 1:
            raise ValueError(f"batches_max is {batches_max}: it must be at least 1")
        self._batches: deque[ev.BatchInfo] = deque(maxlen=batches_max)
        self._stream = stream

    def on_batch_completed(self, event: ev.BatchCompleted) -> None:
        self._batches.append(event.batch)
        stream = sys.stderr if self._stream is None else self._stream
        stream.write(self.report())

    def report(self) -> str:
        """The report of this moment, a line for each kind of delay."""
        total = [b.total_delay_s for b in self._batches if b.total_delay_s is not None]
        processing = [b.processing_delay_s for b in self._batches if b.processing_delay_s is not None]
        return _report_line("total delay", total) + _report_line("processing time", processing)


def _report_line(title: str, seconds: Sequence[float]) -> str:
    if not seconds:
        return f"{title}: no batch yet\n"
    ordered = sorted(seconds)
    cells = "  ".join(f"{share:.0%} {quantile(ordered, share) * 1000:.1f} ms" for share in _QUANTILES)
    return f"{title} of {len(ordered)} batches: {cells}\n"
