"""A stream of Kafka that is killed and started again: ``crash_app.py BOOTSTRAP TOPIC DIRECTORY LANE``.

It counts numbers by key and writes them to DIRECTORY/out; ends when it has read what was there.
"""

from __future__ import annotations

import asyncio
import sys

from aiostream_engine.config import BackpressureConfig, CheckpointConfig
from aiostream_engine.context import StreamingContext
from aiostream_engine.sinks.two_phase_files import TwoPhaseFileSink

INTERVAL_S = 0.02


def counted(key, value, state):
    state.update(state.get(0) + 1)
    return [key, value, state.get()]


async def main(bootstrap: str, topic: str, directory: str, lane: str) -> None:
    config = CheckpointConfig(f"{directory}/cp", key=b"a key for tests", segment_bytes=6000)
    pace = BackpressureConfig(enabled=False)
    async with StreamingContext(INTERVAL_S, "local", checkpoint=config, backpressure=pace) as ssc:
        numbers = ssc.kafka_stream(
            bootstrap,
            topic,
            name="numbers",
            stop="latest",
            projection="value",
            value="str",
            rate_max=1500,
            lane=lane,
        )
        pairs = numbers.map(lambda text: (int(text) % 5, int(text)))
        counts = pairs.map_with_state(counted, name="counts")
        counts.to(TwoPhaseFileSink(f"{directory}/out", durable=False), name="staged")
        await ssc.start()
        await ssc.await_termination()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
