"""P1: word count with user lambdas from files, beside Spark, Bytewax, Pathway, Streamz and floors."""

from __future__ import annotations

from common.benchmark import Benchmark, Target, main
from common.word_count import INCLUDED, METRICS, word_count_setting

RATE = "processing_words_per_s"  # what has no directory to watch has no wait for a batch either

BENCHMARK = Benchmark(
    "P1",
    "word count, user lambdas, file source",
    INCLUDED,
    METRICS,
    [
        Target("steady: times PySpark DStreams", "engine", "words_per_s", 2.5, against="pyspark"),
        Target("in processing: times PySpark DStreams", "engine", RATE, 2.5, against="pyspark"),
        Target("in processing: times Bytewax, one worker", "engine", RATE, 4.0, against="bytewax"),
        Target("in processing: times two processes by hand", "engine", RATE, 0.9, against="floor"),
    ],
    lambda options: word_count_setting(options, built_in=False),
)

if __name__ == "__main__":
    main(BENCHMARK)
