"""K2: how fast records get into a topic of Kafka, and what exactly once costs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender
from common.kafka_topic import PARTITIONS, VALUE_BYTES, broker_with_topics

from aiostream_engine.kafka.admin import KafkaAdmin
from aiostream_engine.kafka.settings import KafkaSettings

BATCH_BYTES = 256 * 1024


async def make_topic(bootstrap: str, name: str) -> None:
    async with KafkaAdmin(KafkaSettings(bootstrap)) as admin:
        await admin.create_topic(name, PARTITIONS)


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    records = options.size(2_000_000, 100_000)
    broker = broker_with_topics({"given": records})
    asyncio.run(make_topic(broker.bootstrap, "target"))
    given = {
        "bootstrap": broker.bootstrap,
        "topic": "given",
        "target": "target",
        "records": records,
        "bytes": VALUE_BYTES,
        "partitions": PARTITIONS,
        "batch_bytes": BATCH_BYTES,
        "master": "local[2]",
    }
    ours = "engine/kafka_sink.py"
    return [
        Contender("floor", "aiokafka, a send_batch loop", "floors/kafka_send_batch.py", None, "floor", given),
        Contender("engine", "aiostream_engine, KafkaSink", ours, None, "engine", {**given, "how": "made"}),
        Contender(
            "plain",
            "topic to topic, at least once",
            ours,
            None,
            "engine",
            {**given, "how": "plain"},
            on_disk=True,
        ),
        Contender(
            "once",
            "topic to topic, exactly once",
            ours,
            None,
            "engine",
            {**given, "how": "once"},
            on_disk=True,
        ),
    ], records


BENCHMARK = Benchmark(
    "K2",
    "Write 100-byte values to a Kafka topic, 4 partitions, no compression, idempotent, acks=all",
    "the first two: records are made and sent until the broker has all, in one process, or by two workers "
    "with a stream of one batch and its start. The other two: a backlog is copied from topic to topic in "
    "batches of 1 s with a checkpoint directory, from the start of the stream to its end. The broker shares "
    "the two cores.",
    (
        Metric("records_per_s", "write", "records/s", more_is_better=True),
        Metric("canary_p99_ms", "canary p99", "ms"),
    ),
    (
        Target("times a send_batch loop", "engine", "records_per_s", 0.9, against="floor"),
        Target("exactly once against at least once", "once", "records_per_s", 0.8, against="plain"),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
