"""Word count with Polars expressions: no Python function per record, the ceiling of a columnar lane."""

from __future__ import annotations

import os

os.environ["POLARS_MAX_THREADS"] = "2"

import polars as pl
from common.feeding import round_metrics
from common.program import digest_counts, parameters, report, stopwatch

given = parameters()


def count_words() -> dict[str, int]:
    texts = []
    for path in given["files"]:
        with open(path, encoding="utf-8") as file:
            texts.append(pl.Series("line", file.read().splitlines()))
    words = pl.concat(texts).str.split(" ").explode()
    counts = words.value_counts(name="count")
    return dict(zip(counts["line"].to_list(), counts["count"].to_list(), strict=True))


def main() -> None:
    seconds = []
    for _ in range(given["rounds"]):
        started = stopwatch()
        counts = count_words()
        seconds.append(stopwatch() - started)
    report(
        answer=digest_counts(counts),
        version=f"polars {pl.__version__}",
        metrics=round_metrics(given["words"], [(elapsed, elapsed) for elapsed in seconds]),
    )


main()
