"""Counts words from a Kafka topic to a Kafka topic, each line exactly once.

    python -m aiostream_engine kafka dev                  # in another terminal: a broker to try it
    python examples/12_kafka_word_count.py 127.0.0.1:9092

You see the counts that a consumer of committed records reads: "to" 4, "be" 4, "or" 2, "not" 2, although
the program was stopped after the first line and started again. Killing it would give the same.

Three things make the promise: a source that can be read again (a topic), a checkpoint directory for the
counts, and a sink with a transactional id. Its transaction holds the output of a batch, the offsets of
its input and the number of the batch: either all of that is true, or nothing.
"""

import asyncio
import json
import sys
import tempfile
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

import aiostream_engine as ase
from aiostream_engine.kafka.admin import KafkaAdmin
from aiostream_engine.kafka.settings import KafkaSettings
from aiostream_engine.sinks.kafka import KafkaSink


def count(word: str, _: int, total: ase.State[int]) -> tuple[str, dict[str, object]]:
    total.update(total.get(0) + 1)
    return word, {"word": word, "count": total.get()}


async def run(bootstrap: str, lines: str, counts: str, directory: str) -> None:
    """Counts what is in the topic by now; would run for ever without `stop`."""
    async with ase.StreamingContext(interval=0.1, master="local[2]", checkpoint=directory) as ssc:
        words = (
            ssc.kafka_stream(bootstrap, lines, name="lines", stop="latest", projection="value", value="str")
            .flat_map(str.split)
            .map(lambda word: (word, 1))
        )
        words.map_with_state(count, name="counts").to(
            KafkaSink(bootstrap, counts, key="str", value="json", transactional_id=counts), name="out"
        )
        await ssc.run()


async def read(bootstrap: str, topic: str, records: int) -> dict[str, int]:
    """The last count of each word."""
    found: dict[str, int] = {}
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    async with consumer:
        for _ in range(records):
            record = await consumer.getone()
            entry = json.loads(record.value)
            found[entry["word"]] = entry["count"]
    return found


async def main(bootstrap: str) -> None:
    number = uuid.uuid4().hex[:8]
    lines, counts = f"lines-{number}", f"counts-{number}"
    async with KafkaAdmin(KafkaSettings(bootstrap)) as admin:
        await admin.create_topic(lines, partitions=2)
        await admin.create_topic(counts, partitions=2)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        with tempfile.TemporaryDirectory() as directory:
            for _ in range(2):
                await producer.send_and_wait(lines, b"to be or not to be")
                await run(bootstrap, lines, counts, f"{directory}/checkpoint")
    found = await read(bootstrap, counts, records=12)
    for word in sorted(found):
        print(f"{word}: {found[word]}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
