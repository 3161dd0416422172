"""Running counts of JSON words from a topic to a topic with Quix Streams: runs until it is ended."""

from __future__ import annotations

import logging
from typing import Any

from common.program import parameters
from quixstreams import Application, State

given = parameters()
logging.disable(logging.CRITICAL)
application = Application(
    broker_address=given["bootstrap"],
    consumer_group=given["target"],
    auto_offset_reset="earliest",
    auto_create_topics=True,  # of its changelog
    state_dir=given["scratch"],
    loglevel=None,
)
source = application.topic(given["topic"], value_deserializer="json", key_deserializer="str")
target = application.topic(given["target"], value_serializer="json", key_serializer="str")


def count(entry: dict[str, Any], state: State) -> dict[str, Any]:
    now = state.get("count", 0) + 1
    state.set("count", now)
    return {"word": entry["word"], "count": now}


application.dataframe(source).apply(count, stateful=True).to_topic(target)
print("READY", flush=True)
application.run()
