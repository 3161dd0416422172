"""An event loop that wakes at each tick and does nothing: what no engine on it can be under."""

from __future__ import annotations

import asyncio
import os
import platform
import time

from common.program import parameters, report

given = parameters()


async def main() -> None:
    loop = asyncio.get_running_loop()
    used, started = sum(os.times()[:2]), time.monotonic()
    tick, end = loop.time(), loop.time() + given["seconds"]
    while tick < end:
        tick += given["interval_s"]
        await asyncio.sleep(tick - loop.time())
    share = (sum(os.times()[:2]) - used) / (time.monotonic() - started)
    report(
        answer=given["answer"],
        version=platform.python_version(),
        metrics={"idle_percent": share * 100},
    )


asyncio.run(main())
