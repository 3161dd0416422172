"""P1: word count with user lambdas from files, beside Spark, Bytewax, Pathway, Streamz and floors."""

from __future__ import annotations

from common.benchmark import Benchmark, Target, main
from common.word_count import INCLUDED, METRICS, word_count_setting

BENCHMARK = Benchmark(
    "P1",
    "word count, user lambdas, file source",
    INCLUDED,
    METRICS,
    [
        Target("times PySpark DStreams", "engine", "words_per_s", 2.5, against="pyspark"),
        Target("times Bytewax, one worker", "engine", "words_per_s", 4.0, against="bytewax"),
        Target("times two processes by hand", "engine", "words_per_s", 0.9, against="floor"),
    ],
    lambda options: word_count_setting(options, built_in=False),
)

if __name__ == "__main__":
    main(BENCHMARK)
