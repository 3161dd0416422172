"""P11: time per record and memory of the driver as a batch grows from ten records to ten millions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender

SIZES = (10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
NAMES = ("10", "100", "1k", "10k", "100k", "1M", "10M")


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    sizes = SIZES[:6] if options.quick else SIZES
    return [
        Contender(
            NAMES[number],
            f"{NAMES[number]} records, local[2]",
            "engine/growing_batch.py",
            None,
            "engine",
            {"records": size, "partitions": 4, "master": "local[2]"},
        )
        for number, size in enumerate(sizes)
    ], 1.0


BENCHMARK = Benchmark(
    "P11",
    "cost as the batch grows, shuffled texts of 32 characters",
    "one job from its first task to its count in the driver, after a warm-up job of 10 records; small sizes "
    "are the mean of up to 50 jobs. Memory is the resident size of the driver after the job.",
    (
        Metric("us_per_record", "time per record", "µs"),
        Metric("seconds", "time", "s"),
        Metric("driver_rss_mb", "driver", "MB"),
        Metric("driver_growth_mb", "driver growth", "MB"),
    ),
    (
        *(
            Target(
                f"time per record: {larger} no more than {smaller}", larger, "us_per_record", 0.95, smaller
            )
            for smaller, larger in itertools.pairwise(NAMES[:5])
        ),
        Target("plateau: 1M as good as 100k", "1M", "us_per_record", 0.8, "100k"),
        Target("plateau: 10M as good as 1M", "10M", "us_per_record", 0.8, "1M"),
        Target("driver growth at 10M, MB", "10M", "driver_growth_mb", 32.0, at_least=False),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
