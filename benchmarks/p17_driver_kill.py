"""P17: the driver is killed: how long until the first new batch, with a million keys of state?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender

PROGRAM = "engine/driver_kill.py"


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    common = {"keys": options.size(1_000_000, 20_000), "master": "local[2]"}
    ours = {**common, "interval_s": 0.1, "kills": 1 if options.quick else 3}
    # A batch of Spark's with a million keys takes some 10 s, as all keys are seen: it would fall behind.
    spark = {**common, "interval_s": 1.0 if options.quick else 15.0, "kills": 1}
    return [
        Contender(
            "mapped",
            "map_with_state, local[2]",
            PROGRAM,
            kind="engine",
            parameters={**ours, "operator": "map_with_state"},
            runs_max=1,
            on_disk=True,
        ),
        Contender(
            "updated",
            "update_state_by_key, local[2]",
            PROGRAM,
            kind="engine",
            parameters={**ours, "operator": "update_state_by_key"},
            runs_max=1,
            on_disk=True,
        ),
        Contender(
            "pyspark",
            "PySpark updateStateByKey, getOrCreate",
            "peers/pyspark/driver_kill.py",
            "pyspark",
            parameters=spark,
            runs_max=1,
            on_disk=True,
        ),
    ], "all counts right"


BENCHMARK = Benchmark(
    "P17",
    "driver SIGKILL to first new batch, 1 M keys of state",
    "from the signal until the counts of a file that came after it are out (of the engine: in a batch that "
    "is committed). The process is started again at once. Import: until the program and, of Spark, the "
    "virtual machine are loaded. The directory is on this disk, the input in memory. Interval 100 ms; Spark "
    "15 s, since its batches take that long. Each count must go on from the one before the kill.",
    (
        Metric("recovery_s", "after import", "s"),
        Metric("total_s", "from the kill", "s"),
        Metric("import_s", "of this, import", "s"),
    ),
    (
        Target("map_with_state, after import", "mapped", "recovery_s", 2.0, at_least=False),
        Target("update_state_by_key, after import", "updated", "recovery_s", 2.0, at_least=False),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
