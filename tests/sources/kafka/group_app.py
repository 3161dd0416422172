"""A member of a group in a process of its own: writes each batch as a line of places to standard output."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiostream_engine import StreamingContext
from aiostream_engine.sources.kafka.group_membership import GroupTimes


async def main(bootstrap: str, topic: str, group: str) -> None:
    async with StreamingContext(0.05, "local") as ssc:

        async def tell(rdd: Any) -> None:
            records = await rdd.collect()
            if records:
                print(json.dumps([(one.partition, one.offset) for one in records]), flush=True)

        times = GroupTimes(session_s=2.0, heartbeat_s=0.2, revoke_s=5.0)
        ssc.kafka_stream(bootstrap, subscribe=topic, group=group, times=times).foreach_rdd(tell)
        await ssc.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
