"""E17: offsets that are not there any more are never passed over in silence."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from aiostream_engine.errors import SourceError
from aiostream_engine.kafka.admin import KafkaAdmin
from aiostream_engine.kafka.settings import KafkaSettings
from tests.sources.kafka.streams import DEADLINE_S, read, send, streaming, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def expire(bootstrap: str, topic: str, before: int) -> None:
    """Remove the records before an offset, as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before)})
    finally:
        await admin.close()


async def made_anew(bootstrap: str, topic: str) -> None:
    """Delete a topic and make one of the same name, with as many records."""
    async with KafkaAdmin(KafkaSettings(bootstrap)) as admin:
        await admin.delete_topic(topic)
        await admin.create_topic(topic)


async def test_expired_offsets_fail_the_stream_by_default(kafka, make_topic, lane):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"%d" % number for number in range(10)])
    await expire(kafka.bootstrap, topic, 6)
    with pytest.raises(SourceError, match=r"offset 2 is not in its log, which holds 6 to 10"):
        await read(kafka.bootstrap, topic, start={(topic, 0): 2}, stop={(topic, 0): 10}, lane=lane)


async def test_expired_offsets_can_be_passed_over_knowingly(kafka, make_topic, lane):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"%d" % number for number in range(10)])
    await expire(kafka.bootstrap, topic, 6)
    seen = await read(
        kafka.bootstrap,
        topic,
        start={(topic, 0): 2},
        stop={(topic, 0): 10},
        projection="value",
        on_lost_offsets="earliest",
        lane=lane,
    )
    assert seen.records == [b"6", b"7", b"8", b"9"]
    assert seen.inputs[-1].metadata["offsets_lost"] == 4


async def test_the_latest_offset_can_be_chosen_instead(kafka, make_topic, lane):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"old"] * 10)
    await expire(kafka.bootstrap, topic, 6)
    options = {"start": {(topic, 0): 2}, "on_lost_offsets": "latest", "lane": lane}
    async with streaming(kafka.bootstrap, topic, projection="value", **options) as seen:
        await until(lambda: seen.inputs and seen.inputs[-1].metadata.get("offsets_lost") == 8)
        await send(kafka.bootstrap, topic, [b"new"])
        await seen.count(1)
    assert seen.records == [b"new"]


async def test_an_offset_behind_the_end_is_lost_too(kafka, make_topic, lane):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"x"] * 3)
    with pytest.raises(SourceError, match="offset 50 is not in its log"):
        await read(kafka.bootstrap, topic, start={(topic, 0): 50}, stop={(topic, 0): 60}, lane=lane)


async def test_a_topic_that_is_made_anew_fails_the_stream_although_its_offsets_fit(kafka, make_topic, lane):
    """The client lane may have read what fits before it sees that."""
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"old"] * 3)
    async with streaming(kafka.bootstrap, topic, metadata_refresh_s=0.2, lane=lane) as seen:
        await seen.count(3)
        await made_anew(kafka.bootstrap, topic)
        await send(kafka.bootstrap, topic, [b"new"] * 10)
        with pytest.raises(SourceError, match=r"deleted and made again|does not exist any more"):
            async with asyncio.timeout(DEADLINE_S):
                await seen.ssc.await_termination()
    assert lane == "client" or b"new" not in [record.value for record in seen.records]


async def test_a_topic_that_is_made_anew_can_be_gone_on_with_knowingly(kafka, make_topic, lane):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"old"] * 3)
    options = {"metadata_refresh_s": 0.2, "on_lost_offsets": "earliest", "projection": "value"}
    async with streaming(kafka.bootstrap, topic, lane=lane, **options) as seen:
        await seen.count(3)
        await made_anew(kafka.bootstrap, topic)
        if lane == "client":  # else it may read what fits before
            await until(lambda: seen.inputs[-1].metadata.get("topics_recreated"))
        await send(kafka.bootstrap, topic, [b"new"] * 5)
        await seen.count(8)
    assert seen.records == [b"old"] * 3 + [b"new"] * 5
    assert seen.inputs[-1].metadata["topics_recreated"] == 1


async def test_a_checkpoint_of_a_topic_that_was_made_anew_meanwhile_is_refused(
    kafka, make_topic, tmp_path, lane
):
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"old"] * 3)
    options = {"context": {"checkpoint": str(tmp_path / "cp")}, "name": "visits", "lane": lane}
    await read(kafka.bootstrap, topic, **options)
    await made_anew(kafka.bootstrap, topic)
    await send(kafka.bootstrap, topic, [b"new"] * 5)
    with pytest.raises(SourceError, match="deleted and made again"):
        await read(kafka.bootstrap, topic, **options)
