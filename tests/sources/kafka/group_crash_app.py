"""A member of a group with a checkpoint directory, to be killed: ``BOOTSTRAP TOPIC GROUP DIRECTORY SEAT``.

It writes (life, partition, offset, number) of each record; SEAT is an instance id, or ``-``.
"""

from __future__ import annotations

import asyncio
import os
import sys

from aiostream_engine.config import BackpressureConfig, CheckpointConfig
from aiostream_engine.context import StreamingContext
from aiostream_engine.sinks.two_phase_files import TwoPhaseFileSink
from aiostream_engine.sources.kafka.group_membership import GroupTimes


async def main(bootstrap: str, topic: str, group: str, directory: str, seat: str) -> None:
    config = CheckpointConfig(f"{directory}/cp", key=b"a key for tests", segment_bytes=6000)
    pace = BackpressureConfig(enabled=False)
    async with StreamingContext(0.02, "local", checkpoint=config, backpressure=pace) as ssc:
        records = ssc.kafka_stream(
            bootstrap,
            subscribe=topic,
            group=group,
            name="numbers",
            value="str",
            rate_max=3000,
            instance_id=None if seat == "-" else seat,
            times=GroupTimes(session_s=2.0, heartbeat_s=0.2),
        )
        life = os.getpid()
        lines = records.map(lambda one: (life, one.partition, one.offset, int(one.value)))
        lines.to(TwoPhaseFileSink(f"{directory}/out", durable=False), name="staged")
        await ssc.start()
        await ssc.await_termination()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:6]))
