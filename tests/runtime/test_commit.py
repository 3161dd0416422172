"""The order of a commit is the promise; what goes wrong in it stops the stream, and is repeated."""

from __future__ import annotations

import asyncio
import errno
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine.config import CheckpointConfig, SchedulerConfig
from aiostream_engine.context import StreamingContext
from aiostream_engine.dstream import DStream
from aiostream_engine.errors import ConfigurationError, GraphError
from aiostream_engine.runtime import commit
from aiostream_engine.sources.files import FileSource
from aiostream_engine.testing import FaultFiles, ManualClock, ScriptedReplayableSource, use_files
from aiostream_engine.types import BatchTime
from tests.faults.world import KEY, Crash, KeyedSink, Outside, StagingSink, World, expected_outputs, script


async def test_the_order_of_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The intent before any effect; staging before the commit; publishing, sources and forgetting after."""
    steps: list[str] = []
    monkeypatch.setattr(commit, "crash_point", steps.append)

    class Sink(StagingSink):
        async def stage(self, key: Any, records: Any) -> Any:
            steps.append("stage")
            return await super().stage(key, records)

        async def commit(self, batch_id: int, time: BatchTime, tokens: Sequence[Any]) -> None:
            steps.append("publish")
            await super().commit(batch_id, time, tokens)

    class Source(ScriptedReplayableSource):
        async def on_commit(self, time: BatchTime) -> None:
            steps.append("acknowledge")
            await super().on_commit(time)

    monkeypatch.setattr("tests.faults.world.ScriptedReplayableSource", Source)
    program = lambda pairs, outside: pairs.repartition(1).to(Sink(outside, "staged"))  # noqa: E731
    world = World(str(tmp_path / "cp"), script(1), program=program)
    assert await world.run() is None
    assert steps[:10] == [
        "before_intent",
        "after_intent",
        "stage",
        "before_commit",
        "after_commit",
        "publish",
        "mid_publish",
        "acknowledge",
        "after_publish",
        "after_collect",
    ]


class Failing(StagingSink):
    """Fails in one of its calls at the third batch, once."""

    where = ""

    def _check(self, where: str, batch: int) -> None:
        if (where, batch) == (Failing.where, 3):
            Failing.where = ""
            raise Crash(where)

    async def stage(self, key: Any, records: Any) -> Any:
        token = await super().stage(key, records)
        self._check("stage", key.batch_id)
        return token

    async def commit(self, batch_id: int, time: BatchTime, tokens: Sequence[Any]) -> None:
        self._check("commit", batch_id)
        await super().commit(batch_id, time, tokens)

    async def abort(self, batch_id: int, tokens: Sequence[Any]) -> None:
        await super().abort(batch_id, tokens)
        self._check("abort", batch_id)


def failing(pairs: DStream[Any], outside: Outside) -> None:
    pairs.to(Failing(outside, "failing"))
    pairs.to(StagingSink(outside, "other"))
    pairs.map(str).to(KeyedSink(outside, "keyed"))


@pytest.mark.parametrize("where", ["stage", "commit"])
@pytest.mark.parametrize("concurrent", [1, 3])
async def test_a_sink_that_fails_in_a_commit_stops_the_stream_and_is_asked_again(
    tmp_path: Path, where: str, concurrent: int
) -> None:
    """B11, B3, F8: no later batch is committed."""
    Failing.where = ""
    items = script(6)
    expected = await expected_outputs(str(tmp_path / "expected"), items, program=failing)
    scheduler = SchedulerConfig(
        missed_ticks="every", concurrent_batches=concurrent, batches_in_flight_max=concurrent + 1
    )
    world = World(str(tmp_path / "cp"), items, program=failing, scheduler=scheduler)
    Failing.where = where
    error = await world.run()
    assert isinstance(error, Crash)
    assert max(time for name, time in world.outside.published if name == "failing") == 2000
    assert await world.run() is None
    assert world.outputs() == expected


async def test_a_source_that_cannot_acknowledge_stops_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B11: the batch is true by then, and is not run again."""

    class Source(ScriptedReplayableSource):
        async def on_commit(self, time: BatchTime) -> None:
            if time == 3000:
                raise Crash("acknowledge")
            await super().on_commit(time)

    items = script(6)
    expected = await expected_outputs(str(tmp_path / "expected"), items)
    world = World(str(tmp_path / "cp"), items)
    with monkeypatch.context() as patch:
        patch.setattr("tests.faults.world.ScriptedReplayableSource", Source)
        assert isinstance(await world.run(), Crash)
    assert await world.run() is None
    assert world.outputs() == expected
    assert world.outside.rewritten == 0


async def test_a_token_that_is_no_plain_data_is_refused_by_name(tmp_path: Path) -> None:
    """It would come back as something else after a restart."""

    class Sink(StagingSink):
        async def stage(self, key: Any, records: Any) -> Any:
            await super().stage(key, records)
            return {1, 2}

    world = World(
        str(tmp_path / "cp"), script(2), program=lambda pairs, outside: pairs.to(Sink(outside, "x"))
    )
    error = await world.run()
    assert isinstance(error, ConfigurationError)
    assert "plain data" in str(error)


async def test_rdds_of_an_input_cannot_be_kept(tmp_path: Path) -> None:
    """A queue may hand over RDDs, which are no data."""
    clock = ManualClock()
    config = CheckpointConfig(str(tmp_path / "cp"), key=KEY)
    async with StreamingContext(1.0, "local", clock=clock, checkpoint=config) as ssc:
        ssc.queue_stream([ssc.engine.parallelize([1])]).pprint()
        await ssc.start()
        await clock.advance(1.0)
        with pytest.raises(GraphError, match="hand over lists"):
            await ssc.await_termination(10)


async def test_later_batches_wait_for_the_commit_of_the_slow_one(tmp_path: Path) -> None:
    """B13: batches 2 to 4 are ready before batch 1; the metadata of batch 1 is kept."""
    slow, order = asyncio.Event(), []

    async def output(rdd: Any, time: BatchTime) -> None:
        if time == 1000:
            await slow.wait()
        order.append(int(time))
        if len(order) == 3:
            slow.set()

    source = ScriptedReplayableSource(script(4), name="script")
    clock = ManualClock()
    scheduler = SchedulerConfig(missed_ticks="every", concurrent_batches=4, batches_in_flight_max=5)
    config = CheckpointConfig(str(tmp_path / "cp"), key=KEY, segment_bytes=1)
    async with StreamingContext(
        1.0, "local", clock=clock, checkpoint=config, scheduler=scheduler, stop_when_finished=False
    ) as ssc:
        ssc.from_source(source).foreach_rdd(output)
        await ssc.start()
        for _ in range(4):
            await clock.advance(1.0)
        await clock.until(lambda: len(source.commits) == 4)
        assert order[-1] == 1000
        assert source.commits == [1000, 2000, 3000, 4000]


async def test_the_position_of_a_directory_costs_what_is_new_in_it(tmp_path: Path) -> None:
    """C14, E13: bytes written for the position stay in proportion to the files, however many batches."""
    for number in range(300):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{number:04d}").write_text(f"{number}\n")
    clock = ManualClock()
    config = CheckpointConfig(str(tmp_path / "cp"), key=KEY)
    seen: list[str] = []
    source = FileSource(tmp_path / "in", files_per_batch_max=1, list_interval_s=0, order="name")

    async def run(batches: int) -> None:
        async with StreamingContext(1.0, "local", clock=clock, checkpoint=config) as ssc:
            ssc.from_source(source, name="files").foreach_rdd(look)
            await ssc.start()
            before = len(seen)
            while len(seen) < before + batches:
                at = len(seen)
                await clock.advance(1.0)
                await clock.until(lambda: len(seen) > at)  # noqa: B023
            assert ssc._session is not None
            writers.append(ssc._session.writer.statistics.bytes)
            await ssc.stop()

    async def look(rdd: Any) -> None:
        seen.extend(await rdd.collect())

    writers: list[int] = []
    await run(150)
    source = FileSource(tmp_path / "in", files_per_batch_max=1, list_interval_s=0, order="name")
    await run(150)
    assert seen == [str(number) for number in range(300)]
    # 300 positions written whole would be more than 3 MB.
    assert sum(writers) < 600_000


async def test_a_full_disk_shows_in_the_health(tmp_path: Path) -> None:
    """C1, I11: degraded with the reason, and ready again when there is room."""
    clock = ManualClock()
    source = ScriptedReplayableSource(script(4), name="script")
    config = CheckpointConfig(str(tmp_path / "cp"), key=KEY)
    async with StreamingContext(
        1.0, "local", clock=clock, checkpoint=config, stop_when_finished=False
    ) as ssc:
        files = FaultFiles(tmp_path / "cp")
        use_files(ssc, files)
        ssc.from_source(source).reduce_by_key(operator.add).pprint()
        await ssc.start()
        await clock.advance(1.0)
        await clock.until(lambda: source.commits)
        files.fail(errno.ENOSPC, fails=10**6, only={"write"})
        await clock.advance(1.0)
        await clock.until(lambda: ssc.health().reasons)
        assert ssc.health().state.value == "degraded"
        assert "No space left" in ssc.health().reasons[0]
        files.heal()
        await clock.until(lambda: len(source.commits) == 2)
        assert ssc.health().reasons == ()
