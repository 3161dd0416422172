"""A keyed running count of a steady trickle on Pathway: the age of each result."""

from __future__ import annotations

import os

os.environ["PATHWAY_THREADS"] = "2"

import socket
import time

import pathway as pw
from common.feeder import event_feeder
from common.program import digest_counts, parameters, report
from common.statistics import latency_metrics

given = parameters()


class Event(pw.Schema):
    key: str
    stamp: int


class SocketEvents(pw.io.python.ConnectorSubject):
    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def run(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            rest = b""
            while data := connection.recv(65_536):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    key, stamp = line.decode().split()
                    self.next(key=key, stamp=int(stamp))


def main() -> None:
    counts: dict[str, int] = {}
    ages_s: list[float] = []

    def keep(key: object, row: dict[str, object], time_: int, is_addition: bool) -> None:
        if is_addition:
            counts[str(row["key"])] = int(row["count"])  # type: ignore[call-overload]
            ages_s.append((time.monotonic_ns() - int(row["stamp"])) / 1e9)  # type: ignore[call-overload]

    def subscriber(key: object, row: dict[str, object], time: int, is_addition: bool) -> None:
        keep(key, row, time, is_addition)

    with event_feeder(given["rate"], given["events"]) as port:
        events = pw.io.python.read(SocketEvents(port), schema=Event, autocommit_duration_ms=5)
        running = events.groupby(pw.this.key).reduce(
            pw.this.key, count=pw.reducers.count(), stamp=pw.reducers.max(pw.this.stamp)
        )
        pw.io.subscribe(running, subscriber)
        pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    report(
        answer=digest_counts(counts),
        version=pw.__version__,
        metrics=latency_metrics(ages_s[given["rate"] :]),
        results=len(ages_s),
    )


main()
