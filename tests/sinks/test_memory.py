from __future__ import annotations

from aiostream_engine.sinks.base import IdempotentSink
from aiostream_engine.sinks.memory import ListSink


async def test_records_come_in_order_of_batches_and_partitions(key, chunks):
    sink = ListSink()
    await sink.write(key(2, 0, 1), chunks([5]))
    await sink.write(key(1, 1, 2), chunks([3], [4]))
    await sink.write(key(1, 0, 2), chunks([1, 2]))
    assert sink.records == [1, 2, 3, 4, 5]
    assert list(sink.batches.values()) == [[1, 2, 3, 4], [5]]
    assert list(sink.batches) == [key(1).time, key(2).time]


async def test_the_same_key_twice_counts_once(key, chunks):
    """F4"""
    sink = ListSink()
    for _ in range(2):
        await sink.write(key(), chunks(["a"], ["b"]))
    assert sink.records == ["a", "b"]
    assert sink.writes == 2
    assert isinstance(sink, IdempotentSink)


async def test_a_partition_that_fails_half_way_shows_nothing(key):
    async def broken():
        yield [1]
        raise ConnectionError("gone")

    sink = ListSink()
    try:
        await sink.write(key(), broken())
    except ConnectionError:
        pass
    assert sink.records == []


async def test_a_bound_forgets_the_oldest_batches(key, chunks):
    sink = ListSink(batches_max=2)
    for batch_id in (1, 2, 3):
        await sink.write(key(batch_id), chunks([batch_id]))
    assert sink.records == [2, 3]
    sink.clear()
    assert sink.records == []
