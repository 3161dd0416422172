"""The same map with ``ProcessPoolExecutor``: what two processes give by hand."""

from __future__ import annotations

import platform
from concurrent.futures import ProcessPoolExecutor

from common.program import parameters, report, stopwatch


def heavy(numbers: range) -> int:
    return sum(sum(range(20_000)) + number for number in numbers)


def main() -> None:
    given = parameters()
    records, partitions = given["records"], given["partitions"]
    parts = [
        range(records * part // partitions, records * (part + 1) // partitions) for part in range(partitions)
    ]
    with ProcessPoolExecutor(given["workers"]) as pool:
        list(pool.map(heavy, [range(8)] * 4))
        started = stopwatch()
        answer = sum(pool.map(heavy, parts))
        seconds = stopwatch() - started
    report(
        answer=answer,
        version=platform.python_version(),
        metrics={"records_per_s": records / seconds},
    )


if __name__ == "__main__":
    main()
