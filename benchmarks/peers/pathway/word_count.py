"""Word count over files on Pathway: split in a Python function, built-in count, two threads."""

from __future__ import annotations

import os

os.environ["PATHWAY_THREADS"] = "2"

import pathway as pw
from common.feeding import round_metrics
from common.program import digest_counts, parameters, report, stopwatch

given = parameters()


@pw.udf
def split(line: str) -> list[str]:
    return line.split()


def main() -> None:
    counts: dict[str, int] = {}

    def keep(key: object, row: dict[str, object], time: int, is_addition: bool) -> None:
        if is_addition:
            counts[str(row["word"])] = int(row["count"])  # type: ignore[call-overload]

    lines = pw.io.plaintext.read(given["directory"], mode="static", object_pattern="*.txt")
    words = lines.select(word=split(pw.this.data)).flatten(pw.this.word)
    pw.io.subscribe(words.groupby(pw.this.word).reduce(pw.this.word, count=pw.reducers.count()), keep)
    started = stopwatch()
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    seconds = stopwatch() - started
    report(
        answer=digest_counts(counts),
        version=pw.__version__,
        metrics=round_metrics(given["words"], [(seconds, seconds)]),
    )


main()
