"""What a Kafka sink writes, and how it bears a broker that refuses, dies or is not there."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from aiokafka.errors import MessageSizeTooLargeError, NotEnoughReplicasError

from aiostream_engine.config import RetryPolicy
from aiostream_engine.errors import ConfigurationError, OptionError, SinkError, StepError
from aiostream_engine.kafka.murmur2 import partition_of
from aiostream_engine.sinks.kafka import KafkaSink, ready_batch
from aiostream_engine.sinks.memory import ListSink
from tests.sinks.kafka.topics import committed, opened, run, write

TOOLS = Path(__file__).parents[2] / "kafka_tools"
NOW_MS = int(time.time()) * 1000

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(60)]


@pytest.mark.both_loops
async def test_pairs_become_records_with_key_and_value(kafka, make_topic):
    topic = await make_topic(kafka)
    await run(
        [[("a", {"n": 1}), ("b", None)], [(None, [2])]],
        KafkaSink(kafka.bootstrap, topic, key="str", value="json"),
    )
    found = await committed(kafka.bootstrap, topic, 3)
    assert [(one.key, one.value) for one in found] == [(b"a", b'{"n":1}'), (b"b", None), (None, b"[2]")]


async def test_headers_timestamps_and_topics_are_functions_of_the_record(kafka, make_topic):
    topics = [await make_topic(kafka), await make_topic(kafka)]
    sink = KafkaSink(
        kafka.bootstrap,
        lambda record: topics[record % 2],
        projection="value",
        value=lambda record: b"%d" % record,
        headers=lambda record: [("kind", b"test"), ("kind", None)],
        timestamp=lambda record: NOW_MS + record,
    )
    await run([[0, 1, 2], [3]], sink)
    even, odd = [await committed(kafka.bootstrap, topic, 2) for topic in topics]
    assert [one.value for one in even + odd] == [b"0", b"2", b"1", b"3"]
    assert [one.timestamp for one in even] == [NOW_MS, NOW_MS + 2]
    assert even[0].headers == (("kind", b"test"), ("kind", None))


async def test_keys_lie_where_other_clients_put_them_and_keep_their_order(kafka, make_topic):
    topic = await make_topic(kafka, partitions=5)
    keys = [b"key %d" % (number % 40) for number in range(400)]
    async with opened(KafkaSink(kafka.bootstrap, topic, value="json", batch_bytes=500)) as sink:
        await write(sink, [(key, number) for number, key in enumerate(keys)])
    found = await committed(kafka.bootstrap, topic, 400, 5)
    assert len(found) == 400
    assert {one.partition == partition_of(one.key, 5) for one in found} == {True}
    for key in set(keys):
        mine = [json.loads(one.value) for one in found if one.key == key]
        assert mine == sorted(mine)


async def test_keys_lie_where_the_java_producer_puts_them(kafka, make_topic):
    topics = [await make_topic(kafka, partitions=7) for _ in range(2)]
    await asyncio.to_thread(kafka.java, TOOLS / "Compacted.java", kafka.bootstrap, topics[0], 300, 1)
    await run(
        [[(f"k{number}", b"") for number in range(300)]], KafkaSink(kafka.bootstrap, topics[1], key="str")
    )
    theirs, ours = [
        {one.key: one.partition for one in await committed(kafka.bootstrap, topic, 300, 7)}
        for topic in topics
    ]
    assert len(theirs) == 300
    assert ours == theirs


async def test_records_without_a_key_fill_one_batch_after_the_other_on_all_partitions(kafka, make_topic):
    topic = await make_topic(kafka, partitions=3)
    async with opened(KafkaSink(kafka.bootstrap, topic, projection="value", batch_bytes=1000)) as sink:
        await write(sink, [b"x" * 100] * 100)
        batches = sink.statistics().batches
    found = await committed(kafka.bootstrap, topic, 100, 3)
    assert {one.partition for one in found} == {0, 1, 2}
    assert 10 <= batches <= 20


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_all_codecs_can_be_read_back(kafka, make_topic, codec):
    topic = await make_topic(kafka)
    async with opened(KafkaSink(kafka.bootstrap, topic, value="str", compression=codec)) as sink:
        await write(sink, [(b"k", f"the same again {number}") for number in range(200)])
        assert sink.statistics().bytes < 4000
    assert len(await committed(kafka.bootstrap, topic, 200)) == 200


async def test_an_unknown_client_library_gets_batches_in_the_public_way(kafka, make_topic, monkeypatch):
    topic = await make_topic(kafka)
    monkeypatch.setattr(ready_batch, "FITS", False)
    async with opened(KafkaSink(kafka.bootstrap, topic, value="str", compression="gzip")) as sink:
        await write(sink, [(b"k", f"{number}") for number in range(200)])
    assert [one.value for one in await committed(kafka.bootstrap, topic, 200)] == [
        b"%d" % n for n in range(200)
    ]


def test_this_client_library_is_known():
    assert ready_batch.FITS


async def test_a_record_that_is_too_large_becomes_a_dead_letter_with_its_cause(kafka, make_topic):
    topic = await make_topic(kafka)
    letters = ListSink()
    sink = KafkaSink(
        kafka.bootstrap,
        topic,
        value="str",
        record_bytes_max=500,
        on_error="dead-letter",
        dead_letters=letters,
    )
    await run([[(b"a", "small"), (b"b", "x" * 600), (b"c", "small")]], sink)
    assert [one.key for one in await committed(kafka.bootstrap, topic, 2)] == [b"a", b"c"]
    (entry,) = letters.records
    assert entry["error_type"].endswith("RecordTooLargeError")
    assert "record_bytes_max = 500" in entry["message"]


async def test_a_record_that_cannot_be_encoded_fails_the_stream_and_is_named(kafka, make_topic):
    sink = KafkaSink(kafka.bootstrap, await make_topic(kafka))
    with pytest.raises(StepError, match="serde 'bytes' takes bytes, not int: name another serde") as failure:
        await run([[(b"j", b"2"), (b"k", 1)]], sink)
    assert failure.value.record == "(b'k', 1)"


async def test_what_is_larger_than_the_topic_takes_is_refused_with_the_remedy(kafka, make_topic):
    topic = await make_topic(kafka, max_message_bytes=1000)
    async with opened(KafkaSink(kafka.bootstrap, topic)) as sink:
        with pytest.raises(ConfigurationError, match="Lower batch_bytes"):
            await write(sink, [(b"k", b"x" * 3000)])


async def test_a_topic_that_is_missing_is_refused_or_made(kafka, unique_name):
    topic = unique_name("missing")
    with pytest.raises(SinkError, match="does not exist: create it, or let the sink do so"):
        async with opened(KafkaSink(kafka.bootstrap, topic)):
            pass
    async with opened(KafkaSink(kafka.bootstrap, topic, create_partitions=2)) as sink:
        await write(sink, [(b"k", b"v")])
    assert len(await committed(kafka.bootstrap, topic, 1, 2)) == 1


async def test_only_the_batches_that_failed_are_sent_again(kafka, make_topic, monkeypatch):
    """F5"""
    topic = await make_topic(kafka, partitions=4)
    sink = KafkaSink(kafka.bootstrap, topic, value="json", retry=RetryPolicy(attempts_max=3, wait_s=0.01))
    async with opened(sink):
        real, failed = sink.producer._send_lane, []

        async def lane(batches):
            if batches[0].partition == 2 and len(failed) < 2:
                failed.extend(batches)
                return [(batch, NotEnoughReplicasError()) for batch in batches]
            return await real(batches)

        monkeypatch.setattr(sink.producer, "_send_lane", lane)
        await write(sink, [(b"%d" % number, number) for number in range(100)])
        assert sink.statistics().batches_tried_again == len(failed) == 2
    found = await committed(kafka.bootstrap, topic, 100, 4)
    assert sorted(json.loads(one.value) for one in found) == list(range(100))


async def test_a_broker_that_fails_all_the_time_fails_the_write(kafka, make_topic, monkeypatch):
    topic = await make_topic(kafka)
    async with opened(
        KafkaSink(kafka.bootstrap, topic, retry=RetryPolicy(attempts_max=2, wait_s=0.01))
    ) as sink:

        async def lane(batches):
            return [(batch, NotEnoughReplicasError()) for batch in batches]

        monkeypatch.setattr(sink.producer, "_send_lane", lane)
        with pytest.raises(SinkError, match="1 of 1 batches failed, 2 times"):
            await write(sink, [(b"k", b"v")])


async def test_a_broker_that_is_killed_and_comes_back_gets_everything(own_kafka, make_topic):
    topic = await make_topic(own_kafka, partitions=2)
    async with opened(KafkaSink(own_kafka.bootstrap, topic, value="json")) as sink:
        await write(sink, [(b"%d" % number, number) for number in range(100)])
        own_kafka.kill()
        late = asyncio.ensure_future(write(sink, [(b"%d" % n, n) for n in range(100, 200)], batch=2))
        await asyncio.sleep(0.3)
        assert not late.done()
        await own_kafka.restarted()
        await late
    found = await committed(own_kafka.bootstrap, topic, 200, 2)
    assert sorted(json.loads(one.value) for one in found) == list(range(200))


async def test_a_broker_that_stays_away_is_given_up_in_time(own_kafka, make_topic):
    topic = await make_topic(own_kafka)
    sink = KafkaSink(own_kafka.bootstrap, topic, delivery_timeout_s=1.5)
    async with opened(sink):
        own_kafka.freeze()
        try:
            with pytest.raises(SinkError, match="did not take a batch within delivery_timeout_s"):
                await write(sink, [(b"k", b"v")])
        finally:
            own_kafka.thaw()


async def test_bytes_in_flight_stay_within_their_bound(kafka, make_topic, monkeypatch):
    topic = await make_topic(kafka, partitions=4)
    sink = KafkaSink(kafka.bootstrap, topic, batch_bytes=2000, in_flight_bytes_max=5000)
    async with opened(sink):
        seen = []
        real = sink.producer._wait_room

        async def watched(size):
            await real(size)
            seen.append(sink.statistics().bytes_in_flight)

        monkeypatch.setattr(sink.producer, "_wait_room", watched)
        await write(sink, [(b"%d" % number, b"x" * 100) for number in range(500)])
    assert max(seen) <= 5000
    assert sink.statistics().bytes_in_flight == 0


def test_secrets_are_in_no_text():
    sink = KafkaSink(
        "localhost:1",
        "t",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_plain_username="u",
        sasl_plain_password="hidden-word",
    )
    assert "hidden-word" not in f"{sink!r} {sink.settings!r} {vars(sink.producer)!r}"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"compression": "rar"}, "compression 'rar' is not known"),
        ({"key": "xml"}, "serde 'xml' is not known"),
        ({"projection": "triple"}, "projection 'triple' is not known"),
        ({"on_error": "dead-letter"}, "belong together"),
        ({"batch_bytes": 0}, "batch_bytes is 0"),
        ({"transactional_id": ""}, "transactional_id is empty"),
        ({"transactional_id": "x", "transaction_timeout_s": 5, "delivery_timeout_s": 5}, "must be longer"),
    ],
)
def test_options_that_cannot_work_are_refused(options, text):
    """F12 among them."""
    with pytest.raises(OptionError, match=text):
        KafkaSink("localhost:9092", "t", **options)


def test_too_large_is_an_error_that_no_try_helps():
    assert not MessageSizeTooLargeError.retriable
