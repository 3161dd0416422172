"""How the partitions of a batch are written to a sink."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiostream_engine.errors import SinkError
from aiostream_engine.sinks.base import PlainSink, SinkContext, WriteKey
from tests.stage import Stage


class Recorder(PlainSink):
    """Notes what is written, and how many writes are under way at the same time."""

    name = "recorder"

    def __init__(self, concurrency_max: int = 1) -> None:
        self.concurrency_max = concurrency_max
        self.opened: list[SinkContext] = []
        self.written: list[tuple[int, list[Any]]] = []
        self.chunks: list[int] = []
        self.now = self.most = 0

    async def open(self, context: SinkContext) -> None:
        self.opened.append(context)

    async def write(self, key: WriteKey, records: Any) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        taken: list[Any] = []
        async for chunk in records:
            self.chunks.append(len(chunk))
            taken.extend(chunk)
        self.written.append((key.partition, taken))
        self.now -= 1


async def test_one_at_a_time_keeps_the_order_of_partitions():
    stage, sink = Stage([list(range(8))], partitions=4, parallelism=4), Recorder()
    stage.stream.to(sink)
    await stage.play(1)
    assert sink.written == [(0, [0, 1]), (1, [2, 3]), (2, [4, 5]), (3, [6, 7])]
    assert sink.most == 1


async def test_no_more_writes_are_under_way_than_the_sink_allows():
    stage, sink = Stage([list(range(20))], partitions=10, parallelism=10), Recorder(concurrency_max=3)
    stage.stream.to(sink)
    await stage.play(1)
    assert sorted(sink.written) == [(n, [2 * n, 2 * n + 1]) for n in range(10)]
    assert sink.most == 3


async def test_an_empty_partition_is_written_too_so_that_keys_have_no_gaps():
    stage, sink = Stage([[1, 2, 3, 4]], parallelism=2), Recorder()
    stage.stream.filter(lambda x: x > 2).to(sink)
    await stage.play(1)
    assert sink.written == [(0, []), (1, [3, 4])]


async def test_a_record_that_becomes_very_many_reaches_the_sink_in_chunks():
    """G5."""
    stage, sink = Stage([[200_000]]), Recorder()
    stage.stream.flat_map(range).to(sink)
    await stage.play(1)
    assert [len(records) for _, records in sink.written] == [200_000]
    assert len(sink.chunks) > 10
    assert max(sink.chunks) <= 10_000


async def test_a_sink_is_opened_once_under_its_name_in_the_graph():
    stage, sink = Stage([[1], [2]]), Recorder()
    stage.stream.to(sink, name="orders")
    await stage.play(2)
    assert sink.opened == [SinkContext("orders")]


async def test_the_first_error_of_concurrent_writes_ends_the_others():
    class Bad(Recorder):
        cancelled = 0

        async def write(self, key: WriteKey, records: Any) -> None:
            if key.partition == 1:
                raise SinkError("partition 1")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

    stage, sink = Stage([[1, 2, 3]], partitions=3, parallelism=3), Bad(concurrency_max=3)
    stage.stream.to(sink)
    async with stage.started():
        await stage.clock.advance(1)
        with pytest.raises(SinkError, match="partition 1"):
            await stage.ssc.await_termination(20)
    assert sink.cancelled == 2


_order: list[tuple[str, int]] = []


def noted(value: int) -> int:
    _order.append(("computed", value // 2))
    return value


class Early(Recorder):
    """Notes when partitions are written among the computing of others."""

    writes_early = True

    async def write(self, key: WriteKey, records: Any) -> None:
        _order.append(("written", key.partition))
        await super().write(key, records)


async def test_a_sink_that_writes_early_gets_a_partition_while_others_are_computed():
    _order.clear()
    stage, sink = Stage([list(range(8))], partitions=4, parallelism=4), Early(concurrency_max=4)
    stage.stream.map(noted).to(sink)
    await stage.play(1)
    assert sorted(sink.written) == [(n, [2 * n, 2 * n + 1]) for n in range(4)]
    assert _order.index(("written", 0)) < _order.index(("computed", 3))
