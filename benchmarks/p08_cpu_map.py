"""P8: a CPU-bound map on two workers against one, beside a hand-made process pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    records = options.size(20_000, 2_000)
    common = {"records": records, "partitions": 8}
    contenders = []
    for workers in (2, 1):
        ours = {**common, "master": f"local[{workers}]"}
        contenders.append(
            Contender(
                f"engine{workers}",
                f"aiostream_engine, local[{workers}]",
                "engine/cpu_map.py",
                None,
                "engine",
                ours,
            )
        )
    for workers in (2, 1):
        name = f"floor: ProcessPoolExecutor({workers})"
        by_hand = {**common, "workers": workers}
        contenders.append(Contender(f"floor{workers}", name, "floors/cpu_map.py", None, "floor", by_hand))
    return contenders, records * sum(range(20_000)) + sum(range(records))


BENCHMARK = Benchmark(
    "P8",
    "CPU-bound map, sum(range(20000)) for each record",
    "the action sum() over the mapped range, in 8 partitions, after a warm-up of 8 records; start of the "
    "processes not included.",
    (Metric("records_per_s", "rate", "records/s", more_is_better=True),),
    (
        Target("two workers to one", "engine2", "records_per_s", 1.85, against="engine1"),
        Target("the same by hand (for comparison)", "floor2", "records_per_s", 1.85, against="floor1"),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
