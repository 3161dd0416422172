"""The ceiling: fetch requests one after the other, and a look at the headers; nothing is kept."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaClient
from common.program import package_version, parameters, report, stopwatch

from aiostream_engine.kafka.record_batch import headers
from aiostream_engine.sources.kafka.wire import FetchByIdOrName, NamedTopics, WantedPartition

given = parameters()
MIB = 1024 * 1024


async def main() -> None:
    client = AIOKafkaClient(bootstrap_servers=given["bootstrap"])
    started = stopwatch()
    await client.bootstrap()
    (node,) = [broker.nodeId for broker in client.cluster.brokers()]
    answer = await client.send(node, NamedTopics([given["topic"]]))
    topic_id, partitions = answer.topics[0][2], answer.topics[0][4]
    offsets = dict.fromkeys((partition[1] for partition in partitions), 0)
    counted = 0
    while counted < given["records"]:
        order = sorted(offsets, key=offsets.__getitem__)
        wanted = [
            WantedPartition(given["topic"], topic_id, number, offsets[number], 2 * MIB) for number in order
        ]
        request = FetchByIdOrName(wanted, wait_ms=100, bytes_min=1, bytes_max=4 * MIB, isolation=1)
        for part in (await client.send(node, request)).partitions:
            for header in headers(part.records):
                counted += header.records
                offsets[part.partition] = header.last + 1
    seconds = stopwatch() - started
    await client.close()
    report(answer=counted, version=package_version("aiokafka"), metrics={"records_per_s": counted / seconds})


asyncio.run(main())
