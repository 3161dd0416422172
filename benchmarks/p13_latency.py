"""P13: latency with a batch as soon as there is data, beside Bytewax and Pathway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender
from common.feeder import expected_counts
from common.program import digest_counts

RATE = 1000


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    events = RATE * (5 if options.quick else 20)
    common = {"rate": RATE, "events": events}
    ours = "engine/latency.py"
    return [
        Contender("inline", "aiostream_engine, local", ours, None, "engine", {**common, "master": "local"}),
        Contender(
            "engine", "aiostream_engine, local[2]", ours, None, "engine", {**common, "master": "local[2]"}
        ),
        Contender("bytewax", "Bytewax, one worker", "peers/bytewax/latency.py", "bytewax", "peer", common),
        Contender("pathway", "Pathway, 5 ms commit", "peers/pathway/latency.py", "pathway", "peer", common),
    ], digest_counts(expected_counts(events))


BENCHMARK = Benchmark(
    "P13",
    "latency, 1 000 events/s over TCP, keyed running count",
    "age of each event from its sending by another process until its count is in the callback of the same "
    "process; first second left out. Bytewax waits in recv inside of its only thread, its best case. "
    "Pathway gives one result a key and commit, whose age is that of its newest event.",
    (
        Metric("p50_ms", "p50", "ms"),
        Metric("p95_ms", "p95", "ms"),
        Metric("p99_ms", "p99", "ms"),
        Metric("max_ms", "max", "ms"),
    ),
    (
        Target("inline: p50", "inline", "p50_ms", 1.0, at_least=False),
        Target("inline: p99", "inline", "p99_ms", 5.0, at_least=False),
        Target("pool: p50", "engine", "p50_ms", 2.0, at_least=False),
        Target("inline: times Pathway", "inline", "p50_ms", 1.0, against="pathway"),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
