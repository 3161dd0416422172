"""Running counts of JSON words from a topic to a topic with Faust: runs until it is ended."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import faust
from common.program import parameters

given = parameters()
logging.disable(logging.CRITICAL)
application = faust.App(
    given["target"],
    broker=f"kafka://{given['bootstrap']}",
    consumer_auto_offset_reset="earliest",
    topic_disable_leader=True,
    topic_partitions=given["partitions"],
    datadir=given["scratch"],
    web_enabled=False,
)
source = application.topic(given["topic"], value_serializer="json", key_serializer="raw")
target = application.topic(given["target"], value_serializer="json", key_serializer="raw")
counts = application.Table("counts", default=int, partitions=given["partitions"])


@application.agent(source)
async def count(entries: faust.Stream[dict[str, Any]]) -> None:
    async for entry in entries:
        word = entry["word"]
        counts[word] += 1
        await target.send(key=word.encode(), value={"word": word, "count": counts[word]})


async def main() -> None:
    print("READY", flush=True)
    await application.start()
    await asyncio.sleep(3600)


asyncio.run(main())
