"""Where the function of ``foreach_rdd`` is called: a thread, unless it gives coroutines."""

from __future__ import annotations

import threading
from typing import Any

from aiostream_engine import StreamingContext


async def threads_of(f: Any, seen: list[str]) -> list[str]:
    async with StreamingContext(0.01, "local") as ssc:
        ssc.queue_stream([[1], [2], [3]], finish_when_empty=True).foreach_rdd(f)
        await ssc.run(20)
    main = threading.current_thread().name
    return ["loop" if name == main else "thread" for name in seen]


async def test_a_plain_function_may_block_and_stays_in_its_thread() -> None:
    seen: list[str] = []
    assert await threads_of(lambda rdd: seen.append(threading.current_thread().name), seen) == ["thread"] * 3


async def test_one_that_gives_coroutines_is_called_on_the_loop_from_then_on() -> None:
    seen: list[str] = []
    records: list[list[int]] = []

    def collect(rdd: Any) -> Any:
        seen.append(threading.current_thread().name)

        async def keep() -> None:
            records.append(await rdd.collect())

        return keep()

    assert await threads_of(collect, seen) == ["thread", "loop", "loop"]
    assert records == [[1], [2], [3]]
