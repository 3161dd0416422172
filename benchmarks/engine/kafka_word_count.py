"""Running counts of JSON words from a topic to a topic: runs until it is ended."""

from __future__ import annotations

import asyncio
import operator
from typing import Any

from common.program import parameters

import aiostream_engine as ase
from aiostream_engine.sinks.kafka import KafkaSink

given = parameters()


def count(word: str, _: int, total: Any) -> tuple[str, dict[str, Any]]:
    now = total.get(0) + 1
    total.update(now)
    return word, {"word": word, "count": now}


def add(word: str, number: int, total: Any) -> tuple[str, dict[str, Any]]:
    total.update(total.get(0) + number)
    return word, {"word": word, "count": total.get()}


async def main() -> None:
    pace = ase.BackpressureConfig(enabled=False)
    checkpoint = f"{given['disk']}/checkpoint" if given["once"] else None
    async with ase.StreamingContext(
        given["interval_s"], given["master"], backpressure=pace, checkpoint=checkpoint
    ) as ssc:
        words = ssc.kafka_stream(
            given["bootstrap"], given["topic"], name="words", projection="value", value="json"
        )
        pairs = words.map(lambda entry: (entry["word"], 1))
        if given.get("changed"):
            counts = pairs.reduce_by_key(operator.add).map_with_state(add, name="counts")
        else:
            counts = pairs.map_with_state(count, name="counts")
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
