from __future__ import annotations

import io

import pytest

from aiostream_engine.observe import events as ev
from aiostream_engine.observe.bus import EventBus
from aiostream_engine.observe.listener import StatsReportListener, StreamingListener
from aiostream_engine.types import BatchTime

BATCH = ev.BatchInfo(1, BatchTime(1000))
RECEIVER = ev.ReceiverInfo(0, "socket", True)
OUTPUT = ev.OutputOperationInfo(BatchTime(1000), 0, "pprint")

ALL = {
    "on_streaming_started": ev.StreamingStarted(1),
    "on_receiver_started": ev.ReceiverStarted(2, RECEIVER),
    "on_receiver_error": ev.ReceiverError(3, RECEIVER),
    "on_receiver_stopped": ev.ReceiverStopped(4, RECEIVER),
    "on_batch_submitted": ev.BatchSubmitted(5, BATCH),
    "on_batch_started": ev.BatchStarted(6, BATCH),
    "on_output_operation_started": ev.OutputOperationStarted(7, OUTPUT),
    "on_output_operation_completed": ev.OutputOperationCompleted(8, OUTPUT),
    "on_batch_completed": ev.BatchCompleted(9, BATCH),
    "on_ticks_coalesced": ev.TicksCoalesced(10, 2, 1.0),
    "on_circuit_broken": ev.CircuitBroken(10, "parse", 9, 10),
    "on_rate_updated": ev.RateUpdated(11, 0, 100.0),
    "on_worker_lost": ev.WorkerLost(12, 0, "SIGKILL"),
    "on_streaming_stopped": ev.StreamingStopped(13),
}


async def test_each_event_comes_to_its_own_method():
    """LIS-1 … LIS-9"""
    heard = []

    class All(StreamingListener):
        pass

    for name in ALL:
        setattr(All, name, lambda self, event, name=name: heard.append((name, event)))
    bus = EventBus()
    bus.add(All())
    bus.start()
    for event in ALL.values():
        bus.emit(event)
    await bus.aclose()
    assert heard == list(ALL.items())


def test_every_kind_of_event_has_a_method():
    kinds = {getattr(ev, name) for name in ev.__all__}
    kinds = {kind for kind in kinds if issubclass(kind, ev.Event) and kind is not ev.Event}
    assert {type(event) for event in ALL.values()} == kinds
    assert all(callable(getattr(StreamingListener, name)) for name in ALL)


async def test_a_listener_that_overrides_nothing_is_fine():
    bus = EventBus()
    bus.add(StreamingListener())
    bus.start()
    bus.emit(ev.Event(1))
    for event in ALL.values():
        bus.emit(event)
    await bus.aclose()
    assert bus.statistics().listener_errors == 0


def test_the_report_shows_how_delays_of_the_last_batches_are_spread(completed):
    """LIS-15"""
    out = io.StringIO()
    listener = StatsReportListener(10, out)
    assert listener.report() == "total delay: no batch yet\nprocessing time: no batch yet\n"
    for number in range(1, 21):
        listener.on_batch_completed(completed(number, delay_s=number / 1000))
    last = out.getvalue().splitlines()[-1]
    assert last.startswith("processing time of 10 batches: 0% 11.0 ms")
    assert "50% 15.0 ms" in last
    assert last.endswith("100% 20.0 ms")
    assert len(out.getvalue().splitlines()) == 40


def test_a_report_over_no_batch_is_refused():
    with pytest.raises(ValueError, match="batches_max"):
        StatsReportListener(0)
