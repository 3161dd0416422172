"""The record batches of a topic as they lie in the answers to fetch requests, one request at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiokafka import AIOKafkaClient

from aiostream_engine.kafka.record_batch import headers
from aiostream_engine.sources.kafka.wire import FetchByIdOrName, NamedTopics, WantedPartition

__all__ = ["read"]

MIB = 1024 * 1024


async def read(bootstrap: str, topic: str, *, isolation: int = 0) -> AsyncIterator[bytes | memoryview]:
    """Whole batches of a topic from its beginning on, as soon as they are there, without an end.

    Of each partition that is asked for, nothing when nothing has come for 100 ms.
    isolation: 1 for read_committed.
    """
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    try:
        await client.bootstrap()
        (node,) = [broker.nodeId for broker in client.cluster.brokers()]
        answer = await client.send(node, NamedTopics([topic]))
        topic_id, partitions = answer.topics[0][2], answer.topics[0][4]
        offsets = dict.fromkeys((partition[1] for partition in partitions), 0)
        while True:
            order = sorted(offsets, key=offsets.__getitem__)
            wanted = [WantedPartition(topic, topic_id, number, offsets[number], 2 * MIB) for number in order]
            request = FetchByIdOrName(
                wanted, wait_ms=100, bytes_min=1, bytes_max=4 * MIB, isolation=isolation
            )
            for part in (await client.send(node, request)).partitions:
                end = 0
                for header in headers(part.records):
                    offsets[part.partition] = header.last + 1
                    end = header.at + header.size
                yield part.records[:end]
    finally:
        await client.close()
