"""What a program with aiokafka alone does: a loop of getmany that counts."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer
from common.program import package_version, parameters, report, stopwatch

given = parameters()


async def main() -> None:
    consumer = AIOKafkaConsumer(
        given["topic"], bootstrap_servers=given["bootstrap"], auto_offset_reset="earliest"
    )
    started = stopwatch()
    await consumer.start()
    counted = 0
    while counted < given["records"]:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            counted += len(records)
    seconds = stopwatch() - started
    await consumer.stop()
    report(answer=counted, version=package_version("aiokafka"), metrics={"records_per_s": counted / seconds})


asyncio.run(main())
