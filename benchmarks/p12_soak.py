"""P12: ten thousand batches, and nothing grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    parameters = {"batches": options.size(10_000, 1_000), "interval_s": 0.01}
    return [
        Contender(
            key,
            f"aiostream_engine, {master}",
            "engine/soak.py",
            None,
            "engine",
            {**parameters, "master": master},
            1,
        )
        for key, master in (("engine", "local[2]"), ("inline", "local"))
    ], True


BENCHMARK = Benchmark(
    "P12",
    "10 000 batches with shuffle and state",
    "growth from the first fifth of the batches, when caches have filled, to the end; descriptors and "
    "workers' memory are sums over driver and workers, files are those in shared memory. Interval 10 ms.",
    (
        Metric("driver_growth_percent", "driver", "% growth"),
        Metric("workers_growth_percent", "workers", "% growth"),
        Metric("descriptors_growth", "descriptors", "more"),
        Metric("tasks_growth", "tasks", "more"),
        Metric("files_growth", "files", "more"),
        Metric("driver_mb", "driver", "MB"),
        Metric("workers_mb", "workers", "MB"),
        Metric("batches_per_s", "rate", "batches/s", more_is_better=True),
    ),
    (
        Target("driver memory, % growth", "engine", "driver_growth_percent", 2.0, at_least=False),
        Target("workers' memory, % growth", "engine", "workers_growth_percent", 2.0, at_least=False),
        Target("descriptors", "engine", "descriptors_growth", 2.0, at_least=False),
        Target("tasks", "engine", "tasks_growth", 2.0, at_least=False),
        Target("files in shared memory", "engine", "files_growth", 4.0, at_least=False),
        Target("inline: driver memory, % growth", "inline", "driver_growth_percent", 2.0, at_least=False),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
