"""Topics as Kafka's own Java clients write them and its cleaner leaves them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aiostream_engine.kafka.admin import KafkaAdmin
from aiostream_engine.kafka.settings import KafkaSettings
from tests.sources.kafka.streams import read

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(120)]

TOOLS = Path(__file__).parents[2] / "kafka_tools"


async def test_transactions_of_java_are_read_by_what_was_committed(kafka, make_topic, unique_name, lane):
    """E18, KAF-9"""
    topic = await make_topic(kafka, partitions=2)
    await asyncio.to_thread(
        kafka.java, TOOLS / "Transactions.java", kafka.bootstrap, topic, 9, unique_name("id")
    )
    seen = await read(kafka.bootstrap, topic, projection="value", value="str", lane=lane)
    assert sorted(seen.records) == sorted(
        f"{number}/{record}" for number in range(9) if number % 3 != 2 for record in range(10)
    )


async def test_a_compacted_topic_is_read_by_what_is_left(kafka, make_topic, lane):
    """KAF-9: offsets have gaps; the newest record of each key is there, and each one once."""
    topic = await make_topic(
        kafka,
        cleanup_policy="compact",
        segment_ms=100,
        segment_bytes=1024 * 1024,
        min_cleanable_dirty_ratio=0.01,
        min_compaction_lag_ms=0,
        max_compaction_lag_ms=200,
    )
    await asyncio.to_thread(kafka.java, TOOLS / "Compacted.java", kafka.bootstrap, topic, 20, 6)
    options = {"key": "str", "value": "str", "stop": "latest", "lane": lane}
    async with asyncio.timeout(60):
        while len((seen := await read(kafka.bootstrap, topic, **options)).records) >= 100:
            await asyncio.sleep(0.2)
    offsets = [record.offset for record in seen.records]
    assert offsets == sorted(set(offsets))
    assert len(offsets) < 100
    newest = {record.key: record.value for record in seen.records}
    assert newest == {f"k{key}": f"5/{key}" for key in range(20)}
    async with KafkaAdmin(KafkaSettings(kafka.bootstrap)) as admin:
        assert (await admin.bounds([topic]))[topic, 0][1] == 120
