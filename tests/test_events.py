"""What listeners hear of a stream, and in which order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiostream_engine.observe.events import (
    BatchCompleted,
    BatchStarted,
    BatchSubmitted,
    InputInfo,
    OutputOperationCompleted,
    OutputOperationStarted,
    ReceiverStarted,
    ReceiverStopped,
    StreamingStarted,
    StreamingStopped,
)
from aiostream_engine.observe.listener import StreamingListener
from tests.stage import Stage


class Log(StreamingListener):
    """Notes the name of each method that is called."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_") and name != "on_event":
            return lambda event: self.names.append(name)
        return super().__getattribute__(name)


async def test_the_events_of_a_stream_come_in_order():
    """LIS-1 … LIS-9."""
    stage = Stage([[1, 2]])
    log = Log()
    stage.ssc.add_listener(log)
    stage.stream.foreach_rdd(lambda rdd: None)
    stage.stream.foreach_rdd(lambda rdd: None)
    await stage.play(1)
    assert log.names == [
        "on_receiver_started",
        "on_streaming_started",
        "on_batch_submitted",
        "on_batch_started",
        "on_output_operation_started",
        "on_output_operation_completed",
        "on_output_operation_started",
        "on_output_operation_completed",
        "on_batch_completed",
        "on_receiver_stopped",
        "on_streaming_stopped",
    ]


async def test_the_start_tells_when_and_with_which_promises():
    """LIS-1."""
    stage = Stage([[1]])
    stage.clock.step_wall(1_700_000_000)
    stage.stream.foreach_rdd(lambda rdd: None, name="out")
    await stage.play(1)
    (started,) = [event for event in stage.events if isinstance(event, StreamingStarted)]
    assert started.at_ms == 1_700_000_000_000
    assert [line.split(":")[0] for line in started.guarantees] == [
        "source input 0 (ephemeral) -> out (plain)"
    ]


async def test_each_input_is_a_receiver_with_a_number_and_a_name():
    """LIS-2, LIS-4."""
    stage = Stage([[1]], [[2]])
    stage.ssc.union(*stage.streams).foreach_rdd(lambda rdd: None)
    await stage.play(1)
    for kind in (ReceiverStarted, ReceiverStopped):
        infos = [event.receiver for event in stage.events if isinstance(event, kind)]
        assert [(info.stream_id, info.name) for info in infos] == [(0, "input 0"), (1, "input 1")]


async def test_a_batch_is_told_with_inputs_outputs_times_and_delays():
    """LIS-5, LIS-6, LIS-9, LIS-10, SCH-5."""
    stage = Stage([["a", "b"]], [[1]])

    async def slow(rdd: Any) -> None:
        await stage.clock.sleep_until(stage.clock.monotonic() + 0.25)

    stage.ssc.union(*stage.streams).foreach_rdd(slow, name="slow")
    stage.stream.foreach_rdd(lambda rdd: None, name="quick")
    async with stage.started():
        await stage.clock.advance(1.5)
        await stage.until(lambda: stage.commits)
        await stage.clock.settle()
    submitted, started, completed = [
        next(event.batch for event in stage.events if isinstance(event, kind))
        for kind in (BatchSubmitted, BatchStarted, BatchCompleted)
    ]
    assert [(b.batch_id, b.batch_time) for b in (submitted, started, completed)] == [(1, 1000)] * 3
    assert [(info.stream_id, info.name, info.records) for info in submitted.inputs] == [
        (0, "input 0", 2),
        (1, "input 1", 1),
    ]
    assert isinstance(submitted.inputs[0], InputInfo)
    assert (submitted.records, submitted.submission_ms, submitted.processing_start_ms) == (3, 1000, None)
    assert [(out.id, out.name) for out in submitted.outputs] == [(0, "slow"), (1, "quick")]
    assert (started.processing_start_ms, started.scheduling_delay_s) == (1000, 0)
    assert started.processing_end_ms is None
    assert (completed.processing_end_ms, completed.processing_delay_s, completed.total_delay_s) == (
        1250,
        0.25,
        0.25,
    )
    assert completed.failure is None


async def test_an_output_operation_is_told_with_its_batch_name_and_duration():
    """LIS-7, LIS-8, LIS-11."""
    stage = Stage([[1]])

    async def slow(rdd: Any) -> None:
        await stage.clock.sleep_until(stage.clock.monotonic() + 0.25)

    stage.stream.foreach_rdd(slow, name="slow")
    async with stage.started():
        await stage.clock.advance(1.5)
        await stage.until(lambda: stage.commits)
        await stage.clock.settle()
    started = next(event.output for event in stage.events if isinstance(event, OutputOperationStarted))
    ended = next(event.output for event in stage.events if isinstance(event, OutputOperationCompleted))
    assert (started.batch_time, started.id, started.name, started.end_ms) == (1000, 0, "slow", None)
    assert (ended.start_ms, ended.end_ms, ended.duration_s, ended.failure) == (1000, 1250, 0.25, None)


async def test_a_failed_batch_is_completed_with_the_reason_and_the_stream_stops_with_it():
    """LIS-8, LIS-9."""
    stage = Stage([[0]])
    stage.look(stage.stream.map(lambda x: 1 // x, name="divide"))
    async with stage.started():
        await stage.clock.advance(1)
        await stage.stopped()
    output = next(event.output for event in stage.events if isinstance(event, OutputOperationCompleted))
    batch = next(event.batch for event in stage.events if isinstance(event, BatchCompleted))
    stopped = next(event for event in stage.events if isinstance(event, StreamingStopped))
    for text in (output.failure, batch.failure, stopped.failure, batch.outputs[0].failure):
        assert text is not None
        assert "ZeroDivisionError" in text
        assert "'divide'" in text


async def test_an_output_that_is_not_due_has_no_event():
    """LIS-7, DS-2."""
    stage = Stage([[1], [2]])
    stage.stream.window(2, 2).foreach_rdd(lambda rdd: None, name="window")
    await stage.play(2)
    started = [event.output for event in stage.events if isinstance(event, OutputOperationStarted)]
    assert [output.batch_time for output in started] == [2000]


async def test_a_batch_says_so_before_its_data_is_forgotten():
    """LIS-9."""
    stage = Stage([[1]])
    stage.stream.foreach_rdd(lambda rdd: None)
    order: list[str] = []
    stage.ssc.add_listener(lambda event: order.append(type(event).__name__))
    async with stage.started():
        await stage.batch()
        await stage.until(lambda: "BatchCompleted" in order)
    assert order.count("BatchCompleted") == 1


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_listeners_may_be_plain_or_coroutines_and_hear_all_events_in_order(kind: str):
    """LIS-13."""
    stage = Stage([[1], [2], [3]])
    heard: list[Any] = []

    async def slowly(event: Any) -> None:
        await asyncio.sleep(0)
        heard.append(event)

    stage.ssc.add_listener(slowly if kind == "async" else heard.append)
    stage.stream.foreach_rdd(lambda rdd: None)
    await stage.play(3)
    assert heard == stage.events
    assert isinstance(heard[-1], StreamingStopped)


async def test_a_slow_listener_does_not_slow_the_stream():
    """LIS-13."""
    stage = Stage([[1], [2], [3]])
    release = asyncio.Event()

    async def stuck(event: Any) -> None:
        await release.wait()

    stage.ssc.add_listener(stuck)
    stage.stream.foreach_rdd(lambda rdd: None)
    async with stage.started():
        await stage.batch(3)
        release.set()
