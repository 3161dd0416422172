"""P3: a batch of ten lines with a shuffle: what a batch costs, beside Spark DStreams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender
from common.program import digest_counts

WARM_UP = 20
LINES = [f"the quick brown fox {number} jumps over the lazy dog" for number in range(10)]


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    ours = {"lines": LINES, "warm_up": WARM_UP, "batches": 100 if options.quick else 1000, "interval_s": 0.02}
    spark = {"lines": LINES, "warm_up": WARM_UP, "batches": 10 if options.quick else 60, "interval_s": 0.5}
    contenders = [
        _engine("engine", "local[2]", ours),
        _engine("inline", "local", ours),
        Contender(
            "pyspark",
            "PySpark DStreams, local[2]",
            "peers/pyspark/tiny_batches.py",
            "pyspark",
            parameters=spark,
        ),
    ]
    return contenders, digest_counts(Counter(" ".join(LINES).split()))


def _engine(key: str, master: str, parameters: dict[str, Any]) -> Contender:
    return Contender(
        key,
        f"aiostream_engine, {master}",
        "engine/tiny_batches.py",
        kind="engine",
        parameters={**parameters, "master": master},
    )


BENCHMARK = Benchmark(
    "P3",
    "tiny batch (10 lines, shuffle), processing time",
    "from the start of a batch's processing to the end of its output, as each engine's own listener reports "
    "it (Spark rounds to 1 ms); 20 batches of warm-up are not counted. Interval 20 ms, Spark 0.5 s.",
    (
        Metric("p50_ms", "p50", "ms"),
        Metric("p95_ms", "p95", "ms"),
        Metric("p99_ms", "p99", "ms"),
        Metric("max_ms", "max", "ms"),
    ),
    (
        Target("pool: p50", "engine", "p50_ms", 2.0, at_least=False),
        Target("pool: p99", "engine", "p99_ms", 6.0, at_least=False),
        Target("inline: p50", "inline", "p50_ms", 0.5, at_least=False),
        Target("pool: times PySpark DStreams", "engine", "p50_ms", 50.0, against="pyspark"),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
