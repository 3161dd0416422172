"""P7: text from a TCP socket at full speed, counted, while the event loop stays responsive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    lines = options.size(60_000_000, 3_000_000)
    parameters = {"lines": lines, "interval_s": 0.2, "master": "local[2]"}
    return [
        Contender(
            "engine", "aiostream_engine, local[2]", "engine/socket_count.py", None, "engine", parameters
        ),
        Contender("receive", "floor: receive and count", "floors/receive_only.py", None, "floor", parameters),
        Contender(
            "readline", "floor: readline loop", "floors/readline_count.py", None, "floor", parameters, 1
        ),
    ], lines


BENCHMARK = Benchmark(
    "P7",
    "socket text -> count",
    "from start() until the last line is counted, with connecting and waiting for the last batch of 0.2 s; "
    "lines of 63 bytes from another process on loopback, which shares the two cores. The canary sleeps 1 ms "
    "again and again on the engine's loop and notes how late it wakes. Rate control off.",
    (
        Metric("mb_per_s", "rate", "MB/s", more_is_better=True),
        Metric("lines_per_s", "lines", "lines/s", more_is_better=True),
        Metric("canary_p99_ms", "canary p99", "ms"),
        Metric("canary_max_ms", "canary max", "ms"),
    ),
    (
        Target("MB/s", "engine", "mb_per_s", 400.0),
        Target("canary delay p99", "engine", "canary_p99_ms", 20.0, at_least=False),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
