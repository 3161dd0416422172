"""The direct source over a real broker, by both lanes."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime

import pytest

from aiostream_engine.config import BackpressureConfig, QueueLimits, SchedulerConfig
from aiostream_engine.errors import OptionError, SourceError, StepError
from aiostream_engine.kafka.admin import KafkaAdmin
from aiostream_engine.kafka.record import KafkaRecord, OffsetRange
from aiostream_engine.kafka.serde import Avro
from aiostream_engine.kafka.settings import KafkaSettings
from aiostream_engine.sources.kafka import wire
from aiostream_engine.sources.kafka.source import KafkaSource
from tests.kafka_admin import ClusterAdmin
from tests.sources.kafka.streams import producer, read, send, streaming, until

# Old records would be removed by the topic's retention.
NOW_MS = int(time.time()) * 1000

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.mark.both_loops
async def test_every_record_comes_once_in_the_order_of_its_partition(kafka, make_topic, lane):
    topic = await make_topic(kafka, partitions=3)
    for partition in range(3):
        await send(
            kafka.bootstrap, topic, [b"%d/%d" % (partition, i) for i in range(500)], partition=partition
        )
    seen = await read(kafka.bootstrap, topic, lane=lane)
    for partition in range(3):
        mine = [record for record in seen.records if record.partition == partition]
        assert [record.offset for record in mine] == list(range(500))
        assert [record.value for record in mine] == [b"%d/%d" % (partition, i) for i in range(500)]
    assert len(seen.records) == 1500


async def test_a_record_has_all_its_fields(kafka, make_topic, lane):
    topic = await make_topic(kafka)
    async with producer(kafka.bootstrap) as made:
        headers = [("a", b"1"), ("a", b"2")]
        await made.send_and_wait(topic, b"value", key=b"key", timestamp_ms=NOW_MS + 123, headers=headers)
        await made.send_and_wait(topic, None, key=b"gone", timestamp_ms=NOW_MS + 124)
    seen = await read(kafka.bootstrap, topic, key="str", value="str", lane=lane)
    assert seen.records == [
        KafkaRecord(topic, 0, 0, NOW_MS + 123, "key", "value", tuple(headers)),
        KafkaRecord(topic, 0, 1, NOW_MS + 124, "gone", None, ()),
    ]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_topics_are_read(kafka, make_topic, lane, codec):
    topic = await make_topic(kafka)
    values = [b"the same again and again %d" % number for number in range(300)]
    await send(kafka.bootstrap, topic, values, compression_type=codec)
    seen = await read(kafka.bootstrap, topic, projection="value", lane=lane)
    assert seen.records == values


async def test_a_start_and_a_stop_by_offset_hold_in_the_middle_of_a_batch(kafka, make_topic, lane):
    topic = await make_topic(kafka, partitions=2)
    await send(kafka.bootstrap, topic, [b"%d" % number for number in range(100)])
    bounds = {"start": {(topic, 0): 17}, "stop": {(topic, 0): 23, (topic, 1): 0}}
    seen = await read(kafka.bootstrap, topic, lane=lane, **bounds)
    assert [record.offset for record in seen.records] == list(range(17, 23))


async def test_a_start_by_time_begins_with_the_first_record_of_that_time(kafka, make_topic, lane):
    topic = await make_topic(kafka, partitions=2)
    async with producer(kafka.bootstrap) as made:
        for number in range(10):
            await made.send_and_wait(topic, b"%d" % number, partition=0, timestamp_ms=NOW_MS + number * 1000)
    moment = datetime.fromtimestamp(NOW_MS / 1000 + 6, UTC)
    seen = await read(kafka.bootstrap, topic, start=moment, projection="value", lane=lane)
    assert seen.records == [b"6", b"7", b"8", b"9"]
    seen = await read(kafka.bootstrap, topic, stop=moment, projection="value", lane=lane)
    assert seen.records == [b"0", b"1", b"2", b"3", b"4", b"5"]


async def test_a_start_at_the_latest_leaves_out_what_was_there(kafka, make_topic, lane):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"old"])
    async with streaming(kafka.bootstrap, topic, start="latest", projection="value", lane=lane) as seen:
        await send(kafka.bootstrap, topic, [b"new"])
        await seen.count(1)
    assert seen.records == [b"new"]


async def test_single_partitions_can_be_assigned(kafka, make_topic, lane):
    topic = await make_topic(kafka, partitions=3)
    for partition in range(3):
        await send(kafka.bootstrap, topic, [b"%d" % partition], partition=partition)
    places = [(topic, 0), (topic, 2)]
    seen = await read(kafka.bootstrap, partitions=places, projection="value", lane=lane)
    assert sorted(seen.records) == [b"0", b"2"]


async def test_new_partitions_and_topics_are_read_from_their_beginning(kafka, make_topic, unique_name, lane):
    """E19"""
    prefix = unique_name("series")
    async with ClusterAdmin(KafkaSettings(kafka.bootstrap)) as admin:
        await admin.create_topic(f"{prefix}-a")
        options = {"pattern": f"{prefix}-.*", "start": "latest", "metadata_refresh_s": 0.2, "lane": lane}
        async with streaming(kafka.bootstrap, projection="value", **options) as seen:
            await admin.create_topic(f"{prefix}-b")
            await send(kafka.bootstrap, f"{prefix}-b", [b"of a new topic"])
            await admin.add_partitions(f"{prefix}-a", 2)
            await send(kafka.bootstrap, f"{prefix}-a", [b"of a new partition"], partition=1)
            await seen.count(2)
    assert sorted(seen.records) == [b"of a new partition", b"of a new topic"]


async def test_ranges_of_offsets_are_metadata_of_the_batch(kafka, make_topic, lane):
    """KAF-5: also behind a shuffle, where Spark's are gone."""
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"x"] * 10)
    seen = await read(
        kafka.bootstrap,
        topic,
        projection="value",
        build=lambda stream: stream.map(lambda value: (value, 1)).reduce_by_key(int.__add__),
        lane=lane,
    )
    found = [one for info in seen.inputs for one in info.metadata["offsets"]]
    assert [(one.topic, one.partition) for one in found] == [(topic, 0)] * len(found)
    assert (found[0].start, found[-1].stop) == (0, 10)
    assert sum(one.offsets for one in found) == 10
    assert isinstance(found[0], OffsetRange)
    assert seen.inputs[0].metadata["lag"] == {f"{topic}[0]": 0}


async def test_each_partition_of_kafka_is_one_of_the_rdd_and_large_ranges_split(kafka, make_topic, lane):
    topic = await make_topic(kafka, partitions=2)
    await send(kafka.bootstrap, topic, [b"%d" % number for number in range(100)])
    await send(kafka.bootstrap, topic, [b"%d" % number for number in range(100, 200)], partition=1)
    context = {"backpressure": BackpressureConfig(enabled=False)}
    for wanted, expected in ((None, 2), (8, 8)):
        async with streaming(
            kafka.bootstrap,
            topic,
            interval=0.5,
            projection="value",
            min_partitions=wanted,
            context=context,
            lane=lane,
        ) as seen:
            await seen.count(200)
        assert sorted(map(int, seen.records)) == list(range(200))
        full = [
            count for count, batch in zip(seen.partitions, seen.batches, strict=True) if len(batch) == 200
        ]
        assert full in ([], [expected])


async def test_a_record_that_cannot_be_decoded_goes_to_the_dead_letters_with_its_coordinates(
    kafka, make_topic, lane
):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b'{"n": 1}', b"{broken", b'{"n": 3}'])
    letters = []

    def build(stream):
        async def keep(rdd):
            letters.extend(await rdd.collect())

        stream.dead_letters().foreach_rdd(keep)
        return stream

    options = {"projection": "value", "value": "json", "on_error": "dead-letter", "build": build}
    seen = await read(kafka.bootstrap, topic, lane=lane, **options)
    assert seen.records == [{"n": 1}, {"n": 3}]
    (letter,) = letters
    assert letter.record[:3] == (topic, 0, 1)
    assert letter.record.value == b"{broken"
    assert "DecodeError" in letter.error_type


async def test_a_record_that_a_function_cannot_decode_goes_to_the_dead_letters_too(kafka, make_topic, lane):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"1", b"x", b"3"])
    letters = []

    def build(stream):
        async def keep(rdd):
            letters.extend(await rdd.collect())

        stream.dead_letters().foreach_rdd(keep)
        return stream

    options = {"projection": "value", "value": int, "on_error": "dead-letter", "build": build}
    seen = await read(kafka.bootstrap, topic, lane=lane, **options)
    assert seen.records == [1, 3]
    assert [letter.record.offset for letter in letters] == [1]


async def test_a_record_that_cannot_be_decoded_fails_the_stream_by_default(kafka, make_topic, lane):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"1", b"\xff"])
    with pytest.raises(StepError, match="offset=1"):
        await read(kafka.bootstrap, topic, projection="value", value="str", lane=lane)


async def test_projections_and_functions_shape_the_records(kafka, make_topic, lane):
    topic = await make_topic(kafka)
    async with producer(kafka.bootstrap) as made:
        await made.send_and_wait(topic, b'{"n": 7}', key=b"k")
    pairs = await read(kafka.bootstrap, topic, projection="pair", key="str", value="json", lane=lane)
    assert pairs.records == [("k", {"n": 7})]
    own = await read(
        kafka.bootstrap, topic, projection=lambda r: (r.offset, r.value["n"]), value=json.loads, lane=lane
    )
    assert own.records == [(0, 7)]


async def test_avro_records_are_decoded_with_the_schema_of_their_number(kafka, make_topic):
    fastavro = pytest.importorskip("fastavro")
    import io

    schema = {"type": "record", "name": "Visit", "fields": [{"name": "page", "type": "string"}]}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), {"page": "/"})
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"\0\0\0\0\x07" + out.getvalue()])
    registry = {7: json.dumps(schema)}
    value = Avro(registry=registry.__getitem__)
    seen = await read(kafka.bootstrap, topic, projection="value", value=value)
    assert seen.records == [{"page": "/"}]


async def test_what_transactions_did_not_commit_is_not_seen(kafka, make_topic, unique_name, lane):
    """E18"""
    topic = await make_topic(kafka)
    async with producer(kafka.bootstrap, transactional_id=unique_name("tx")) as made:
        for number in range(4):
            await made.begin_transaction()
            for _ in range(3):
                await made.send(topic, b"%d" % number, partition=0)
            await (made.commit_transaction() if number % 2 else made.abort_transaction())
    seen = await read(kafka.bootstrap, topic, projection="value", lane=lane)
    assert seen.records == [b"1"] * 3 + [b"3"] * 3
    every = await read(kafka.bootstrap, topic, projection="value", isolation="read_uncommitted", lane=lane)
    assert every.records == [b"%d" % number for number in range(4) for _ in range(3)]


async def test_records_behind_an_open_transaction_wait_for_its_end(kafka, make_topic, unique_name, lane):
    """E18: what is held back can be seen in the figures."""
    topic = await make_topic(kafka)
    async with (
        streaming(kafka.bootstrap, topic, projection="value", lane=lane) as seen,
        producer(kafka.bootstrap, transactional_id=unique_name("tx")) as made,
    ):
        await made.begin_transaction()
        await made.send_and_wait(topic, b"in the transaction", partition=0)
        await send(kafka.bootstrap, topic, [b"behind it"])
        source = seen.ssc.statistics
        await until(lambda: source().receivers[0].held_back == 2)
        assert seen.records == []
        await made.commit_transaction()
        await seen.count(2)
    assert seen.records == [b"in the transaction", b"behind it"]


async def test_rates_bound_each_partition_and_batch(kafka, make_topic):
    """KAF-7: the first batch too, over a backlog."""
    topic = await make_topic(kafka, partitions=2)
    for partition in range(2):
        await send(kafka.bootstrap, topic, [b"x"] * 400, partition=partition)
    async with streaming(kafka.bootstrap, topic, interval=0.1, rate_max=1000, projection="value") as seen:
        await seen.count(800)
    assert max(map(len, seen.batches)) <= 200
    async with streaming(
        kafka.bootstrap,
        topic,
        interval=0.1,
        projection="value",
        context={"backpressure": BackpressureConfig(initial_rate=500, rate_max=2000)},
    ) as seen:
        await seen.count(800)
    assert len(seen.batches[0]) <= 50


async def test_what_is_fetched_ahead_is_bounded(kafka, make_topic, lane):
    topic = await make_topic(kafka, partitions=2)
    for partition in range(2):
        await send(kafka.bootstrap, topic, [b"x" * 10_000] * 200, partition=partition)
    limits = QueueLimits(bytes_max=400_000)
    async with streaming(
        kafka.bootstrap, topic, interval=0.2, limits=limits, projection="value", lane=lane
    ) as seen:
        peak = 0
        while len(seen.records) < 400:
            peak = max(peak, seen.ssc.statistics().receivers[0].queue_bytes)
            await asyncio.sleep(0.01)
    # Beyond the bound lies at most what one fetch may bring.
    assert peak <= 400_000 + 2 * 1_100_000


async def test_a_group_is_told_of_committed_batches(kafka, make_topic, unique_name, lane):
    topic, group = await make_topic(kafka, partitions=2), unique_name("group")
    await send(kafka.bootstrap, topic, [b"x"] * 30)
    await read(kafka.bootstrap, topic, group=group, lane=lane)
    async with KafkaAdmin(KafkaSettings(kafka.bootstrap)) as admin:
        assert (await admin.committed(group))[topic, 0] == 30
    await send(kafka.bootstrap, topic, [b"y"] * 3)
    seen = await read(kafka.bootstrap, topic, group=group, start="committed", projection="value", lane=lane)
    assert seen.records == [b"y"] * 3


async def test_a_topic_that_is_missing_is_said_at_start(kafka, unique_name, lane):
    name = unique_name("topic")
    with pytest.raises(SourceError, match=name):
        await read(kafka.bootstrap, name, connect_timeout_s=0.5, lane=lane)


async def test_a_broker_that_is_missing_is_said_at_start(lane):
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:9"):
        await read("127.0.0.1:9", "topic", connect_timeout_s=0.2, lane=lane)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"topics": "a", "pattern": "b"},
        {"topics": []},
        {"topics": "a", "start": "newest"},
        {"topics": "a", "start": 5},
        {"topics": "a", "start": datetime(2026, 1, 1)},
        {"topics": "a", "start": "committed"},
        {"topics": "a", "projection": "all"},
        {"topics": "a", "value": "xml"},
        {"topics": "a", "isolation": "none"},
        {"topics": "a", "on_lost_offsets": "ignore"},
        {"topics": "a", "lane": "fast"},
        {"topics": "a", "min_partitions": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(OptionError):
        KafkaSource("127.0.0.1:9092", **options)


async def test_a_broker_without_topic_ids_is_read_by_names(kafka, make_topic, monkeypatch):
    """As before Kafka 3.1, whose requests lack them."""
    monkeypatch.setattr(wire, "METADATA_WITH_IDS", 99)
    monkeypatch.setattr(wire, "FETCH_BY_ID", 99)
    topic = await make_topic(kafka, partitions=2)
    await send(kafka.bootstrap, topic, [b"%d" % number for number in range(20)])
    seen = await read(kafka.bootstrap, topic, projection="value", lane="raw")
    assert seen.records == [b"%d" % number for number in range(20)]


async def test_records_wake_a_stream_that_waits_for_data(kafka, make_topic, lane):
    topic = await make_topic(kafka)
    context = {"scheduler": SchedulerConfig(trigger="data")}
    async with streaming(
        kafka.bootstrap, topic, interval=20, projection="value", context=context, lane=lane
    ) as seen:
        for number in range(3):
            await send(kafka.bootstrap, topic, [b"%d" % number])
            await seen.count(number + 1)
    assert seen.records == [b"0", b"1", b"2"]
