"""What a program with aiokafka alone does: packs batches on the loop and sends them."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from common.program import package_version, parameters, report, stopwatch

given = parameters()


async def send_partition(producer: Any, partition: int, records: int) -> None:
    value, waiting, done = b"v" * given["bytes"], [], 0
    while done < records:
        batch = producer.create_batch()
        while done < records and batch.append(key=None, value=value, timestamp=None) is not None:
            done += 1
        waiting.append(await producer.send_batch(batch, given["target"], partition=partition))
    await asyncio.gather(*waiting)


async def main() -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=given["bootstrap"], max_batch_size=given["batch_bytes"], enable_idempotence=True
    )
    await producer.start()
    started = stopwatch()
    share = given["records"] // given["partitions"]
    await asyncio.gather(*(send_partition(producer, n, share) for n in range(given["partitions"])))
    seconds = stopwatch() - started
    await producer.stop()
    report(
        answer=given["records"],
        version=package_version("aiokafka"),
        metrics={"records_per_s": given["records"] / seconds},
    )


asyncio.run(main())
