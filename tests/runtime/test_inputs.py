"""The inputs of a stream: started, cut, paced and ended together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aiostream_engine.blocks.directory import BlockDirectory
from aiostream_engine.config import BackpressureConfig, QueueLimits
from aiostream_engine.observe.events import (
    Event,
    InputInfo,
    RateUpdated,
    ReceiverError,
    ReceiverInfo,
    ReceiverStarted,
    ReceiverStopped,
)
from aiostream_engine.plan.graph import InputStream
from aiostream_engine.runtime.inputs import Inputs
from aiostream_engine.sources.base import BatchInput, ReceiverSource, Source, SourceContext
from aiostream_engine.testing import RAISE, ManualClock, ScriptedSource
from aiostream_engine.types import BatchTime
from tests.stage import Stage


class Paced(ReceiverSource):
    """A receiver of so many records a batch, which notes the rates it is given."""

    def __init__(self, records: int = 0, name: str = "paced") -> None:
        self.name = name
        self.records = records
        self.rates: list[float | None] = []

    async def start(self, context: SourceContext) -> None:
        self.context = context
        context.on_started(self.info())

    async def cut(self, time: BatchTime) -> BatchInput:
        return BatchInput(records=self.records)

    async def stop(self) -> None:
        self.context.on_stopped(self.info())

    @property
    def finished(self) -> bool:
        return False

    @property
    def pending(self) -> bool:
        return False

    def info(self) -> ReceiverInfo:
        return ReceiverInfo(self.context.stream_id, self.name, True)

    def set_rate(self, rate: float | None) -> None:
        self.rates.append(rate)


@pytest.fixture
def directory() -> Iterator[BlockDirectory]:
    directory = BlockDirectory()
    yield directory
    directory.close()


class Bench:
    def __init__(self, directory: BlockDirectory, backpressure: BackpressureConfig) -> None:
        self.directory = directory
        self.backpressure = backpressure
        self.events: list[Event] = []

    def inputs(self, *sources: Source) -> Inputs:
        nodes = [
            InputStream(name=source.name, slide_ms=1000, source=source, stream_id=number)
            for number, source in enumerate(sources)
        ]
        return Inputs(
            nodes,
            self.directory,
            ManualClock(),
            QueueLimits(),
            self.backpressure,
            2,
            1.0,
            lambda: None,
            self.events.append,
        )


@pytest.fixture
def bench(directory: BlockDirectory) -> Bench:
    return Bench(directory, BackpressureConfig())


def info(number: int, records: int) -> InputInfo:
    return InputInfo(number, "x", records)


async def test_all_are_cut_for_the_same_label_in_order_of_definition(bench: Bench):
    """SCH-2."""
    sources = [ScriptedSource([[n], [n, n]], name=f"s{n}") for n in range(3)]
    inputs = bench.inputs(*sources)
    await inputs.start()
    contents, infos = await inputs.cut(BatchTime(1000))
    assert [content.records for content in contents] == [1, 1, 1]
    assert [(x.stream_id, x.name, x.records) for x in infos] == [(0, "s0", 1), (1, "s1", 1), (2, "s2", 1)]
    assert [source.cuts for source in sources] == [[1000]] * 3
    await inputs.aclose()
    assert all(source.closed for source in sources)


async def test_what_the_others_gave_to_a_cut_that_failed_is_released(bench: Bench):
    inputs = bench.inputs(ScriptedSource([["x" * 100_000]]), ScriptedSource([RAISE(OSError("gone"))]))
    await inputs.start()
    with pytest.raises(OSError, match="gone"):
        await inputs.cut(BatchTime(1000))
    assert bench.directory.ledger.statistics().files == 0
    await inputs.aclose()


async def test_a_source_that_stops_badly_does_not_keep_the_others_open(
    bench: Bench, caplog: pytest.LogCaptureFixture
):
    class Bad(Paced):
        async def stop(self) -> None:
            raise OSError("cannot stop")

    good = ScriptedSource([])
    inputs = bench.inputs(Bad(name="bad"), good)
    await inputs.start()
    await inputs.aclose()
    assert good.closed
    assert "source bad did not stop well: OSError('cannot stop')" in caplog.text


async def test_only_what_was_started_is_closed(bench: Bench):
    """CTX-8."""

    class Bad(Paced):
        async def start(self, context: SourceContext) -> None:
            self.context = context
            raise OSError("no such host")

    first, last = ScriptedSource([]), ScriptedSource([])
    inputs = bench.inputs(first, Bad(), last)
    with pytest.raises(OSError, match="no such host"):
        await inputs.start()
    await inputs.aclose()
    assert (first.closed, last.closed) == (True, False)


async def test_receiver_events_say_which_input_it_was(bench: Bench):
    """LIS-2, LIS-3, LIS-4."""
    source = Paced()
    inputs = bench.inputs(ScriptedSource([]), source)
    await inputs.start()
    source.context.on_error(source.info())
    await inputs.stop()
    mine = [event for event in bench.events if event.receiver.stream_id == 1]  # type: ignore[attr-defined]
    assert [type(event) for event in mine] == [ReceiverStarted, ReceiverError, ReceiverStopped]
    assert [receiver.name for receiver in inputs.infos()] == ["script", "paced"]


async def test_pending_and_finished_are_of_all_inputs(bench: Bench):
    quick, slow = ScriptedSource([[1]]), ScriptedSource([[1], [2]])
    inputs = bench.inputs(quick, slow)
    await inputs.start()
    assert inputs.pending
    await inputs.stop()
    await inputs.cut(BatchTime(1000))
    assert (inputs.pending, inputs.finished) == (True, False)
    await inputs.cut(BatchTime(2000))
    assert (inputs.pending, inputs.finished) == (False, True)


# -- rates -----------------------------------------------------------------------------------------


async def test_receivers_start_slowly_and_other_sources_are_not_paced(bench: Bench):
    """BP-2, BP-6."""
    receiver, scripted = Paced(), ScriptedSource([])
    await bench.inputs(receiver, scripted).start()
    assert receiver.rates == [1000.0]
    assert scripted.rates == []


async def test_the_static_limit_holds_from_the_first_record_on(directory: BlockDirectory):
    """BP-1, BP-6."""
    receiver = Paced()
    await Bench(directory, BackpressureConfig(rate_max=50.0)).inputs(receiver).start()
    assert receiver.rates == [50.0]
    receiver = Paced()
    await Bench(directory, BackpressureConfig(enabled=False)).inputs(receiver).start()
    assert receiver.rates == [None]


async def test_each_receiver_learns_from_its_own_records_of_finished_batches(bench: Bench):
    """BP-4, BP-5."""
    fast, idle = Paced(), Paced()
    inputs = bench.inputs(fast, idle)
    await inputs.start()
    inputs.learn(1000, [info(0, 1000), info(1, 0)], 0.01, 0.0)
    assert fast.rates == [1000.0, 10_000.0]
    assert idle.rates == [1000.0]
    updated = [event for event in bench.events if isinstance(event, RateUpdated)]
    assert [(event.stream_id, event.rate) for event in updated] == [(0, 10_000.0)]


async def test_an_overload_brings_the_rate_below_the_speed_of_processing(bench: Bench):
    """G1, BP-3, BP-4."""
    receiver = Paced()
    inputs = bench.inputs(receiver)
    await inputs.start()
    speed, waiting = 400.0, 0.0
    for batch in range(1, 60):
        rate = receiver.rates[-1]
        assert rate is not None
        taken = int(rate)  # ten times more would come
        processing = taken / speed
        inputs.learn(1000 * batch, [info(0, taken)], processing, waiting)
        waiting = max(0.0, waiting + processing - 1.0)
    last = [rate or 0 for rate in receiver.rates[-20:]]
    assert max(last) <= speed * 1.01
    assert min(last) > 0
    assert max(last) <= 2 * min(last)


async def test_empty_batches_teach_nothing_and_the_least_rate_is_kept(bench: Bench):
    """G2."""
    receiver = Paced()
    inputs = bench.inputs(receiver)
    await inputs.start()
    inputs.learn(1000, [info(0, 1000)], 5.0, 0.0)
    slow = receiver.rates[-1]
    for batch in range(2, 50):
        inputs.learn(1000 * batch, [info(0, 0)], 0.0, 0.0)
    assert receiver.rates[-1] == slow == 200.0


async def test_a_stream_paces_its_receivers_by_its_batches():
    """BP-5: wired from the batch to the source."""
    stage = Stage([])
    receiver = Paced(records=1000)
    stage.ssc.from_source(receiver).foreach_rdd(lambda rdd: None)
    async with stage.started():
        for number in range(1, 4):
            await stage.clock.advance(1)
            await stage.until(lambda: len(stage.commits) == number)  # noqa: B023
    # Done in no time, by the manual clock: a batch that takes no time teaches nothing.
    assert receiver.rates == [1000.0]

    async def slow(rdd: Any) -> None:
        await stage.clock.sleep_until(stage.clock.monotonic() + 0.25)

    stage = Stage([])
    receiver = Paced(records=1000)
    stage.ssc.from_source(receiver).foreach_rdd(slow)
    async with stage.started():
        await stage.clock.advance(1)
        await stage.clock.advance(1)
        await stage.until(lambda: stage.commits)
    assert receiver.rates == [1000.0, 2000.0]


async def test_a_receiver_that_is_faster_than_the_stream_is_held_back():
    """G1: end to end, on a manual clock."""
    stage = Stage([], backpressure=BackpressureConfig(initial_rate=300))

    async def flood() -> AsyncIterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    async def slow(rdd: Any) -> None:
        count = await rdd.count()
        counts.append(count)
        await stage.clock.sleep_until(stage.clock.monotonic() + count / 100)

    counts: list[int] = []
    stage.ssc.receiver_stream(flood).foreach_rdd(slow)
    async with stage.started():
        for _ in range(60):
            await stage.clock.advance(1)
    rates = [event.rate for event in stage.events if isinstance(event, RateUpdated)]
    assert counts[0] >= 300
    assert rates[-1] <= 100  # what the output can do, and no more
    assert sum(counts) <= 100 * 60 + 1000
