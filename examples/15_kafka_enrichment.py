"""Orders from a Kafka topic, each looked up in a service, many at a time.

    python -m aiostream_engine kafka dev                  # in another terminal: a broker to try it
    python examples/15_kafka_enrichment.py 127.0.0.1:9092

You see how many orders came from each country; then the order that is no JSON, as a dead letter with
its topic, partition and offset.

The service's client lives on the event loop of this program, so `map_async` runs there. The stream
reads what is in the topic now and ends (`stop="latest"`).
"""

import asyncio
import sys
import uuid
from typing import Any

from aiokafka import AIOKafkaProducer

import aiostream_engine as ase
from aiostream_engine.kafka.admin import KafkaAdmin
from aiostream_engine.kafka.settings import KafkaSettings


async def country_of(order: dict[str, int]) -> tuple[str, int]:
    """Stands for a request by a client with a connection pool."""
    await asyncio.sleep(0.01)
    return ("FR", "IT", "PL")[order["customer"] % 3], 1


async def main(bootstrap: str) -> None:
    topic = f"orders-{uuid.uuid4().hex[:8]}"
    async with KafkaAdmin(KafkaSettings(bootstrap)) as admin:
        await admin.create_topic(topic)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=10) as producer:
        written = [b'{"customer": %d}' % customer for customer in range(300)]
        written[200] = b"not an order"
        for sent in [await producer.send(topic, order) for order in written]:
            await sent

    async with ase.StreamingContext(interval=0.2, master="local[2]") as ssc:
        orders = ssc.kafka_stream(
            bootstrap,
            topic,
            stop="latest",
            projection="value",
            value="json",
            on_error="dead-letter",
        )
        by_country: dict[str, int] = {}
        unread: list[str] = []

        async def add(rdd: ase.RDD[tuple[str, int]]) -> None:
            for country, count in await rdd.collect():
                by_country[country] = by_country.get(country, 0) + count

        async def keep(letters: ase.RDD[Any]) -> None:
            for letter in await letters.collect():
                record = letter.record
                unread.append(f"partition {record.partition}, offset {record.offset}: {record.value!r}")

        orders.map_async(country_of, concurrency=50).reduce_by_key(int.__add__).foreach_rdd(add)
        orders.dead_letters().foreach_rdd(keep)
        await ssc.run()
    for country in sorted(by_country):
        print(country, by_country[country])
    print("no order:", *unread)
    async with KafkaAdmin(KafkaSettings(bootstrap)) as admin:
        await admin.delete_topic(topic)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092"))
