"""When batches are cut, on a clock that the test moves."""

import asyncio

import pytest

from aiostream_engine.clock import SystemClock
from aiostream_engine.runtime.ticker import DataTrigger, Tick, Ticker
from aiostream_engine.testing import LeakCheck, ManualClock

HOUR = 3600


class Collector:
    """Takes each tick as soon as it comes, with the wall and monotonic time at which it came."""

    def __init__(self, ticker: Ticker | DataTrigger, clock: ManualClock) -> None:
        self.ticks: list[Tick] = []
        self.times: list[float] = []
        self._clock = clock
        self.task = asyncio.create_task(self._collect(ticker))

    async def _collect(self, ticker: Ticker | DataTrigger) -> None:
        async for tick in ticker.ticks():
            self.ticks.append(tick)
            self.times.append(self._clock.monotonic())

    @property
    def labels(self) -> list[int]:
        return [tick.time for tick in self.ticks]


def start(clock: ManualClock, interval_ms: int = 500, **options) -> tuple[Ticker, Collector]:
    ticker = Ticker(clock, interval_ms, **options)
    return ticker, Collector(ticker, clock)


async def test_labels_are_epoch_multiples_of_the_interval_at_its_end():
    """CTX-22."""
    clock = ManualClock(epoch_s=1_700_000_000.123)
    ticker, got = start(clock)
    await clock.advance(1.4)
    assert got.labels == [1_700_000_000_500, 1_700_000_001_000, 1_700_000_001_500]
    assert ticker.zero_ms == 1_700_000_000_000
    ticker.stop()
    await got.task


async def test_a_ticker_started_on_a_multiple_ticks_one_interval_later():
    """CTX-22: the first tick is later than now."""
    clock = ManualClock(epoch_s=10.0)
    ticker, got = start(clock)
    await clock.advance(0.499)
    assert got.labels == []
    await clock.advance(0.001)
    assert got.labels == [10_500]
    ticker.stop()
    await got.task


async def test_a_tick_on_time_is_not_late_and_missed_nothing():
    clock = ManualClock()
    ticker, got = start(clock)
    await clock.advance(5)
    assert got.ticks == [Tick(label) for label in range(500, 5001, 500)]
    ticker.stop()
    await got.task


async def test_ten_thousand_ticks_of_ten_milliseconds_do_not_drift():
    clock = ManualClock(epoch_s=1_700_000_000.0)
    ticker = Ticker(clock, 10)
    began = clock.monotonic()
    for number in range(1, 10_001):
        clock._monotonic = began + number * 0.01 + 0.004  # each consumer comes 4 ms late
        tick = await ticker.next()
        assert tick is not None
        assert (tick.time, tick.missed) == (1_700_000_000_000 + number * 10, 0)
        assert tick.late_s == pytest.approx(0.004, abs=1e-6)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_step_of_the_wall_clock_does_not_change_the_cadence(step):
    """D1: no storm, no pause, no repeated label, ids one apart."""
    clock = ManualClock(epoch_s=100_000.0)
    ticker, got = start(clock)
    await clock.advance(2)
    clock.step_wall(step)
    await clock.advance(2)
    gaps = [later - earlier for earlier, later in zip(got.times, got.times[1:], strict=False)]
    assert len(got.ticks) == 8
    assert gaps == pytest.approx([0.5] * 7)
    assert got.labels == sorted(set(got.labels))
    assert all(label % 500 == 0 for label in got.labels)
    assert all(tick.missed == 0 for tick in got.ticks)
    ticker.stop()
    await got.task


async def test_labels_follow_a_wall_clock_that_was_set_forward_and_say_so():
    clock = ManualClock(epoch_s=0.0)
    ticker, got = start(clock)
    await clock.advance(1)
    clock.step_wall(HOUR)
    await clock.advance(1)
    hour = HOUR * 1000
    assert got.labels == [500, 1000, hour + 1500, hour + 2000]
    assert [tick.jumped for tick in got.ticks] == [0, 0, 7200, 0]
    ticker.stop()
    await got.task


async def test_labels_do_not_follow_a_wall_clock_that_was_set_back():
    clock = ManualClock(epoch_s=10_000.0)
    ticker, got = start(clock)
    await clock.advance(1)
    clock.step_wall(-HOUR)
    await clock.advance(1)
    clock.step_wall(HOUR)
    await clock.advance(1)
    assert got.labels == list(range(10_000_500, 10_003_001, 500))
    ticker.stop()
    await got.task


async def test_a_wall_clock_that_is_less_than_an_interval_off_is_not_followed():
    clock = ManualClock()
    ticker, got = start(clock)
    await clock.advance(0.5)
    clock.step_wall(0.4)
    await clock.advance(1)
    assert got.labels == [500, 1000, 1500]
    ticker.stop()
    await got.task


@pytest.mark.parametrize("interval_ms", [500, 10])
async def test_a_stall_gives_one_late_tick_for_all_that_were_missed(interval_ms):
    """D2: one batch with the backlog, not ten seconds of empty ones; lateness is told."""
    clock = ManualClock()
    ticker, got = start(clock, interval_ms)
    await clock.settle()
    await clock.jump(10)
    assert got.ticks == [Tick(10_000, 10_000 // interval_ms - 1, pytest.approx(10 - interval_ms / 1000))]
    await clock.advance(interval_ms / 1000)
    assert got.ticks[1:] == [Tick(10_000 + interval_ms)]
    ticker.stop()
    await got.task


async def test_a_suspend_gives_one_tick_with_the_label_of_the_present():
    """D3: the wall clock went on while monotonic time stood still."""
    clock = ManualClock()
    ticker, got = start(clock)
    await clock.advance(1.2)
    clock.step_wall(8 * HOUR)
    await clock.advance(0.3)
    assert got.labels == [500, 1000, 8 * HOUR * 1000 + 1500]
    ticker.stop()
    await got.task


async def test_missed_ticks_all_fire_when_asked_for():
    """CTX-24: the original's way, as an option."""
    clock = ManualClock()
    ticker, got = start(clock, fire_missed=True)
    await clock.settle()
    await clock.jump(2.2)
    assert got.labels == [500, 1000, 1500, 2000]
    assert [tick.late_s for tick in got.ticks] == pytest.approx([1.7, 1.2, 0.7, 0.2])
    assert all(tick.missed == 0 for tick in got.ticks)
    ticker.stop()
    await got.task


async def test_a_consumer_that_is_busy_gets_one_tick_for_the_time_it_was_away():
    """D4: ticks do not queue up behind a slow batch."""
    clock = ManualClock()
    ticker = Ticker(clock, 500)
    await clock.advance(1.7)
    assert await ticker.next() == Tick(1500, 2, pytest.approx(1.2))
    waiting = asyncio.create_task(ticker.next())
    await clock.advance(0.3)
    assert await waiting == Tick(2000)


async def test_stop_wakes_a_waiting_consumer_at_once():
    clock = ManualClock()
    async with LeakCheck():
        ticker, got = start(clock, 60_000)
        await clock.settle()
        ticker.stop()
        await asyncio.wait_for(got.task, 10)
    assert got.ticks == []


async def test_stop_with_a_last_tick_gives_exactly_one_more_without_waiting():
    """CTX-25: what came since the last tick gets its batch."""
    clock = ManualClock()
    ticker, got = start(clock)
    await clock.advance(0.7)
    ticker.stop(last_tick=True)
    await asyncio.wait_for(got.task, 10)
    assert got.ticks == [Tick(500), Tick(1000)]
    assert await ticker.next() is None


async def test_the_last_tick_is_given_also_when_nobody_was_waiting():
    clock = ManualClock()
    ticker = Ticker(clock, 500)
    ticker.stop(last_tick=True)
    assert await ticker.next() == Tick(500)
    assert await ticker.next() is None


async def test_only_the_first_stop_decides_about_the_last_tick():
    ticker = Ticker(ManualClock(), 500)
    ticker.stop()
    ticker.stop(last_tick=True)
    assert await ticker.next() is None


async def test_a_cancelled_wait_loses_no_tick_and_leaves_nothing():
    clock = ManualClock()
    ticker = Ticker(clock, 500)
    async with LeakCheck():
        waiting = asyncio.create_task(ticker.next())
        await clock.settle()
        waiting.cancel()
        await asyncio.wait({waiting})
    assert waiting.cancelled()
    await clock.advance(0.5)
    assert await ticker.next() == Tick(500)


async def test_a_continued_stream_keeps_its_zero_time_and_its_labels_rise():
    """CTX-23: ticks count from the original zero time, which need not be an epoch multiple."""
    clock = ManualClock(epoch_s=100.0)
    ticker, got = start(clock, zero_ms=250, after_ms=99_750)
    await clock.advance(1)
    assert ticker.zero_ms == 250
    assert got.labels == [100_250, 100_750]
    ticker.stop()
    await got.task


async def test_a_stream_continued_under_a_clock_that_went_back_starts_soon_with_later_labels():
    """D1: a restart after the wall clock was set back repeats no label and does not wait an hour."""
    clock = ManualClock(epoch_s=10_000.0)
    last = 10_000_000 + HOUR * 1000
    ticker, got = start(clock, after_ms=last)
    await clock.advance(1)
    assert got.labels == [last + 500, last + 1000]
    ticker.stop()
    await got.task


async def test_a_continued_ticker_gives_every_tick_of_its_absence_and_then_keeps_the_cadence():
    """CTX-24, CTX-23: labels count from the zero time, and none is given twice or left out."""
    clock = ManualClock(epoch_s=100.0)
    ticker, got = start(clock, zero_ms=250, after_ms=98_250, fire_missed=True)
    assert ticker.missed_before == 3
    await clock.settle()
    assert got.labels == [98_750, 99_250, 99_750]
    assert [tick.late_s for tick in got.ticks] == pytest.approx([1.25, 0.75, 0.25])
    await clock.advance(0.75)
    assert got.labels[3:] == [100_250, 100_750]
    assert [tick.late_s for tick in got.ticks[3:]] == pytest.approx([0, 0])
    ticker.stop()
    await got.task


async def test_a_stop_among_missed_ticks_gives_one_more_and_not_all():
    """CTX-25: the end of a program does not wait for all of its past."""
    clock = ManualClock(epoch_s=1000.0)
    ticker = Ticker(clock, 500, after_ms=900_000, fire_missed=True)
    assert (await ticker.next()).time == 900_500
    ticker.stop(last_tick=True)
    assert (await ticker.next()).time == 901_000
    assert await ticker.next() is None


async def test_firing_every_missed_tick_repeats_no_label_when_the_clock_went_back():
    """CTX-24, D1."""
    clock = ManualClock(epoch_s=10_000.0)
    last = 10_000_000 + HOUR * 1000
    ticker, got = start(clock, after_ms=last, fire_missed=True)
    assert ticker.missed_before == 0
    await clock.advance(1)
    assert got.labels == [last + 500, last + 1000]
    ticker.stop()
    await got.task


async def test_a_failing_clock_is_an_error_and_no_tick():
    class Broken(ManualClock):
        async def sleep_until(self, deadline: float) -> None:
            raise OSError("no timer")

    with pytest.raises(OSError, match="no timer"):
        await Ticker(Broken(), 500).next()


async def test_the_system_clock_gives_rising_multiples_and_is_never_early():
    clock = SystemClock()
    ticker = Ticker(clock, 10)
    labels = []
    for _ in range(5):
        tick = await asyncio.wait_for(ticker.next(), 10)
        assert tick is not None
        labels.append(tick.time)
        assert clock.time() * 1000 >= tick.time - 1
    assert labels == sorted(set(labels))
    assert all(label % 10 == 0 for label in labels)


# -- as soon as there is data ----------------------------------------------------------------


def start_data(clock: ManualClock, **options) -> tuple[DataTrigger, Collector]:
    trigger = DataTrigger(clock, 500, **options)
    return trigger, Collector(trigger, clock)


async def test_data_is_cut_at_once_with_the_time_of_the_cut():
    clock = ManualClock()
    trigger, got = start_data(clock)
    await clock.advance(0.123)
    trigger.notify()
    await clock.settle()
    assert got.ticks == [Tick(123)]
    trigger.stop()
    await got.task


async def test_without_data_the_interval_still_ticks():
    clock = ManualClock()
    trigger, got = start_data(clock)
    await clock.advance(0.6)
    trigger.notify()
    await clock.advance(0.5)
    assert got.labels == [500, 600, 1000]
    trigger.stop()
    await got.task


async def test_cuts_keep_the_least_gap():
    clock = ManualClock()
    trigger, got = start_data(clock, gap_min_s=0.05)
    for _ in range(120):
        trigger.notify()
        await clock.advance(0.001)
    gaps = [later - earlier for earlier, later in zip(got.times, got.times[1:], strict=False)]
    assert len(gaps) == 2
    assert min(gaps) >= 0.05 - 1e-9
    trigger.stop()
    await got.task


async def test_two_cuts_within_a_millisecond_have_rising_labels():
    clock = ManualClock(epoch_s=5.0)
    trigger, got = start_data(clock)
    for _ in range(3):
        trigger.notify()
        await clock.advance(0.0001)
    assert got.labels == [5001, 5002, 5003]
    trigger.stop()
    await got.task


async def test_data_that_came_while_the_consumer_was_busy_is_cut_when_it_asks():
    clock = ManualClock()
    trigger = DataTrigger(clock, 500)
    trigger.notify()
    trigger.notify()
    await clock.advance(0.2)
    assert await trigger.next() == Tick(200)
    waiting = asyncio.create_task(trigger.next())
    await clock.advance(0.1)
    assert not waiting.done()
    await clock.advance(0.2)
    assert await waiting == Tick(500)


async def test_a_stall_gives_one_tick_with_the_number_missed():
    """D2."""
    clock = ManualClock()
    trigger, got = start_data(clock)
    await clock.settle()
    await clock.jump(10)
    assert got.ticks == [Tick(10_000, 19, pytest.approx(9.5))]
    trigger.stop()
    await got.task


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_step_of_the_wall_clock_gives_no_storm_and_no_repeated_label(step):
    """D1."""
    clock = ManualClock(epoch_s=10_000.0)
    trigger, got = start_data(clock)
    await clock.advance(1)
    clock.step_wall(step)
    await clock.advance(1)
    assert len(got.ticks) == 4
    assert got.labels == sorted(set(got.labels))
    trigger.stop()
    await got.task


async def test_data_without_end_leaves_the_loop_to_others():
    trigger = DataTrigger(ManualClock(), 500)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(100):
        trigger.notify()
        await trigger.next()
    task.cancel()
    assert turns >= 50


async def test_the_data_trigger_stops_with_one_last_tick_when_asked():
    """CTX-25."""
    clock = ManualClock()
    trigger, got = start_data(clock)
    await clock.advance(0.1)
    trigger.stop(last_tick=True)
    await asyncio.wait_for(got.task, 10)
    assert got.labels == [100]
    assert await trigger.next() is None
