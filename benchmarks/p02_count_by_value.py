"""P2: word count by ``count_by_value`` on the input of P1."""

from __future__ import annotations

from common.benchmark import Benchmark, Target, main
from common.word_count import INCLUDED, METRICS, word_count_setting

BENCHMARK = Benchmark(
    "P2",
    "word count, count_by_value, file source",
    INCLUDED,
    METRICS,
    [Target("times PySpark DStreams", "engine", "words_per_s", 4.0, against="pyspark")],
    lambda options: word_count_setting(options, built_in=True),
)

if __name__ == "__main__":
    main(BENCHMARK)
