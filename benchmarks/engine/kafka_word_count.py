"""Running counts of JSON words from a topic to a topic: runs until it is ended."""

from __future__ import annotations

import asyncio
from typing import Any

from common.program import parameters

import aiostream_engine as ase
from aiostream_engine.sinks.kafka import KafkaSink

given = parameters()


def count(word: str, _: int, total: Any) -> tuple[str, dict[str, Any]]:
    now = total.get(0) + 1
    total.update(now)
    return word, {"word": word, "count": now}


async def main() -> None:
    pace = ase.BackpressureConfig(enabled=False)
    checkpoint = f"{given['disk']}/checkpoint" if given["once"] else None
    async with ase.StreamingContext(
        given["interval_s"], given["master"], backpressure=pace, checkpoint=checkpoint
    ) as ssc:
        words = ssc.kafka_stream(
            given["bootstrap"], given["topic"], name="words", projection="value", value="json"
        )
        counts = words.map(lambda entry: (entry["word"], 1)).map_with_state(count, name="counts")
        counts.to(
            KafkaSink(
                given["bootstrap"],
                given["target"],
                key="str",
                value="json",
                transactional_id=given["target"] if given["once"] else None,
            ),
            name="out",
        )
        print("READY", flush=True)
        await ssc.run()


asyncio.run(main())
