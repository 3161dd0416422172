"""What a transaction remembers of its batch: the metadata of an offset that it commits."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from ...errors import SinkError
from ...kafka.settings import KafkaSettings
from ..base import BatchCommit, BatchMark

__all__ = ["mark_of", "offsets_of", "read_mark"]

_READ_TIMEOUT_S = 30.0


def mark_of(mark: BatchMark, place: TopicPartition) -> dict[TopicPartition, OffsetAndMetadata]:
    """The offset that stands for a batch: its number, with number and label in the metadata."""
    return {place: OffsetAndMetadata(mark.batch_id, _text(mark))}


def _text(mark: BatchMark) -> str:
    return json.dumps({"aiostream": 1, "batch": mark.batch_id, "time": mark.time})


def offsets_of(commit: BatchCommit, place: TopicPartition) -> dict[TopicPartition, OffsetAndMetadata]:
    """The mark of a batch, and where each of its Kafka inputs goes on."""
    found: dict[TopicPartition, OffsetAndMetadata] = {}
    for metadata in commit.inputs.values():
        for topic, partition, _, stop in metadata.get("offsets", ()):
            found[TopicPartition(topic, partition)] = OffsetAndMetadata(stop, _text(commit.mark))
    return found | mark_of(commit.mark, place)


async def read_mark(settings: KafkaSettings, group: str, place: TopicPartition) -> BatchMark | None:
    """The mark of the last committed transaction, None when there is none.

    Raises SinkError when nobody answers, or what is there is no mark.
    """
    entry = await _committed(settings, group, place)
    if entry is None or entry.offset < 0:
        return None
    try:
        content = json.loads(entry.metadata)
        return BatchMark(int(content["batch"]), int(content["time"]))
    except (ValueError, KeyError, TypeError) as error:
        raise SinkError(
            f"group {group!r} has an offset of {place.topic}[{place.partition}] that is no mark of this "
            "engine: a consumer uses the transactional id as its group. Give the sink another one"
        ) from error


async def _committed(settings: KafkaSettings, group: str, place: TopicPartition) -> Any:
    client = AIOKafkaAdminClient(**await settings.client_options())
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            await client.start()
            while True:
                try:
                    return (await client.list_consumer_group_offsets(group, partitions=[place])).get(place)
                except KafkaError as error:
                    if not getattr(error, "retriable", False):
                        raise
                    await asyncio.sleep(0.1)
    except (KafkaError, TimeoutError) as error:
        raise SinkError(f"cannot read what was committed for {group!r}: {error!r}") from error
    finally:
        await client.close()
