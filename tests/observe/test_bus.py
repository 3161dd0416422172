from __future__ import annotations

import asyncio

import pytest

from aiostream_engine.observe.bus import EventBus
from aiostream_engine.observe.events import Event, StreamingStarted, TicksCoalesced, WorkerLost
from aiostream_engine.observe.listener import StreamingListener


@pytest.fixture
async def bus():
    bus = EventBus()
    bus.start()
    yield bus
    await bus.aclose()


async def test_listeners_hear_all_events_in_order(bus):
    plain, slow = [], []

    async def listen(event):
        await asyncio.sleep(0)
        slow.append(event.at_ms)

    bus.add(lambda event: plain.append(event.at_ms))
    bus.add(listen)
    for number in range(100):
        bus.emit(Event(number))
    assert await bus.flush(20)
    assert plain == slow == list(range(100))


async def test_events_emitted_before_the_start_are_delivered(bus):
    early = EventBus()
    heard = []
    early.add(heard.append)
    early.emit(Event(1))
    early.start()
    await early.aclose()
    assert heard == [Event(1)]


@pytest.mark.parametrize("error", [ValueError("boom"), asyncio.CancelledError()])
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_listener_that_raises_is_counted_and_the_others_hear_on(bus, caplog, kind, error):
    """I5"""

    class Broken(StreamingListener):
        if kind == "plain":

            def on_worker_lost(self, event):
                raise error
        else:

            async def on_worker_lost(self, event):
                raise error

    heard = []
    bus.add(Broken())
    bus.add(heard.append)
    for slot in range(50):
        bus.emit(WorkerLost(0, slot, "killed"))
    assert await bus.flush(20)
    assert len(heard) == 50
    assert bus.statistics().listener_errors == 50
    assert 1 <= len(caplog.records) <= 5  # J17: the log is not flooded
    assert "listener=Broken" in caplog.records[0].message


async def test_even_an_error_that_cannot_be_printed_does_no_harm(bus):
    """I5"""

    class Unprintable(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    def listen(event):
        raise Unprintable

    bus.add(listen)
    bus.emit(Event(1))
    assert await bus.flush(20)
    assert bus.statistics().listener_errors == 1


async def test_a_listener_that_hangs_fills_the_queue_and_the_oldest_events_are_dropped(caplog):
    """I5"""
    bus = EventBus(events_max=10)
    heard, go_on, entered = [], asyncio.Event(), asyncio.Event()

    async def listen(event):
        entered.set()
        await go_on.wait()
        heard.append(event.at_ms)

    bus.add(listen)
    bus.start()
    bus.emit(Event(0))
    await asyncio.wait_for(entered.wait(), 20)
    for number in range(1, 31):
        bus.emit(Event(number))
    assert bus.statistics().events_dropped == 20
    assert bus.statistics().events_queued == 10
    go_on.set()
    assert await bus.flush(20)
    assert heard == [0, *range(21, 31)]
    await bus.aclose()
    assert sum("dropped" in record.message for record in caplog.records) <= 5


async def test_an_async_listener_past_its_time_is_cut_off(bus):
    """I5"""
    slow = EventBus(listener_timeout_s=0.01)
    heard = []
    slow.add(lambda event: asyncio.Event().wait())
    slow.add(heard.append)
    slow.start()
    slow.emit(Event(1))
    assert await slow.flush(20)
    assert heard == [Event(1)]
    assert slow.statistics().listener_errors == 1
    await slow.aclose()


async def test_direct_functions_are_up_to_date_when_emit_returns():
    seen = []

    def broken(event):
        raise ValueError

    bus = EventBus(direct=(broken, seen.append))
    bus.emit(Event(1))
    assert seen == [Event(1)]
    assert bus.statistics().listener_errors == 1


async def test_closing_delivers_what_is_queued_and_may_be_repeated():
    heard = []
    bus = EventBus()
    bus.add(heard.append)
    bus.start()
    for number in range(5):
        bus.emit(Event(number))
    await bus.aclose()
    await bus.aclose()
    assert len(heard) == 5
    bus.emit(Event(9))  # harmless
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_is_not_held_up_by_a_hanging_listener():
    """I5, F7"""
    bus = EventBus()
    bus.add(lambda event: asyncio.Event().wait())
    bus.start()
    bus.emit(Event(1))
    await asyncio.wait_for(bus.aclose(timeout_s=0.01), 20)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_listener_may_close_the_bus_it_hears_from():
    bus = EventBus()
    heard = []

    async def listen(event):
        heard.append(event)
        await bus.aclose(timeout_s=30)

    bus.add(listen)
    bus.start()
    (task,) = asyncio.all_tasks() - {asyncio.current_task()}
    bus.emit(Event(1))
    await asyncio.wait_for(task, 20)
    assert heard == [Event(1)]


async def test_a_removed_listener_hears_nothing_more(bus):
    heard = []
    listener = heard.append
    bus.add(listener)
    assert bus.remove(listener) is True
    assert bus.remove(listener) is False
    bus.emit(Event(1))
    assert await bus.flush(20)
    assert heard == []


async def test_a_bus_can_be_started_again_after_closing():
    heard = []
    bus = EventBus()
    bus.add(heard.append)
    bus.start()
    await bus.aclose()
    bus.start()
    bus.emit(StreamingStarted(1))
    bus.emit(TicksCoalesced(2, 3, 0.5))
    await bus.aclose()
    assert [event.at_ms for event in heard] == [1, 2]


@pytest.mark.parametrize("thing", [5, StreamingListener, int, None])
def test_what_is_no_listener_is_refused(thing):
    with pytest.raises(TypeError, match="no listener"):
        EventBus().add(thing)


def test_a_queue_of_nothing_is_refused():
    with pytest.raises(ValueError, match="events_max"):
        EventBus(events_max=0)
