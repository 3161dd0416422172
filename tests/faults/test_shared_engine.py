"""Streams with checkpoint directories of their own that run on one engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine import EngineContext, StreamingContext
from aiostream_engine.config import CheckpointConfig
from aiostream_engine.testing import ManualClock, ScriptedReplayableSource
from tests.faults.world import KEY, Outputs, Outside, standard_program

pytestmark = pytest.mark.faults

Items = Sequence[Sequence[tuple[int, int]]]


class Pipeline:
    """A stream that goes on from its directory each time it is put on an engine."""

    def __init__(self, directory: Path | None, items: Items) -> None:
        self.directory, self.items, self.outside = directory, items, Outside()
        self.clock = ManualClock()
        self.time_s = 0.0

    def put_on(self, engine: EngineContext) -> StreamingContext:
        self.clock = ManualClock(self.time_s)
        checkpoint = None if self.directory is None else CheckpointConfig(str(self.directory), key=KEY)
        self.ssc = StreamingContext(
            1.0, engine=engine, clock=self.clock, checkpoint=checkpoint, stop_when_finished=False
        )
        self.source = ScriptedReplayableSource(self.items, name="script", partitions=2)
        standard_program(self.ssc.from_source(self.source), self.outside)
        return self.ssc

    async def batch(self) -> None:
        before = len(self.source.commits)
        await self.clock.advance(1.0)
        await self.clock.until(lambda: len(self.source.commits) > before, timeout_s=20)
        self.time_s = int(self.source.commits[-1]) / 1000

    def outputs(self) -> Outputs:
        return {key: records for key, records in self.outside.outputs().items() if records}

    def write_sums(self) -> list[Any]:
        return sorted(
            record for (sink, _), part in self.outputs().items() if sink == "keyed" for record in part
        )


def sums(items: Items) -> list[list[int]]:
    """What the step ``sums`` must give for each record."""
    totals: dict[int, int] = {}
    rows = []
    for key, value in (pair for item in items for pair in item):
        totals[key] = totals.get(key, 0) + value
        rows.append([key, value, totals[key]])
    return sorted(rows)


def script(first: int, batches: int) -> Items:
    return [[((batch * 4 + n) % 3, first + batch * 4 + n) for n in range(4)] for batch in range(batches)]


async def test_two_checkpointed_streams_on_one_engine_keep_their_states_and_windows_apart(
    tmp_path: Path,
) -> None:
    """B1, I9: with the same step names and batch times; each restarts alone, and in the other order."""
    pipelines = [Pipeline(tmp_path / str(n), script(1000 * n, 8)) for n in range(2)]
    async with EngineContext("local", parallelism=2) as engine:
        for order in (pipelines, pipelines[::-1]):
            contexts = [pipeline.put_on(engine) for pipeline in order]
            async with contexts[0], contexts[1]:
                await asyncio.gather(*(context.start() for context in contexts))
                for _ in range(3):
                    await asyncio.gather(*(pipeline.batch() for pipeline in pipelines))
    for pipeline in pipelines:  # each on an engine of its own, where it is the first stream
        async with EngineContext("local", parallelism=2) as engine, pipeline.put_on(engine) as context:
            await context.start()
            await pipeline.batch()
            await pipeline.batch()
        assert pipeline.write_sums() == sums(pipeline.items)


async def test_a_stream_without_a_checkpoint_beside_one_with_it_costs_the_journal_nothing(
    tmp_path: Path,
) -> None:
    """I9, C14: what nobody will ever write is not kept for writing."""
    durable, plain = Pipeline(tmp_path / "kept", script(0, 4)), Pipeline(None, script(50, 4))
    async with EngineContext("local", parallelism=2) as engine:
        contexts = [pipeline.put_on(engine) for pipeline in (durable, plain)]
        async with contexts[0], contexts[1]:
            for context in contexts:
                await context.start()
            for _ in range(4):
                await plain.batch()
                assert engine.runner.states.changes_waiting == 0
            for _ in range(4):
                await durable.batch()
    assert durable.write_sums() == sums(durable.items)
    assert plain.write_sums() == sums(plain.items)
