"""Ranges of offsets as a dataset, without a stream."""

from __future__ import annotations

import gc

import pytest

from aiostream_engine.engine import EngineContext
from aiostream_engine.errors import OptionError, SourceError
from tests.sources.kafka.streams import send, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def test_ranges_are_read_each_as_a_partition(kafka, make_topic, lane):
    """KAF-12"""
    topic = await make_topic(kafka, partitions=2)
    for partition in range(2):
        values = [b"%d/%d" % (partition, number) for number in range(50)]
        await send(kafka.bootstrap, topic, values, partition=partition)
    async with EngineContext("local") as engine:
        ranges = [(topic, 0, 10, 13), (topic, 1, 0, 2), (topic, 0, 48, 50)]
        rdd = await engine.kafka_rdd(kafka.bootstrap, ranges, projection="value", lane=lane)
        assert await rdd.glom().collect() == [
            [b"0/10", b"0/11", b"0/12"],
            [b"1/0", b"1/1"],
            [b"0/48", b"0/49"],
        ]
        assert await rdd.count() == 7


async def test_records_are_decoded_as_in_a_stream(kafka, make_topic):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b'{"n": 1}', b'{"n": 2}'])
    async with EngineContext("local[1]") as engine:
        rdd = await engine.kafka_rdd(kafka.bootstrap, [(topic, 0, 0, 2)], projection="value", value="json")
        assert await rdd.map(lambda one: one["n"]).sum() == 3


async def test_large_ranges_can_be_split(kafka, make_topic, lane):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"%d" % number for number in range(100)])
    async with EngineContext("local") as engine:
        rdd = await engine.kafka_rdd(
            kafka.bootstrap, [(topic, 0, 0, 100)], projection="value", min_partitions=4, lane=lane
        )
        parts = await rdd.glom().collect()
        assert [list(map(int, part)) for part in parts] == [
            list(range(begin, begin + 25)) for begin in range(0, 100, 25)
        ]


async def test_a_range_that_is_not_there_is_refused(kafka, make_topic, lane):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"x"] * 3)
    async with EngineContext("local") as engine:
        with pytest.raises(SourceError, match="which holds 0 to 3"):
            await engine.kafka_rdd(kafka.bootstrap, [(topic, 0, 0, 4)], lane=lane)
        with pytest.raises(OptionError):
            await engine.kafka_rdd(kafka.bootstrap, [(topic, 0, 3, 1)])


async def test_the_bytes_are_let_go_with_the_dataset(kafka, make_topic):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"x" * 10_000] * 100)
    async with EngineContext("local") as engine:
        rdd = await engine.kafka_rdd(kafka.bootstrap, [(topic, 0, 0, 100)])
        assert engine.statistics().blocks.bytes_held > 1_000_000
        del rdd
        gc.collect()
        await until(lambda: engine.statistics().blocks.bytes_held == 0)
