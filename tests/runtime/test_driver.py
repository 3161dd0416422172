"""The shell that cuts, runs and commits batches."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiostream_engine import StreamingContext
from aiostream_engine.config import SchedulerConfig
from aiostream_engine.observe.events import BatchCompleted, BatchStarted, BatchSubmitted, TicksCoalesced
from aiostream_engine.sources.queue import QueueSource
from aiostream_engine.testing import RAISE, ScriptedSource
from aiostream_engine.types import BatchTime, ContextState
from tests.stage import DEADLINE_S, Stage

TOGETHER = SchedulerConfig(batches_in_flight_max=3, concurrent_batches=3)


class Gates:
    """An output that holds each batch until it is let go."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self._open: dict[int, asyncio.Event] = {}
        self.error: dict[int, Exception] = {}

    def gate(self, label: int) -> asyncio.Event:
        return self._open.setdefault(label, asyncio.Event())

    def let_go(self, label: int, error: Exception | None = None) -> None:
        if error is not None:
            self.error[label] = error
        self.gate(label).set()

    async def __call__(self, rdd: Any, time: BatchTime) -> None:
        label = int(time) // 1000
        self.begun.append(label)
        await self.gate(label).wait()
        if label in self.error:
            raise self.error[label]
        self.ended.append(label)


def labels(times: list[BatchTime]) -> list[int]:
    return [int(time) // 1000 for time in times]


# -- one at a time ---------------------------------------------------------------------------------


async def test_a_batch_waits_for_the_one_before():
    """SCH-1, SCH-2, OUT-2."""
    stage, gates = Stage([[1], [2], [3]]), Gates()
    stage.stream.foreach_rdd(gates)
    async with stage.started():
        await stage.clock.advance(2)
        assert gates.begun == [1]
        gates.let_go(1)
        await stage.until(lambda: gates.begun == [1, 2])
        assert labels(stage.commits) == [1]
        gates.let_go(2)
        await stage.until(lambda: labels(stage.commits) == [1, 2])


async def test_a_slow_batch_lets_ticks_coalesce_and_its_delay_be_seen():
    """D4, SCH-4, SCH-5: bounded, unlike in the original."""
    stage, gates = Stage([[n] for n in range(20)]), Gates()
    stage.stream.foreach_rdd(gates)
    async with stage.started():
        await stage.clock.advance(10)
        assert labels(stage.sources[0].cuts) == [1, 2]
        gates.let_go(1)
        await stage.until(lambda: len(stage.sources[0].cuts) == 3)
        gates.let_go(2)
        await stage.until(lambda: len(stage.commits) == 2)
        await stage.clock.settle()
    assert labels(stage.sources[0].cuts)[:3] == [1, 2, 10]
    assert [event.ticks for event in stage.events if isinstance(event, TicksCoalesced)] == [7]
    second = [event.batch for event in stage.events if isinstance(event, BatchCompleted)][1]
    assert (second.scheduling_delay_s, second.processing_delay_s, second.total_delay_s) == (8, 0, 8)
    third = [event.batch for event in stage.events if isinstance(event, BatchSubmitted)][2]
    assert (third.ticks_coalesced, third.batch_id) == (7, 3)


async def test_a_commit_that_the_source_refuses_fails_the_stream_and_does_not_hang():
    class Refusing(ScriptedSource):
        async def on_commit(self, time: BatchTime) -> None:
            raise ConnectionError("cannot acknowledge")

    stage = Stage()
    stage.ssc.from_source(Refusing([[1], [2]])).foreach_rdd(lambda rdd: None)
    async with stage.started():
        await stage.clock.advance(1)
        with pytest.raises(ConnectionError, match="cannot acknowledge"):
            await stage.ssc.await_termination(DEADLINE_S)


async def test_a_source_that_raises_stops_the_stream():
    stage = Stage([[1], RAISE(OSError("disk gone"))])
    stage.look(stage.stream)
    async with stage.started():
        await stage.batch()
        await stage.clock.advance(1)
        with pytest.raises(OSError, match="disk gone"):
            await stage.ssc.await_termination(DEADLINE_S)
    assert stage.records == [[1]]


async def test_a_source_whose_own_await_is_cancelled_stops_the_stream_and_does_not_hang():
    class Impatient(ScriptedSource):
        async def cut(self, time: BatchTime) -> Any:
            inner = asyncio.ensure_future(asyncio.sleep(3600))
            inner.cancel()
            await inner

    stage = Stage()
    stage.ssc.from_source(Impatient([])).foreach_rdd(lambda rdd: None)
    async with stage.started():
        await stage.clock.advance(1)
        with pytest.raises(Exception, match="CancelledError"):
            await stage.ssc.await_termination(DEADLINE_S)


async def test_what_other_sources_gave_to_a_cut_that_failed_is_freed():
    stage = Stage([["x" * 100_000]], [RAISE(OSError("disk gone"))])
    stage.look(stage.ssc.union(*stage.streams))
    async with stage.ssc:
        await stage.ssc.start()
        ledger = stage.ssc.engine.directory.ledger
        await stage.clock.advance(1)
        with pytest.raises(OSError, match="disk gone"):
            await stage.ssc.await_termination(DEADLINE_S)
        assert ledger.statistics().files == 0


async def test_the_data_of_a_batch_that_failed_or_was_given_up_is_freed():
    stage = Stage([["x" * 100_000], ["y" * 100_000]])
    stage.look(stage.stream.map(lambda x: x).window(2))
    gates = Gates()
    stage.stream.map(str.upper).cache().foreach_rdd(gates)
    async with stage.ssc:
        await stage.ssc.start()
        ledger = stage.ssc.engine.directory.ledger
        await stage.clock.advance(2)
        await stage.until(lambda: gates.begun)
        assert ledger.statistics().files > 0
        await stage.ssc.stop(graceful=False)
        assert ledger.statistics().files == 0


# -- several at a time -----------------------------------------------------------------------------


async def test_batches_run_together_up_to_the_bound_and_are_committed_in_order():
    """SCH-3: unlike in the original commits keep their order."""
    stage, gates = Stage([[n] for n in range(9)], scheduler=TOGETHER), Gates()
    stage.stream.foreach_rdd(gates)
    async with stage.started():
        for _ in range(5):
            await stage.clock.advance(1)
        assert gates.begun == [1, 2, 3]
        gates.let_go(3)
        gates.let_go(2)
        await stage.until(lambda: gates.ended == [3, 2])
        assert stage.commits == []
        gates.let_go(1)
        await stage.until(lambda: len(stage.commits) == 3)
        assert labels(stage.commits) == [1, 2, 3]
        await stage.ssc.stop(graceful=False)


async def test_a_slow_commit_is_not_overtaken_by_the_next_one():
    """SCH-3."""
    commits: list[str] = []
    go_on = asyncio.Event()

    class Slow(ScriptedSource):
        async def on_commit(self, time: BatchTime) -> None:
            commits.append(f"begin {time.seconds:g}")
            if time == 1000:
                await go_on.wait()
            commits.append(f"end {time.seconds:g}")

    stage, gates = Stage(scheduler=TOGETHER), Gates()
    stage.ssc.from_source(Slow([[n] for n in range(5)])).foreach_rdd(gates)
    async with stage.started():
        await stage.clock.advance(1)
        await stage.clock.advance(1)
        await stage.clock.advance(1)
        gates.let_go(2)
        await stage.until(lambda: gates.ended == [2])
        gates.let_go(1)
        await stage.until(lambda: commits)
        gates.let_go(3)
        await stage.until(lambda: 3 in gates.ended)
        await stage.clock.settle()
        assert commits == ["begin 1"]
        go_on.set()
        await stage.until(lambda: len(commits) == 6)
        await stage.ssc.stop(graceful=False)
    assert commits == [f"{what} {n}" for n in (1, 2, 3) for what in ("begin", "end")]


async def test_state_is_brought_forward_in_order_of_batches():
    """SCH-3: whichever batch is translated first."""
    stage, gates = Stage([[("k", n)] for n in range(1, 6)], scheduler=TOGETHER), Gates()
    stage.stream.foreach_rdd(gates)
    stage.look(stage.stream.update_state_by_key(lambda new, old: [*(old or []), *new]))
    async with stage.started():
        for _ in range(3):
            await stage.clock.advance(1)
        for label in (3, 2, 1):
            gates.let_go(label)
            await stage.clock.settle()
        await stage.until(lambda: len(stage.commits) == 3)
        await stage.ssc.stop(graceful=False)
    assert stage.records[:3] == [[("k", [1])], [("k", [1, 2])], [("k", [1, 2, 3])]]


async def test_a_window_has_the_batches_before_it_though_they_run_at_the_same_time():
    """SCH-3, WIN-1."""
    stage, gates = Stage([[n] for n in range(1, 6)], scheduler=TOGETHER), Gates()
    stage.stream.foreach_rdd(gates)
    stage.look(stage.stream.map(lambda x: x * 10).window(3))
    async with stage.started():
        for _ in range(3):
            await stage.clock.advance(1)
        for label in (3, 2, 1):
            gates.let_go(label)
            await stage.clock.settle()
        await stage.until(lambda: len(stage.commits) == 3)
        await stage.ssc.stop(graceful=False)
    assert stage.records[:3] == [[10], [10, 20], [10, 20, 30]]


async def test_a_batch_that_fails_lets_an_earlier_one_be_committed_and_no_later_one():
    stage, gates = Stage([[n] for n in range(5)], scheduler=TOGETHER), Gates()
    stage.stream.foreach_rdd(gates)
    async with stage.started():
        for _ in range(3):
            await stage.clock.advance(1)
        gates.let_go(3)
        gates.let_go(2, ValueError("second"))
        await stage.until(lambda: gates.ended == [3])
        await stage.clock.settle()
        assert stage.ssc.state is ContextState.ACTIVE  # the first one runs
        gates.let_go(1)
        with pytest.raises(ValueError, match="second"):
            await stage.ssc.await_termination(DEADLINE_S)
    assert labels(stage.commits) == [1]


# -- the trigger -----------------------------------------------------------------------------------


async def test_with_the_data_trigger_each_batch_has_what_came_while_the_last_one_ran():
    stage = Stage([[1]], interval=60, scheduler=SchedulerConfig(trigger="data", gap_min_s=0))
    gates = Gates()
    order: list[int] = []

    async def hold(rdd: Any, time: BatchTime) -> None:
        order.append(int(time))
        await gates.gate(len(order)).wait()

    stage.stream.foreach_rdd(hold)
    async with stage.started():
        await stage.until(lambda: order)
        stage.sources[0].append([2])
        await stage.clock.settle()
        assert len(stage.sources[0].cuts) == 2  # cut, and waiting for its turn
        gates.let_go(1)
        await stage.until(lambda: len(order) == 2)
        gates.let_go(2)
        await stage.until(lambda: len(stage.commits) == 2)


async def test_the_data_trigger_keeps_the_least_gap_and_beats_without_data():
    stage = Stage([[1], [2]], interval=10, scheduler=SchedulerConfig(trigger="data", gap_min_s=4))
    stage.look(stage.stream)
    async with stage.started():
        await stage.until(lambda: stage.commits)
        await stage.clock.advance(3.9)
        assert len(stage.commits) == 1
        await stage.clock.advance(0.2)
        await stage.until(lambda: len(stage.commits) == 2)
        await stage.clock.advance(6)
        await stage.until(lambda: len(stage.commits) == 3)
    assert {int(time): records for time, records in stage.seen.items()} == {1: [1], 4000: [2], 10000: []}


# -- events ----------------------------------------------------------------------------------------


async def test_a_batch_that_waits_is_submitted_and_started_later():
    """SCH-5, LIS-5, LIS-6."""
    stage, gates = Stage([[1], [2]]), Gates()
    stage.stream.foreach_rdd(gates)
    async with stage.started():
        await stage.clock.advance(2)
        await stage.clock.settle()
        kinds = [type(e) for e in stage.events if isinstance(e, BatchSubmitted | BatchStarted)]
        assert kinds == [BatchSubmitted, BatchStarted, BatchSubmitted]
        gates.let_go(1)
        gates.let_go(2)
        await stage.until(lambda: len(stage.commits) == 2)


async def test_contexts_need_no_real_time_to_pass():
    stage = Stage([[n] for n in range(200)], interval=3600)
    stage.look(stage.stream.map(lambda x: x))
    async with asyncio.timeout(DEADLINE_S):
        await stage.play(200)
    assert len(stage.records) == 200


async def test_a_driver_of_real_time_ticks_by_itself():
    async with asyncio.timeout(DEADLINE_S):
        ssc = StreamingContext(0.01, "local")
        seen: list[int] = []

        async def keep(rdd: Any, time: BatchTime) -> None:
            seen.append(int(time))
            if len(seen) == 5:
                await ssc.stop()

        ssc.queue_stream([]).foreach_rdd(keep)
        await ssc.run()
    assert len(seen) >= 5
    assert all(time % 10 == 0 for time in seen)
    assert seen == sorted(set(seen))


async def test_the_data_trigger_goes_on_while_a_source_has_more():
    source = QueueSource()
    stage = Stage(interval=3600, scheduler=SchedulerConfig(trigger="data", gap_min_s=0))
    stage.look(stage.ssc.from_source(source))
    async with stage.started():
        await stage.clock.settle()
        for number in range(5):
            source.put([number])
        await stage.until(lambda: len(stage.records) >= 5)
    assert [records for records in stage.records if records] == [[0], [1], [2], [3], [4]]


async def test_what_was_cut_while_a_batch_failed_is_freed():
    cutting, go_on = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedSource):
        async def cut(self, time: BatchTime) -> Any:
            content = await super().cut(time)
            if time == 2000:
                cutting.set()
                await go_on.wait()
            return content

    stage, gates = Stage(), Gates()
    stage.ssc.from_source(Slow([["a"], ["x" * 100_000]])).foreach_rdd(gates)
    async with stage.ssc:
        await stage.ssc.start()
        ledger = stage.ssc.engine.directory.ledger
        await stage.clock.advance(1)
        await stage.clock.advance(1)
        assert cutting.is_set()
        assert ledger.statistics().files == 1
        gates.let_go(1, ValueError("first"))
        await stage.clock.settle()
        go_on.set()
        with pytest.raises(ValueError, match="first"):
            await stage.ssc.await_termination(DEADLINE_S)
        assert ledger.statistics().files == 0
