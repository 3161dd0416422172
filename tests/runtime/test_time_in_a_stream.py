"""What a running stream makes of time that jumps, stalls and stands still."""

import pytest

from aiostream_engine.config import SchedulerConfig
from aiostream_engine.observe.events import BatchCompleted, TicksCoalesced
from aiostream_engine.testing import ScriptedSource

HOUR = 3600


class Watch:
    """Starts a stream of one scripted source and keeps its events of the kinds that tell of time."""

    def __init__(self, ssc, clock, records=1000):
        self.ssc, self.clock = ssc, clock
        self.source = ScriptedSource([[number] for number in range(records)])
        self.events = []
        self.got = []
        ssc.add_listener(self.events.append)
        stream = ssc.from_source(self.source)
        stream.foreach_rdd(self._keep)

    async def _keep(self, rdd, time):
        self.got.append((int(time), await rdd.collect()))

    async def advance(self, interval, times=1):
        """One batch at a time: each is committed before time goes on."""
        for _ in range(times):
            count = len(self.source.commits)
            await self.clock.advance(interval)
            await self.clock.until(lambda count=count: len(self.source.commits) > count)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_step_of_the_wall_clock_neither_stops_nor_floods_a_stream(
    streaming_context, manual_clock, step
):
    """D1: cadence unchanged, ids one apart, labels strictly rising, no record lost."""
    manual_clock.step_wall(10 * HOUR)
    async with streaming_context(interval=0.5) as ssc:
        watch = Watch(ssc, manual_clock)
        await ssc.start()
        await watch.advance(0.5, times=3)
        manual_clock.step_wall(step)
        await watch.advance(0.5, times=3)
        await manual_clock.until(lambda: len(watch.of(BatchCompleted)) == 6)
    labels = [time for time, _ in watch.got]
    assert labels == sorted(set(labels))
    assert [records for _, records in watch.got] == [[number] for number in range(6)]
    assert [event.batch.batch_id for event in watch.of(BatchCompleted)] == [1, 2, 3, 4, 5, 6]


async def test_a_stall_of_ten_seconds_gives_one_batch_and_tells_how_late_it_is(
    streaming_context, manual_clock
):
    """D2, D3."""
    async with streaming_context(interval=0.5) as ssc:
        watch = Watch(ssc, manual_clock)
        await ssc.start()
        await watch.advance(0.5)
        await manual_clock.jump(10)
        await manual_clock.until(lambda: len(watch.source.commits) == 2)
        await watch.advance(0.5)
        await manual_clock.until(lambda: watch.of(TicksCoalesced))
    assert [time for time, _ in watch.got] == [500, 10_500, 11_000]
    (coalesced,) = watch.of(TicksCoalesced)
    assert (coalesced.ticks, coalesced.late_s) == (19, pytest.approx(9.5))


async def test_missed_ticks_each_give_a_batch_when_asked_for(streaming_context, manual_clock):
    """CTX-24."""
    scheduler = SchedulerConfig(missed_ticks="every")
    async with streaming_context(interval=0.5, scheduler=scheduler) as ssc:
        watch = Watch(ssc, manual_clock)
        await ssc.start()
        await manual_clock.jump(2)
        await manual_clock.until(lambda: len(watch.source.commits) == 4)
    assert [time for time, _ in watch.got] == [500, 1000, 1500, 2000]


async def test_a_window_over_a_stall_is_answered_once_with_what_is_in_it(streaming_context, manual_clock):
    """D2, WIN-3: the slide that fell into the stall is owed by the batch behind it."""
    async with streaming_context(interval=1) as ssc:
        watch = Watch(ssc, manual_clock)
        windows = []

        async def keep(rdd, time):
            windows.append((int(time), await rdd.collect()))

        ssc.from_source(ScriptedSource([[number] for number in range(9)])).window(4, 2).foreach_rdd(keep)
        await ssc.start()
        await watch.advance(1, times=3)
        await manual_clock.jump(2)  # the ticks at 4 and 5
        await manual_clock.until(lambda: len(watch.source.commits) == 4)
        await watch.advance(1)
    # The window of the slide at 4 ends there; what the batch at 5 brought is in the next one.
    assert windows == [(2000, [0, 1]), (5000, [0, 1, 2]), (6000, [2, 3, 4])]


async def test_a_graceful_stop_makes_a_last_batch_of_what_came_since_the_last_tick(
    streaming_context, manual_clock
):
    """CTX-25."""
    async with streaming_context(interval=60) as ssc:
        watch = Watch(ssc, manual_clock, records=2)
        await ssc.start()
        await watch.advance(60)
        assert await ssc.stop()
    assert watch.got == [(60_000, [0]), (120_000, [1])]


async def test_ten_millisecond_batches_keep_their_labels(streaming_context, manual_clock):
    async with streaming_context(interval=0.01) as ssc:
        watch = Watch(ssc, manual_clock)
        await ssc.start()
        await watch.advance(0.01, times=50)
    assert [time for time, _ in watch.got] == [10 * number for number in range(1, 51)]
