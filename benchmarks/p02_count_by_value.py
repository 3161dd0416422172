"""P2: word count by ``count_by_value`` on the input of P1."""

from __future__ import annotations

from common.benchmark import Benchmark, Target, main
from common.word_count import INCLUDED, METRICS, word_count_setting

RATE = "processing_words_per_s"

BENCHMARK = Benchmark(
    "P2",
    "word count, count_by_value, file source",
    INCLUDED,
    METRICS,
    [
        Target("steady: times PySpark DStreams", "engine", "words_per_s", 4.0, against="pyspark"),
        Target("in processing: times PySpark DStreams", "engine", RATE, 4.0, against="pyspark"),
        Target("in processing: times two processes by hand", "engine", RATE, 0.9, against="floor"),
    ],
    lambda options: word_count_setting(options, built_in=True),
)

if __name__ == "__main__":
    main(BENCHMARK)
