"""Sessions of users, closed when a user has been silent for 0.8 seconds.

    python examples/03_stateful_sessions.py

You see a session each time that one ends: who, how many clicks, which pages. "ann" has two
sessions, because she pauses; "bob" has one.

`map_with_state` calls the function once for each click, with the state of that user; a user
without clicks for `timeout_s` is handed over one last time, with no click. The state stays in the
worker that owns the user: a batch moves clicks, not sessions.
"""

import asyncio
from collections.abc import AsyncIterator

import aiostream_engine as ase

Click = tuple[str, str]


async def clicks() -> AsyncIterator[Click]:
    for click in [("ann", "/"), ("bob", "/"), ("ann", "/cart"), ("bob", "/help")]:
        yield click
        await asyncio.sleep(0.05)
    await asyncio.sleep(1.5)  # both are silent for longer than the timeout
    yield ("ann", "/pay")
    await asyncio.sleep(1.5)


def track(user: str, page: str | None, session: ase.State[list[str]]) -> str | None:
    if page is None:  # session.is_timing_out()
        pages = session.get()
        return f"{user}: {len(pages)} clicks: {' -> '.join(pages)}"
    session.update([*session.get([]), page])
    return None


async def main() -> None:
    async with ase.StreamingContext(interval=0.1, master="local[2]") as ssc:
        ended = ssc.receiver_stream(clicks).map_with_state(track, timeout_s=0.8)
        ended = ended.filter(lambda line: line is not None)
        ended.foreach_rdd(print_all)
        await ssc.run()


async def print_all(rdd: ase.RDD[str]) -> None:
    for line in sorted(await rdd.collect()):
        print(line)


if __name__ == "__main__":
    asyncio.run(main())
