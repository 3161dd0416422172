"""Streams with checkpoint directories of their own that run on one engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aiostream_engine import EngineContext
from tests.faults.pipeline import Pipeline, numbered, sums

pytestmark = pytest.mark.faults


async def test_two_checkpointed_streams_on_one_engine_keep_their_states_and_windows_apart(
    tmp_path: Path,
) -> None:
    """B1, I9: with the same step names and batch times; each restarts alone, and in the other order."""
    pipelines = [Pipeline(tmp_path / str(n), numbered(1000 * n, 8)) for n in range(2)]
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
        assert pipeline.written_sums() == sums(pipeline.items)


async def test_a_stream_without_a_checkpoint_beside_one_with_it_costs_the_journal_nothing(
    tmp_path: Path,
) -> None:
    """I9, C14: what nobody will ever write is not kept for writing."""
    durable, plain = Pipeline(tmp_path / "kept", numbered(0, 4)), Pipeline(None, numbered(50, 4))
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
    assert durable.written_sums() == sums(durable.items)
    assert plain.written_sums() == sums(plain.items)
