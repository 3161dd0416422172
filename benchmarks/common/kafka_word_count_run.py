"""Runs one program that counts words from topic to topic, watches what it writes, and ends it."""

from __future__ import annotations

import asyncio
import uuid

from common.kafka_words import make_topic, read_counts
from common.program import parameters, report, stopwatch
from common.ready_program import ready_program

given = parameters()


def main() -> None:
    target = f"counts-{uuid.uuid4().hex[:8]}"
    asyncio.run(make_topic(given["bootstrap"], target))
    with ready_program(given["interpreter"], given["program"], {**given, "target": target}):
        started = stopwatch()
        digest, ended = asyncio.run(
            read_counts(given["bootstrap"], target, given["records"], given["timeout_s"])
        )
    report(
        answer=digest,
        version=given["version"],
        metrics={"records_per_s": given["records"] / (ended - started)},
    )


main()
