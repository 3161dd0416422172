"""A Kafka topic counted with Faust: an agent."""

from __future__ import annotations

import asyncio
import logging
import os

import faust
from common.program import package_version, parameters, report, stopwatch

given = parameters()
logging.disable(logging.CRITICAL)

application = faust.App(
    "count" + given["scratch"].replace("/", "-"),
    broker=f"kafka://{given['bootstrap']}",
    consumer_auto_offset_reset="earliest",
    topic_disable_leader=True,
    datadir=given["scratch"],
    web_enabled=False,
)
topic = application.topic(given["topic"], value_type=bytes, value_serializer="raw")
counted = 0
started = 0.0


@application.agent(topic)
async def count(values: faust.Stream[bytes]) -> None:
    global counted
    async for _ in values:
        counted += 1
        if counted == given["records"]:
            seconds = stopwatch() - started
            report(
                answer=counted,
                version=package_version("faust-streaming"),
                metrics={"records_per_s": counted / seconds},
            )
            os._exit(0)  # stopping takes its time


async def main() -> None:
    global started
    started = stopwatch()
    await application.start()
    await asyncio.sleep(600)


asyncio.run(main())
