"""A keyed running count of a steady trickle on Bytewax: the age of each result."""

from __future__ import annotations

import socket
import time
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from common.feeder import event_feeder
from common.program import digest_counts, package_version, parameters, report
from common.statistics import latency_metrics

given = parameters()


class SocketLines(StatefulSourcePartition[str, int]):
    """Waits in ``recv`` for the next lines, which gives Bytewax its shortest latency."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._rest = b""

    def next_batch(self) -> list[str]:
        data = self._socket.recv(65_536)
        if not data:
            raise StopIteration
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line.decode() for line in lines]

    def snapshot(self) -> int:
        return 0

    def close(self) -> None:
        self._socket.close()


class SocketSource(FixedPartitionedSource[str, int]):
    def __init__(self, port: int) -> None:
        self._port = port

    def list_parts(self) -> list[str]:
        return ["socket"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> SocketLines:
        return SocketLines(self._port)


class Results(StatelessSinkPartition[Any]):
    def __init__(self, counts: dict[str, int], ages_s: list[float]) -> None:
        self._counts = counts
        self._ages_s = ages_s

    def write_batch(self, items: list[Any]) -> None:
        for key, (count, stamp) in items:
            self._counts[key] = count
            self._ages_s.append((time.monotonic_ns() - stamp) / 1e9)


class ResultSink(DynamicSink[Any]):
    def __init__(self, *parts: Any) -> None:
        self._parts = parts

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Results:
        return Results(*self._parts)


def parse(line: str) -> tuple[str, int]:
    key, stamp = line.split()
    return key, int(stamp)


def running_count(count: int | None, stamp: int) -> tuple[int, tuple[int, int]]:
    count = (count or 0) + 1
    return count, (count, stamp)


def main() -> None:
    counts: dict[str, int] = {}
    ages_s: list[float] = []
    with event_feeder(given["rate"], given["events"]) as port:
        flow = Dataflow("latency")
        pairs = op.map("parse", op.input("lines", flow, SocketSource(port)), parse)
        op.output("out", op.stateful_map("count", pairs, running_count), ResultSink(counts, ages_s))
        run_main(flow)
    report(
        answer=digest_counts(counts),
        version=package_version("bytewax"),
        metrics=latency_metrics(ages_s[given["rate"] :]),
    )


main()
