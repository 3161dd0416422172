"""A running count of words on Pathway that is killed at random moments, with input persistence."""

from __future__ import annotations

import os

os.environ["PATHWAY_THREADS"] = "2"

from pathlib import Path

import pathway as pw
from common.kill_harness import LineFile, measure
from common.program import parameters, report
from common.stream_process import tell

given = parameters()
OUT = Path(given["disk"], "out.txt")


class Word(pw.Schema):
    word: str


def stream() -> None:
    interval_ms = int(given["interval_s"] * 1000)
    words = pw.io.jsonlines.read(
        given["scratch"] + "/in", schema=Word, mode="streaming", autocommit_duration_ms=interval_ms, name="in"
    )
    counts = words.groupby(words.word).reduce(words.word, count=pw.reducers.count())
    out = OUT.open("a")  # its own writer would begin the file anew at each start

    def keep(key: object, row: dict[str, object], time: int, is_addition: bool) -> None:
        if is_addition:
            out.write(f"{row['word']} {row['count']}\n")

    pw.io.subscribe(counts, on_change=keep, on_time_end=lambda time: out.flush())
    backend = pw.persistence.Backend.filesystem(given["disk"] + "/persisted")
    tell("ready")
    pw.run(
        monitoring_level=pw.MonitoringLevel.NONE,
        persistence_config=pw.persistence.Config(backend, snapshot_interval_ms=interval_ms),
    )


if given.get("role") == "stream":
    stream()
else:
    metrics, answer = measure(given, LineFile(OUT))
    report(answer=answer, version=pw.__version__, metrics=metrics)
