"""Grep by hand in two pinned processes over the same files, with a user function for each record."""

from __future__ import annotations

import multiprocessing
import os
import platform
from multiprocessing.connection import Connection

from common.feeding import round_metrics
from common.program import parameters, report, stopwatch

WORKERS = 2

matches = lambda line: "ERROR" in line  # noqa: E731 (a user function is what is measured)


def count_matches(path: str) -> int:
    with open(path, "rb") as file:
        lines = file.read().decode("utf-8").split("\n")
    count = 0
    for line in lines:
        if matches(line):
            count += 1
    return count


def work(connection: Connection, number: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})
    while (paths := connection.recv()) is not None:
        connection.send(sum(map(count_matches, paths)))


def run_job(connections: list[Connection], files: list[str]) -> int:
    for number, connection in enumerate(connections):
        connection.send(files[number::WORKERS])
    return sum(connection.recv() for connection in connections)


def main() -> None:
    given = parameters()
    fork = multiprocessing.get_context("fork")
    connections = []
    for number in range(WORKERS):
        ours, theirs = fork.Pipe()
        fork.Process(target=work, args=(theirs, number), daemon=True).start()
        connections.append(ours)
    run_job(connections, given["files"])
    seconds = []
    for _ in range(given["rounds"]):
        started = stopwatch()
        answer = run_job(connections, given["files"])
        seconds.append(stopwatch() - started)
    for connection in connections:
        connection.send(None)
    report(
        answer=answer,
        version=platform.python_version(),
        metrics=round_metrics(given["lines"], [(elapsed, elapsed) for elapsed in seconds], unit="records"),
    )


if __name__ == "__main__":
    main()
