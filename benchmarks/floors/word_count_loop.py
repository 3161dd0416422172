"""Word count by hand in one process: a loop over user functions, or ``Counter`` over whole files."""

from __future__ import annotations

import platform
from collections import Counter
from typing import Any

from common.feeding import round_metrics
from common.program import digest_counts, parameters, report, stopwatch

given = parameters()

split = lambda line: line.split()  # noqa: E731 (user functions are what is measured)
pair = lambda word: (word, 1)  # noqa: E731
add = lambda a, b: a + b  # noqa: E731


def count_with_functions(paths: list[str]) -> dict[str, int]:
    counts: dict[str, Any] = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                for word in split(line):
                    key, value = pair(word)
                    counts[key] = add(counts[key], value) if key in counts else value
    return counts


def count_whole(paths: list[str]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for path in paths:
        with open(path, encoding="utf-8") as file:
            counts.update(file.read().split())
    return counts


def main() -> None:
    count = count_whole if given["built_in"] else count_with_functions
    started = stopwatch()
    counts = count(given["files"])
    seconds = stopwatch() - started
    report(
        answer=digest_counts(counts),
        version=platform.python_version(),
        metrics=round_metrics(given["words"], [(seconds, seconds)]),
    )


main()
