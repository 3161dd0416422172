"""A mailbox that code in this program, and in other programs, sends messages to.

    python examples/07_actor.py

You see the total of each account after all messages came: some were told by this program, some
sent over a Unix socket by another process, as a web worker or a script would.

The actor handles one message at a time and may keep state of its own. A full mailbox makes the
senders wait. Messages from outside are plain values in MessagePack or JSON, never pickled.
"""

import asyncio
import os
import sys
import tempfile
from typing import Any

import aiostream_engine as ase
from aiostream_engine.sources.actor import Actor, ActorSource

SENDER = """
import asyncio, sys
from aiostream_engine.sources.actor_client import ActorClient

async def main():
    async with await ActorClient.connect(sys.argv[1], token=sys.argv[2]) as actor:
        for amount in range(1, 11):
            await actor.send(["blue", amount])
        await actor.flush()

asyncio.run(main())
"""


class Bookkeeper(Actor):
    """Lets through what is well formed."""

    async def receive(self, message: Any) -> None:
        account, amount = message
        if amount > 0:
            await self.store((account, amount))


async def run_sender(address: str, token: str) -> None:
    sender = await asyncio.create_subprocess_exec(sys.executable, "-c", SENDER, address, token)
    if await sender.wait():
        raise RuntimeError("the sender failed")


async def main() -> None:
    token = os.urandom(16).hex()
    with tempfile.TemporaryDirectory() as directory:
        mailbox = ActorSource(Bookkeeper, listen=f"unix://{directory}/mailbox", token=token)
        async with ase.StreamingContext(interval=0.2, master="local[2]") as ssc:
            totals = ssc.actor_stream(mailbox).update_state_by_key(add_up)
            totals.foreach_rdd(remember)
            await ssc.start()
            for amount in (5, -1, 7):
                mailbox.ref.tell(("red", amount))
            await run_sender(mailbox.address or "", token)
            await ssc.stop()
    for account, total in sorted(LATEST.items()):
        print(account, total)


LATEST: dict[str, int] = {}


def add_up(amounts: list[int], total: int | None) -> int:
    return sum(amounts, total or 0)


async def remember(rdd: ase.RDD[tuple[str, int]]) -> None:
    LATEST.update(await rdd.collect_as_map())


if __name__ == "__main__":
    asyncio.run(main())
