"""P9: asynchronous enrichment with bounded concurrency, ordered and not, against the ideal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender

WAIT_S = 0.005
CONCURRENCY = 100


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    records = options.size(20_000, 4_000)
    common = {
        "records": records,
        "wait_s": WAIT_S,
        "concurrency": CONCURRENCY,
        "ideal_s": records * WAIT_S / CONCURRENCY,
        "warm_up": 200,
        "master": "local[2]",
    }
    contenders = []
    for loop, suffix in (("uvloop", ""), ("asyncio", "-asyncio")):
        for order, ordered in (("unordered", False), ("ordered", True)):
            parameters = {**common, "ordered": ordered, "loop": loop}
            name = f"map_async, {order}, {loop}"
            ours = Contender(order + suffix, name, "engine/async_map.py", None, "engine", parameters)
            contenders.append(ours)
        name, by_hand = f"floor: 100 plain tasks, {loop}", {**common, "loop": loop}
        contenders.append(Contender("floor" + suffix, name, "floors/async_map.py", None, "floor", by_hand))
    return contenders, sum(range(1, records + 1))


BENCHMARK = Benchmark(
    "P9",
    "map_async, 20 000 records x 5 ms, concurrency 100",
    "from queueing the records until their answers are in the driver, so with the wait for the next batch of "
    "50 ms; ideal is records x wait / concurrency (20 000: 1 s). asyncio's own loop wakes sleepers up "
    "to 1 ms late, as its floor shows. Quick: 4 000 records, where the wait for the batch weighs more.",
    (Metric("seconds", "time", "s"), Metric("times_ideal", "times ideal", "×")),
    (
        Target("times ideal, as completed, uvloop", "unordered", "times_ideal", 1.2, at_least=False),
        Target("times ideal, ordered, uvloop", "ordered", "times_ideal", 1.2, at_least=False),
        Target("ordered, as good as plain tasks", "ordered", "seconds", 0.9, against="floor"),
        Target(
            "asyncio: as good as plain tasks",
            "ordered-asyncio",
            "seconds",
            0.9,
            against="floor-asyncio",
        ),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
