"""A web service whose instances share a topic: each is a member of a consumer group.

    python -m aiostream_engine kafka dev            # a broker, elsewhere
    python examples/13_kafka_fastapi.py             # two instances that ask themselves, and end
    uvicorn --app-dir examples 13_kafka_fastapi:app # or serve it, as many times as you like

You see: how the partitions of the topic are shared out, and that the orders posted to one instance
are all there, in one or the other.

Kafka gives each partition to one instance. When one is started or stopped they are shared out anew:
what is under way is committed first, and the next owner goes on there. If an instance is killed, the
last records before its end come again, to another one: *at least once*. Here that does no harm, since
an order is kept under its number; a database with `INSERT … ON CONFLICT` would do the same.
"""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Request

import aiostream_engine as ase
from aiostream_engine.kafka.admin import KafkaAdmin
from aiostream_engine.kafka.settings import KafkaSettings

BOOTSTRAP = os.environ.get("KAFKA", "127.0.0.1:9092")
ORDERS = 200


def service(bootstrap: str, topic: str) -> FastAPI:
    """An instance; all with the same topic share its partitions."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.orders = {}

        async def keep(rdd: ase.RDD[Any]) -> None:
            for order in await rdd.collect():
                app.state.orders[order["number"]] = order["euros"]

        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
        async with producer, ase.StreamingContext(interval=0.1, master="local") as ssc:
            orders = ssc.kafka_stream(
                bootstrap, subscribe=topic, group=f"{topic}-service", projection="value", value="json"
            )
            orders.foreach_rdd(keep)
            app.state.producer, app.state.stream = producer, ssc
            await ssc.start()
            yield
            await ssc.stop()

    app = FastAPI(lifespan=lifespan)

    @app.post("/orders", status_code=202)
    async def post_order(request: Request) -> dict[str, bool]:
        await app.state.producer.send_and_wait(topic, await request.body())
        return {"accepted": True}

    @app.get("/orders")
    async def get_orders() -> dict[int, float]:
        return dict(app.state.orders)

    @app.get("/partitions")
    async def get_partitions() -> dict[str, int]:
        """Those of this instance, with the number of records that it is behind."""
        return dict(app.state.stream.statistics().receivers[0].lag)

    return app


app = service(BOOTSTRAP, os.environ.get("TOPIC", "orders"))


async def main(bootstrap: str) -> None:
    topic = f"orders-{uuid.uuid4().hex[:8]}"
    async with KafkaAdmin(KafkaSettings(bootstrap)) as admin:
        await admin.create_topic(topic, partitions=4)
    async with AsyncExitStack() as running:
        clients = []
        for instance in (service(bootstrap, topic), service(bootstrap, topic)):
            await running.enter_async_context(instance.router.lifespan_context(instance))
            transport = httpx.ASGITransport(instance)
            clients.append(httpx.AsyncClient(transport=transport, base_url="http://service"))
            await running.enter_async_context(clients[-1])
        async with asyncio.timeout(40):
            while (shares := [len((await one.get("/partitions")).json()) for one in clients]) != [2, 2]:
                await asyncio.sleep(0.1)
            print("partitions of each instance:", shares)
            for number in range(ORDERS):
                (await clients[0].post("/orders", json={"number": number, "euros": 9.5})).raise_for_status()
            kept: list[set[str]] = [set()]
            while len(set.union(*kept)) < ORDERS:
                kept = [set((await one.get("/orders")).json()) for one in clients]
                await asyncio.sleep(0.1)
        print(f"{len(set.union(*kept))} orders are there, each instance has some: {all(kept)}")
    async with KafkaAdmin(KafkaSettings(bootstrap)) as admin:
        await admin.delete_topic(topic)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else BOOTSTRAP))
