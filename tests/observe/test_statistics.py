from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiostream_engine.observe import events as ev
from aiostream_engine.observe.statistics import DelayStatistics, StreamStatistics, quantile
from aiostream_engine.types import BatchTime


def test_batches_are_counted_through_their_life(completed):
    statistics = StreamStatistics()
    batch = ev.BatchInfo(1, BatchTime(1000))
    for _ in range(3):
        statistics.observe(ev.BatchSubmitted(1, batch))
    statistics.observe(ev.BatchStarted(2, batch))
    statistics.observe(ev.BatchStarted(2, batch))
    statistics.observe(completed(1, failure="StepError: boom"))
    figures = statistics.snapshot()
    assert figures.batches_submitted == 3
    assert figures.batches_waiting == 1
    assert figures.batches_running == 1
    assert figures.batches_completed == 1
    assert figures.batches_failed == 1
    assert figures.last_failures == ("batch 2023-11-14 22:13:20.500Z: StepError: boom",)
    assert figures.last_batch is not None
    assert figures.last_batch.batch_id == 1


def test_rates_are_what_came_in_over_the_batches_of_the_window(completed):
    statistics = StreamStatistics(batches_max=5)
    for number in range(20):
        statistics.observe(completed(number, records=100 if number < 15 else 50))
    figures = statistics.snapshot()
    assert figures.input_rate == pytest.approx(100)  # 4 batches of 50 in 2 s
    assert figures.input_bytes_rate == pytest.approx(1000)
    assert figures.records_total == 15 * 100 + 5 * 50


def test_inputs_that_are_not_counted_do_not_lower_the_total(completed):
    statistics = StreamStatistics()
    statistics.observe(completed(1, records=-1))
    statistics.observe(completed(2, records=7))
    assert statistics.snapshot().records_total == 7


def test_delays_are_spread_over_the_window_only(completed):
    statistics = StreamStatistics(batches_max=100)
    for number in range(1, 201):
        statistics.observe(completed(number, delay_s=number))
    delay = statistics.snapshot().processing_delay
    assert delay == DelayStatistics(last_s=200, avg_s=150.5, p50_s=150, p99_s=199, max_s=200, count=100)


def test_before_the_first_batch_all_figures_are_zero():
    figures = StreamStatistics().snapshot()
    assert figures.input_rate == 0
    assert figures.processing_delay == DelayStatistics()
    assert figures.queue_fill == 0
    assert figures.uptime_s == 0
    assert not figures.active


def test_the_life_of_the_stream_is_followed():
    statistics = StreamStatistics()
    statistics.observe(ev.StreamingStarted(1_000, ("socket -> pprint: at most once",)))
    assert statistics.snapshot().active
    statistics.observe(ev.TicksCoalesced(3_000, 4, 2.0))
    assert statistics.snapshot().uptime_s == 2
    statistics.observe(ev.WorkerLost(3_500, 1, "signal 9"))
    statistics.observe(ev.StreamingStopped(5_000, failure="gave up"))
    figures = statistics.snapshot()
    assert not figures.active
    assert figures.uptime_s == 4
    assert figures.ticks_coalesced == 4
    assert figures.workers_lost == 1
    assert figures.guarantees == ("socket -> pprint: at most once",)
    assert figures.last_failures == ("worker 1: signal 9", "gave up")


def test_receivers_are_those_given_or_else_those_last_heard_of():
    statistics = StreamStatistics()
    info = ev.ReceiverInfo(3, "socket", True, last_error="refused", queue_fill=0.25)
    statistics.observe(ev.ReceiverStarted(1, dataclasses.replace(info, last_error=None)))
    statistics.observe(ev.ReceiverError(2, info))
    assert statistics.snapshot().receivers == (info,)
    assert statistics.snapshot().queue_fill == 0.25
    assert statistics.snapshot().receiver_errors == 1
    now = dataclasses.replace(info, queue_fill=0.5)
    assert statistics.snapshot([now]).queue_fill == 0.5


def test_failures_are_bounded_and_masked(completed):
    """J9"""
    statistics = StreamStatistics()
    for number in range(100):
        statistics.observe(completed(number, failure="cannot reach kafka://me:CANARY-s3cr3t@host"))
    failures = statistics.snapshot().last_failures
    assert len(failures) <= 10
    assert "CANARY" not in str(failures)


def test_a_snapshot_does_not_change(completed):
    statistics = StreamStatistics()
    statistics.observe(completed(1))
    figures = statistics.snapshot()
    statistics.observe(completed(2))
    assert figures.batches_completed == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        figures.batches_completed = 5  # type: ignore[misc]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_is_a_value_with_enough_values_at_or_below_it(values, share):
    ordered = sorted(values)
    result = quantile(ordered, share)
    assert result in ordered
    assert sum(value <= result for value in ordered) >= share * len(ordered) - 1e-9


def test_a_quantile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)
    with pytest.raises(ValueError, match="batches_max"):
        StreamStatistics(batches_max=0)
