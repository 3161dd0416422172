"""P6: a long window with an inverse function must not cost more per slide than a short one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender
from common.program import digest_counts

KEYS = 1000


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    slide_s = 0.05 if options.quick else 1.0
    records = options.size(20_000, 5_000)
    common = {"slide_s": slide_s, "records": records, "keys": KEYS, "slides": 30, "master": "local[2]"}
    answer = digest_counts(Counter(f"key-{number % KEYS}" for number in range(records)))
    return [
        _window("w10", "window of 10 slides", 10 * slide_s, common),
        _window("w60", "window of 60 slides", 60 * slide_s, common),
    ], answer


def _window(key: str, name: str, window_s: float, common: dict[str, Any]) -> Contender:
    parameters = {**common, "window_s": window_s}
    return Contender(key, f"{name}, local[2]", "engine/window.py", None, "engine", parameters)


BENCHMARK = Benchmark(
    "P6",
    "window 60 s / 1 s with inverse function, against 10 s / 1 s",
    "processing time of the 30 slides after the window is full; 20 000 records a slide over 1 000 keys, "
    "result collected. Quick: 5 000 records and slides of 50 ms, so windows of 0.5 s and 3 s. No "
    "peer: the claim is about growth.",
    (Metric("p50_ms", "p50", "ms"), Metric("p95_ms", "p95", "ms"), Metric("max_ms", "max", "ms")),
    (Target("cost of a slide, 60 s to 10 s", "w10", "p50_ms", 1.5, against="w60", at_least=False),),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
