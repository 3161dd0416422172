"""The same short interval with a connected source that sends nothing: processor time of all processes."""

from __future__ import annotations

import asyncio
import time

import psutil
from common.program import package_version, parameters, report

import aiostream_engine as ase

given = parameters()


def processor_s() -> float:
    """Processor seconds of this process and its children."""
    this = psutil.Process()
    times = [process.cpu_times() for process in [this, *this.children(recursive=True)]]
    return sum(each.user + each.system for each in times)


async def main() -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        ssc = ase.StreamingContext(
            interval=given["interval_s"],
            master=given["master"],
            checkpoint=given["disk"] + "/checkpoint" if given.get("checkpoint") else None,
        )
        lines = ssc.socket_text_stream("127.0.0.1", port)
        lines.map(lambda line: (line, 1)).reduce_by_key(lambda a, b: a + b).foreach_rdd(
            lambda rdd: rdd.collect()
        )
        async with ssc:
            await ssc.start()
            await asyncio.sleep(2)
            used, started = processor_s(), time.monotonic()
            await asyncio.sleep(given["seconds"])
            share = (processor_s() - used) / (time.monotonic() - started)
    report(
        answer=given["answer"],
        version=package_version("aiostream-engine"),
        metrics={"idle_percent": share * 100},
    )


asyncio.run(main())
