"""A stream from a topic to a topic that is killed and started again.

Arguments: BOOTSTRAP IN OUT DIRECTORY. It counts numbers by key; ends when it has read what was there.
"""

from __future__ import annotations

import asyncio
import sys

from aiostream_engine.config import BackpressureConfig, CheckpointConfig
from aiostream_engine.context import StreamingContext
from aiostream_engine.sinks.kafka import KafkaSink

INTERVAL_S = 0.02


def counted(key, value, state):
    state.update(state.get(0) + 1)
    return str(key), [value, state.get()]


async def main(bootstrap: str, source: str, target: str, directory: str) -> None:
    config = CheckpointConfig(f"{directory}/cp", key=b"a key for tests", segment_bytes=6000)
    pace = BackpressureConfig(enabled=False)
    async with StreamingContext(INTERVAL_S, "local", checkpoint=config, backpressure=pace) as ssc:
        numbers = ssc.kafka_stream(
            bootstrap, source, name="numbers", stop="latest", projection="value", value="str", rate_max=1500
        )
        pairs = numbers.map(lambda text: (int(text) % 5, int(text)))
        counts = pairs.map_with_state(counted, name="counts")
        counts.to(KafkaSink(bootstrap, target, key="str", value="json", transactional_id=target), name="out")
        await ssc.start()
        await ssc.await_termination()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
