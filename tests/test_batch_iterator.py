"""The promises of ``async for batch in stream.batches()``."""

from __future__ import annotations

import asyncio
import gc

import pytest

from aiostream_engine import DStream, StreamingContext
from aiostream_engine.sources.queue import QueueSource
from aiostream_engine.testing import ScriptedSource
from tests.executors.programs import eventually

DEADLINE_S = 20.0


def numbers(ssc: StreamingContext, batches: int = 1000) -> tuple[ScriptedSource, DStream[int]]:
    source = ScriptedSource([[number] for number in range(batches)])
    return source, ssc.from_source(source)


def context(**options: bool) -> StreamingContext:
    return StreamingContext(0.02, "local", **options)


async def test_every_batch_comes_once_and_in_order_and_the_loop_ends_with_the_stream():
    async with context() as ssc:
        batches = ssc.generator_stream(range(50), records_per_s=1000).batches()
        await ssc.start()
        async with asyncio.timeout(DEADLINE_S):
            seen = [record async for batch in batches for record in await batch.collect()]
    assert seen == list(range(50))


async def test_a_batch_is_committed_only_when_the_next_one_is_asked_for():
    async with context() as ssc:
        source, stream = numbers(ssc)
        batches = stream.batches()
        await ssc.start()
        async with asyncio.timeout(DEADLINE_S):
            await anext(batches)
            await asyncio.sleep(0.1)
            assert source.commits == []
            await anext(batches)
            assert len(source.commits) == 1


async def test_a_consumer_that_leaves_its_loop_and_stops_the_stream_does_not_wait_for_itself():
    async with context() as ssc:
        _, stream = numbers(ssc, batches=3)
        batches = stream.batches()
        await ssc.start()
        async with asyncio.timeout(DEADLINE_S):
            async for _ in batches:
                break
            assert await ssc.stop()


async def test_a_consumer_that_leaves_its_loop_and_awaits_the_end_does_not_wait_for_itself():
    async with context(stop_when_finished=True) as ssc:
        batches = ssc.queue_stream([[1], [2], [3]], finish_when_empty=True).batches()
        await ssc.start()
        async with asyncio.timeout(DEADLINE_S):
            async for _ in batches:
                break
            assert await ssc.await_termination()


async def test_waiting_for_the_end_with_a_timeout_does_not_close_the_iterator():
    async with context() as ssc:
        _, stream = numbers(ssc)
        batches = stream.batches()
        await ssc.start()
        async with asyncio.timeout(DEADLINE_S):
            first = await anext(batches)
            assert not await ssc.await_termination(0.01)
            assert (await anext(batches)).time > first.time


async def test_a_graceful_stop_waits_until_a_consumer_in_another_task_has_taken_everything():
    seen: list[int] = []

    async def consume() -> None:
        async for batch in batches:
            await asyncio.sleep(0.03)
            seen.extend(await batch.collect())

    async with context() as ssc:
        batches = ssc.queue_stream([[number] for number in range(5)]).batches()
        await ssc.start()
        task = asyncio.create_task(consume())
        async with asyncio.timeout(DEADLINE_S):
            assert await ssc.stop()
            await task
    assert seen == list(range(5))


@pytest.mark.parametrize("how", ["aclose", "async with", "drop"])
async def test_a_closed_iterator_lets_the_stream_go_on_without_it(how: str):
    async with context() as ssc:
        source, stream = numbers(ssc)
        batches = stream.batches()
        await ssc.start()
        async with asyncio.timeout(DEADLINE_S):
            if how == "aclose":
                await anext(batches)
                await batches.aclose()
            elif how == "async with":
                async with batches:
                    await anext(batches)
            else:
                await anext(batches)
                del batches
                gc.collect()
            await eventually(lambda: len(source.commits) >= 5)


async def test_a_cancelled_anext_loses_no_batch():
    async with context() as ssc:
        source = QueueSource()
        batches = ssc.from_source(source).batches()
        await ssc.start()
        async with asyncio.timeout(DEADLINE_S):
            assert await (await anext(batches)).collect() == []
            waiting = asyncio.create_task(anext(batches))
            await asyncio.sleep(0)
            waiting.cancel()
            for number in range(3):
                source.put([number])
            source.close()
            seen = [record async for batch in batches for record in await batch.collect()]
    assert seen == [0, 1, 2]
