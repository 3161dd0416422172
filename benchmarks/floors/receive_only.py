"""Receiving a flooding socket and counting its line ends in place: the ceiling of one loop."""

from __future__ import annotations

import asyncio
import platform

from common.feeder import FLOOD_LINE, flood_feeder
from common.program import parameters, report, stopwatch

given = parameters()


class Counting(asyncio.BufferedProtocol):
    """Reads into one buffer again and again."""

    def __init__(self) -> None:
        self._buffer = bytearray(1 << 20)
        self.received = 0
        self.lines = 0
        self.done = asyncio.Event()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += nbytes
        self.lines += self._buffer.count(b"\n", 0, nbytes)
        if self.lines >= given["lines"]:
            self.done.set()


async def main() -> None:
    with flood_feeder(given["lines"]) as port:
        started = stopwatch()
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(Counting, "127.0.0.1", port)
        await protocol.done.wait()
        seconds = stopwatch() - started
        transport.close()
    report(
        answer=protocol.lines,
        version=platform.python_version(),
        metrics={
            "mb_per_s": protocol.lines * len(FLOOD_LINE) / seconds / 1e6,
            "lines_per_s": protocol.lines / seconds,
        },
    )


asyncio.run(main())
