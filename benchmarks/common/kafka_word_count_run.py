"""Runs one program that counts words from topic to topic, watches what it writes, and ends it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import uuid

from common.kafka_words import make_topic, read_counts
from common.program import parameters, report, stopwatch

given = parameters()


def main() -> None:
    target = f"counts-{uuid.uuid4().hex[:8]}"
    asyncio.run(make_topic(given["bootstrap"], target))
    passed = {**given, "target": target}
    process = subprocess.Popen(
        [given["interpreter"], given["program"], json.dumps(passed)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        while (line := process.stdout.readline()).strip() != "READY":
            assert line, "the program ended"
        started = stopwatch()
        digest = asyncio.run(read_counts(given["bootstrap"], target, given["records"], given["timeout_s"]))
        seconds = stopwatch() - started
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    report(answer=digest, version=given["version"], metrics={"records_per_s": given["records"] / seconds})


main()
