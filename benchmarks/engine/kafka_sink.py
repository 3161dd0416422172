"""Records to a Kafka topic by the engine: made in workers, or from a topic with and without transactions."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from common.program import package_version, parameters, report, stopwatch

import aiostream_engine as ase
from aiostream_engine.sinks.kafka import KafkaSink
from aiostream_engine.testing import LoopCanary

given = parameters()
PACE = ase.BackpressureConfig(enabled=False)


def sink() -> KafkaSink:
    return KafkaSink(
        given["bootstrap"],
        given["target"],
        projection="value",
        batch_bytes=given["batch_bytes"],
        transactional_id=f"id-{uuid.uuid4().hex}" if given["how"] == "once" else None,
    )


async def made(engine: ase.EngineContext) -> dict[str, float]:
    """All records in one batch, each made by a function in a worker, in tasks of a few Kafka batches."""
    value = b"v" * given["bytes"]
    target = sink()
    rdd = engine.range(given["records"], partitions=32).map(lambda _: value)
    async with ase.StreamingContext(0.1, engine=engine) as ssc:
        ssc.queue_stream([rdd], name="made").to(target)
        started = stopwatch()
        await ssc.start()
        await ssc.stop(timeout_s=600)
        seconds = stopwatch() - started
    assert target.statistics().records == given["records"]
    return {"records_per_s": given["records"] / seconds}


async def copied(engine: ase.EngineContext) -> dict[str, float]:
    """A topic to a topic, batches of a second, with a checkpoint directory."""
    target = sink()
    directory = f"{given['disk']}/checkpoint"
    async with ase.StreamingContext(1.0, engine=engine, backpressure=PACE, checkpoint=directory) as ssc:
        stream = ssc.kafka_stream(
            given["bootstrap"], given["topic"], name="given", stop="latest", projection="value"
        )
        stream.to(target, name="out")
        async with LoopCanary() as canary:
            started = stopwatch()
            await ssc.start()
            await ssc.await_termination()
            seconds = stopwatch() - started
    assert target.statistics().records == given["records"], target.statistics()
    return {"records_per_s": given["records"] / seconds, "canary_p99_ms": canary.report().p99_s * 1000}


async def main() -> None:
    async with ase.EngineContext(given["master"]) as engine:
        metrics: dict[str, Any] = await (made if given["how"] == "made" else copied)(engine)
    report(answer=given["records"], version=package_version("aiostream-engine"), metrics=metrics)


asyncio.run(main())
