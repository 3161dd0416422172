"""A Kafka topic counted with confluent-kafka, in chunks of ten thousand."""

from __future__ import annotations

from common.program import package_version, parameters, report, stopwatch
from confluent_kafka import Consumer

given = parameters()

started = stopwatch()
consumer = Consumer(
    {
        "bootstrap.servers": given["bootstrap"],
        "group.id": f"count-{given['scratch']}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
)
consumer.subscribe([given["topic"]])
counted = 0
while counted < given["records"]:
    for message in consumer.consume(10_000, timeout=1.0):
        if message.error() is None:
            counted += 1
seconds = stopwatch() - started
consumer.close()
report(
    answer=counted, version=package_version("confluent-kafka"), metrics={"records_per_s": counted / seconds}
)
