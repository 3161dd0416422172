"""Word count on Streamz, line by line; meant for a small input, for its speed does not depend on size."""

from __future__ import annotations

from typing import Any

from common.feeding import round_metrics
from common.program import digest_counts, package_version, parameters, report, stopwatch
from streamz import Stream

given = parameters()


def count(counts: dict[str, int], pair: tuple[str, int]) -> dict[str, int]:
    word, one = pair
    counts[word] = counts.get(word, 0) + one
    return counts


def main() -> None:
    source = Stream()
    latest: list[dict[str, int]] = [{}]
    words: Any = source.map(lambda line: line.split()).flatten().map(lambda word: (word, 1))
    # Streams hold what follows them weakly; a sink is held.
    words.accumulate(count, start={}).sink(lambda counts: latest.__setitem__(0, counts))
    started = stopwatch()
    for path in given["files"]:
        with open(path, encoding="utf-8") as file:
            for line in file:
                source.emit(line)
    seconds = stopwatch() - started
    report(
        answer=digest_counts(latest[0]),
        version=package_version("streamz"),
        metrics=round_metrics(given["words"], [(seconds, seconds)]),
    )


main()
