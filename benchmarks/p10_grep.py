"""P10: Grep on 100-byte records with a user lambda, beside two processes by hand and Spark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender
from common.data import grep_records


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    dataset = grep_records(options.size(4_000_000, 400_000))
    parameters = {
        "files": [str(path) for path in dataset.files],
        "lines": dataset.facts["lines"],
        "matches": dataset.facts["matches"],
        "interval_s": 0.5,
        "rounds": 2 if options.quick else 4,
        "master": "local[2]",
    }
    floor = "floors/grep_two_processes.py"
    return [
        Contender("engine", "aiostream_engine, local[2]", "engine/grep.py", None, "engine", parameters),
        Contender("floor", "floor: two processes by hand", floor, None, "floor", parameters),
        Contender(
            "pyspark", "PySpark DStreams, local[2]", "peers/pyspark/grep.py", "pyspark", "peer", parameters
        ),
    ], dataset.facts["matches"]


BENCHMARK = Benchmark(
    "P10",
    "Grep, 100-byte records, lambda filter, file source",
    "in processing: the time of the action in the batch that holds the files; steady: from moving 8 files "
    "into the watched directory, 0.1 s before a tick of the 0.5 s interval, until the count is in the "
    "driver. One full round of warm-up is not timed.",
    (
        Metric("processing_records_per_s", "in processing", "records/s", more_is_better=True),
        Metric("records_per_s", "steady", "records/s", more_is_better=True),
    ),
    (
        Target("records/s on two cores", "engine", "processing_records_per_s", 5e6),
        Target("times two processes by hand", "engine", "processing_records_per_s", 0.9, against="floor"),
        Target("times PySpark DStreams", "engine", "processing_records_per_s", 1.0, against="pyspark"),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
