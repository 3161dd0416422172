"""P16: a worker is killed: how long until the next good batch?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    parameters = {
        "records": 10_000,
        "interval_s": 0.1,
        "master": "local[2]",
        "kills": 3 if options.quick else 10,
        "seed": 20130,
    }
    ours = Contender(
        "engine", "aiostream_engine, local[2]", "engine/worker_kill.py", None, "engine", parameters
    )
    return [ours], 0


BENCHMARK = Benchmark(
    "P16",
    "worker SIGKILL to next good batch, 100 ms interval",
    "from the signal to one of two workers, at random moments, until the output of the first batch that was "
    "cut after it is in the driver: so with the waiting for that cut. All counts of a keyed state must be "
    "right in every batch. No peer: a kill of a Python worker makes Spark's local mode fail the batch.",
    (
        Metric("p50_ms", "p50", "ms"),
        Metric("p95_ms", "p95", "ms"),
        Metric("max_ms", "max", "ms"),
    ),
    (Target("next good batch, slowest", "engine", "max_ms", 1000.0, at_least=False),),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
