"""Word count by hand in two pinned processes: what an engine could at best cost nothing on top of.

Each process loops over its half of the files in one fused loop with the combining of equal keys,
hashes the counts to two segments, and writes them as files in shared memory; then each merges
the segments of its own hash; the parent collects. Only names pass through the pipes.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import platform
import tempfile
import zlib
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any

from common.feeding import round_metrics
from common.program import digest_counts, parameters, report, stopwatch

WORKERS = 2

split = lambda line: line.split()  # noqa: E731 (user functions are what is measured)
pair = lambda word: (word, 1)  # noqa: E731
add = lambda a, b: a + b  # noqa: E731


def read_text(path: str) -> str:
    with open(path, "rb") as file:
        return file.read().decode("utf-8")


def count_with_functions(paths: list[str]) -> dict[str, int]:
    counts: dict[str, Any] = {}
    for path in paths:
        for line in read_text(path).split("\n"):
            for word in split(line):
                key, value = pair(word)
                counts[key] = add(counts[key], value) if key in counts else value
    return counts


def count_built_in(paths: list[str]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for path in paths:
        counts.update(read_text(path).split())
    return counts


def write_segments(counts: dict[str, int], directory: str, mapper: int) -> list[str]:
    segments: list[dict[str, int]] = [{} for _ in range(WORKERS)]
    for word, count in counts.items():
        segments[zlib.crc32(word.encode()) % WORKERS][word] = count
    paths = [os.path.join(directory, f"map-{mapper}-{reducer}") for reducer in range(WORKERS)]
    for path, segment in zip(paths, segments, strict=True):
        with open(path, "wb") as file:
            pickle.dump(segment, file, protocol=5)
    return paths


def merge_segments(paths: list[str], directory: str, reducer: int) -> str:
    counts: dict[str, int] = {}
    for path in paths:
        with open(path, "rb") as file:
            for word, count in pickle.load(file).items():
                counts[word] = add(counts[word], count) if word in counts else count
    target = os.path.join(directory, f"reduce-{reducer}")
    with open(target, "wb") as file:
        pickle.dump(counts, file, protocol=5)
    return target


def work(connection: Connection, number: int, directory: str, built_in: bool) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})
    count = count_built_in if built_in else count_with_functions
    while True:
        stage, paths = connection.recv()
        if stage == "map":
            connection.send(write_segments(count(paths), directory, number))
        elif stage == "reduce":
            connection.send(merge_segments(paths, directory, number))
        else:
            return


def run_job(connections: list[Connection], files: list[str]) -> dict[str, int]:
    for number, connection in enumerate(connections):
        connection.send(("map", files[number::WORKERS]))
    segments = [connection.recv() for connection in connections]
    for number, connection in enumerate(connections):
        connection.send(("reduce", [paths[number] for paths in segments]))
    counts: dict[str, int] = {}
    for connection in connections:
        with open(connection.recv(), "rb") as file:
            counts.update(pickle.load(file))
    return counts


def main() -> None:
    given = parameters()
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(dir=given["scratch"]) as directory:
        connections = []
        for number in range(WORKERS):
            ours, theirs = fork.Pipe()
            fork.Process(
                target=work, args=(theirs, number, directory, given["built_in"]), daemon=True
            ).start()
            connections.append(ours)
        run_job(connections, given["files"][:1])
        seconds = []
        for _ in range(given["rounds"]):
            started = stopwatch()
            counts = run_job(connections, given["files"])
            seconds.append(stopwatch() - started)
        for connection in connections:
            connection.send(("stop", []))
    report(
        answer=digest_counts(counts),
        version=platform.python_version(),
        metrics=round_metrics(given["words"], [(elapsed, elapsed) for elapsed in seconds]),
    )


if __name__ == "__main__":
    main()
