"""A Kafka topic counted with Quix Streams: a function of each record."""

from __future__ import annotations

import logging
from typing import Any

from common.program import package_version, parameters, report, stopwatch
from quixstreams import Application

given = parameters()
logging.disable(logging.CRITICAL)

application = Application(
    broker_address=given["bootstrap"],
    consumer_group="count-" + given["scratch"].replace("/", "-"),
    auto_offset_reset="earliest",
    auto_create_topics=False,
    state_dir=given["scratch"],
    loglevel=None,
)
topic = application.topic(given["topic"], value_deserializer="bytes", key_deserializer="bytes")
counted = 0


def count(value: Any) -> None:
    global counted
    counted += 1
    if counted == given["records"]:
        application.stop()


stream = application.dataframe(topic).update(count)
started = stopwatch()
application.run()
seconds = stopwatch() - started
report(answer=counted, version=package_version("quixstreams"), metrics={"records_per_s": counted / seconds})
