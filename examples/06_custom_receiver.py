"""Two receivers of one's own: an async generator, and a class that acknowledges what it received.

    python examples/06_custom_receiver.py

You see the readings of both in the batches as they come; one logged line, when the queue cannot be
reached for a moment; then that every message was acknowledged, and not before the engine owned it.

A generator is enough when records need not be acknowledged. A class calls `store_block`, which
returns once the engine owns the records: then it is safe to acknowledge. When a receiver raises,
it runs again after a pause; the other receivers do not notice.
"""

import asyncio
from collections.abc import AsyncIterator

import aiostream_engine as ase
from aiostream_engine.sources.custom import Receiver, ReceiverOutput


async def thermometer() -> AsyncIterator[tuple[str, float]]:
    for step in range(6):
        yield ("thermometer", 20.0 + step / 2)
        await asyncio.sleep(0.1)


class MessageQueue:
    """Stands for a broker: messages stay until they are acknowledged."""

    def __init__(self, messages: list[float]) -> None:
        self._waiting = messages
        self.acknowledged = 0
        self.failures_left = 1

    async def take(self, count: int) -> list[float]:
        await asyncio.sleep(0.1)
        if self.acknowledged >= 2 and self.failures_left:
            self.failures_left -= 1
            raise ConnectionError("the broker went away")
        return self._waiting[:count]

    async def acknowledge(self, count: int) -> None:
        del self._waiting[:count]
        self.acknowledged += count


class QueueReceiver(Receiver):
    def __init__(self, queue: MessageQueue) -> None:
        self.queue = queue

    async def run(self, output: ReceiverOutput) -> None:
        while messages := await self.queue.take(2):
            await output.store_block([("barometer", value) for value in messages])
            await self.queue.acknowledge(len(messages))


async def main() -> None:
    queue = MessageQueue([1013.0, 1012.5, 1012.0, 1011.0, 1010.5])
    async with ase.StreamingContext(interval=0.2, master="local[2]") as ssc:
        readings = ssc.receiver_stream(thermometer).union(ssc.receiver_stream(QueueReceiver(queue)))
        readings.foreach_rdd(show)
        await ssc.run()
        restarts = sum(info.restarts for info in ssc.statistics().receivers)
    print(f"{queue.acknowledged} messages acknowledged, {restarts} restart")


async def show(rdd: ase.RDD[tuple[str, float]]) -> None:
    for name, value in await rdd.collect():
        print(name, value)


if __name__ == "__main__":
    asyncio.run(main())
