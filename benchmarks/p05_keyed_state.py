"""P5: a million keys of state, a thousand touched by each batch, beside Spark's updateStateByKey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    keys = options.size(1_000_000, 20_000)
    touched = keys // 1000
    batches = 8 if options.quick else 20
    common = {"keys": keys, "touched": touched, "batches": batches, "interval_s": 0.1, "master": "local[2]"}
    mapped = {**common, "operator": "map_with_state"}
    on_disk = {**mapped, "cache_bytes": 16 * 1024 * 1024}
    updated = {**common, "operator": "update_state_by_key"}
    spark = {**common, "interval_s": 1.0}
    program = "engine/keyed_state.py"
    return [
        Contender("mapped", "map_with_state, local[2]", program, None, "engine", mapped),
        Contender(
            "on-disk", "the same, on disk with 16 MiB of cache each", program, None, "engine", on_disk, 1
        ),
        Contender("updated", "update_state_by_key, local[2]", program, None, "engine", updated),
        Contender(
            "pyspark", "PySpark updateStateByKey", "peers/pyspark/keyed_state.py", "pyspark", "peer", spark, 1
        ),
    ], keys + batches * touched


BENCHMARK = Benchmark(
    "P5",
    "1 M keys of state, 1 000 touched a batch, processing time",
    "processing time of a batch as each engine's listener reports it, with a count of its output; the first "
    "batch, which makes all the keys, is shown apart. map_with_state sees the touched keys, and "
    "update_state_by_key by its definition all of them. Quick: 20 000 keys, 20 touched.",
    (
        Metric("p50_ms", "p50", "ms"),
        Metric("p95_ms", "p95", "ms"),
        Metric("max_ms", "max", "ms"),
        Metric("load_s", "first batch", "s"),
    ),
    (
        Target("map_with_state p50", "mapped", "p50_ms", 10.0, at_least=False),
        Target("update_state_by_key, times PySpark", "updated", "p50_ms", 10.0, against="pyspark"),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
