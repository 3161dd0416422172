"""Page views from a Kafka topic, gathered to sessions that end when a visitor is silent.

    python -m aiostream_engine kafka dev                  # in another terminal: a broker to try it
    python examples/14_kafka_page_views.py 127.0.0.1:9092

You see a session each time that one ends: who, how many views, which pages, and up to which offset
of the topic that was. "ann" has two sessions, because she pauses; "bob" has one.

Views are JSON with the visitor as key. Workers decode them; the event loop only passes bytes on.
With `checkpoint=` and a `name=` for the stream and for `track`, a program that is started again
goes on where it was, with all open sessions.
"""

import asyncio
import sys
import uuid

from aiokafka import AIOKafkaProducer

import aiostream_engine as ase
from aiostream_engine.kafka.admin import KafkaAdmin
from aiostream_engine.kafka.settings import KafkaSettings

VIEWS = [("ann", "/"), ("bob", "/"), ("ann", "/cart"), ("bob", "/help")]


async def visitors(bootstrap: str, topic: str) -> None:
    """What a web shop would write."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for user, page in VIEWS:
            await producer.send_and_wait(topic, b'{"page": "%s"}' % page.encode(), key=user.encode())
        await asyncio.sleep(2.5)  # both are silent for longer than the timeout
        await producer.send_and_wait(topic, b'{"page": "/pay"}', key=b"ann")


def track(user: str, view: dict[str, str] | None, session: ase.State[list[str]]) -> str | None:
    if view is None:  # session.is_timing_out()
        pages = session.get()
        return f"{user}: {len(pages)} views: {' -> '.join(pages)}"
    session.update([*session.get([]), view["page"]])
    return None


async def main(bootstrap: str) -> None:
    topic = f"page-views-{uuid.uuid4().hex[:8]}"
    async with KafkaAdmin(KafkaSettings(bootstrap)) as admin:
        await admin.create_topic(topic, partitions=2)
    read = ended = 0

    async with ase.StreamingContext(interval=0.1, master="local[2]") as ssc:
        views = ssc.kafka_stream(bootstrap, topic, projection="pair", key="str", value="json")
        sessions = views.map_with_state(track, timeout_s=0.8, name="track")
        sessions = sessions.filter(lambda line: line is not None)

        @sessions.foreach_rdd
        async def show(rdd: ase.RDD[str]) -> None:
            nonlocal read, ended
            read += sum(taken.offsets for taken in ssc.batch_inputs()[0].metadata["offsets"])
            for line in sorted(await rdd.collect()):
                print(f"{line} (after {read} records)", flush=True)
                ended += 1
            if ended == 3:
                await ssc.stop()

        writing = asyncio.create_task(visitors(bootstrap, topic))
        await ssc.run()
        await writing
    async with KafkaAdmin(KafkaSettings(bootstrap)) as admin:
        await admin.delete_topic(topic)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092"))
