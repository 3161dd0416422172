"""P4: a 10 ms interval held for a minute at 1 000 events a second, and what an idle one costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender
from common.feeder import expected_counts
from common.program import digest_counts

RATE = 1000


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    events = RATE * (5 if options.quick else 60)
    answer = digest_counts(expected_counts(events))
    parameters = {
        "rate": RATE,
        "events": events,
        "interval_s": 0.01,
        "seconds": 5 if options.quick else 20,
        "answer": answer,
    }
    pool, inline = {**parameters, "master": "local[2]"}, {**parameters, "master": "local"}
    return [
        Contender("engine", "aiostream_engine, local[2]", "engine/steady_ticks.py", None, "engine", pool),
        Contender("inline", "aiostream_engine, local", "engine/steady_ticks.py", None, "engine", inline),
        Contender("idle", "no data, local[2]", "engine/idle.py", None, "engine", pool),
        Contender("idle-inline", "no data, local", "engine/idle.py", None, "engine", inline),
        Contender(
            "idle-checkpoint",
            "no data, local[2], checkpoint directory",
            "engine/idle.py",
            kind="engine",
            parameters={**pool, "checkpoint": True},
            on_disk=True,
        ),
        Contender("ticks", "floor: asyncio.sleep in a loop", "floors/bare_ticks.py", None, "floor", pool),
    ], answer


BENCHMARK = Benchmark(
    "P4",
    "10 ms interval, 1 000 events/s over TCP, keyed count",
    "age of each event from its sending by another process until its count is in the driver, so with half an "
    "interval of waiting, first second left out. Drift is how much later than its label a batch is cut in "
    "the last tenth than in the first. Idle is processor time of driver and workers, as a share of one "
    "core. No peer: Spark DStreams cannot hold this interval (see P3).",
    (
        Metric("p50_ms", "age p50", "ms"),
        Metric("p99_ms", "age p99", "ms"),
        Metric("scheduling_p99_ms", "scheduling delay p99", "ms"),
        Metric("drift_ms", "drift", "ms"),
        Metric("ticks_coalesced", "ticks coalesced", "ticks"),
        Metric("idle_percent", "idle", "% of a core"),
    ),
    (
        Target("scheduling delay p99", "engine", "scheduling_p99_ms", 10.0, at_least=False),
        Target("drift", "engine", "drift_ms", 1.0, at_least=False),
        Target("end to end p50", "engine", "p50_ms", 10.0, at_least=False),
        Target("no data: share of one core, %", "idle", "idle_percent", 3.0, at_least=False),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
