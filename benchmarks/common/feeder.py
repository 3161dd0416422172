"""A TCP server on loopback that feeds one reader: a steady rate of stamped events, or a flood of lines.

Run as a program, so that it takes no time from the loop that is measured. The first line on its
standard output is its port. It serves one connection, then ends.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["event_feeder", "expected_counts", "flood_feeder"]

KEYS = 100
FLOOD_LINE = b"the quick brown fox jumps over the lazy dog 0123456789 abcdefg\n"


def expected_counts(events: int) -> dict[str, int]:
    """How often each key comes in ``events`` events."""
    return {f"k{key}": events // KEYS + (key < events % KEYS) for key in range(min(KEYS, events))}


@contextlib.contextmanager
def event_feeder(rate: float, events: int) -> Iterator[int]:
    """A feeder of ``events`` lines ``key monotonic_ns`` at ``rate`` a second; gives its port."""
    with _feeder({"rate": rate, "events": events}) as port:
        yield port


@contextlib.contextmanager
def flood_feeder(lines: int) -> Iterator[int]:
    """A feeder of ``lines`` lines of 63 bytes, as fast as they are taken; gives its port."""
    with _feeder({"lines": lines}) as port:
        yield port


@contextlib.contextmanager
def _feeder(what: dict[str, Any]) -> Iterator[int]:
    command = [sys.executable, __file__, json.dumps(what)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def _serve(what: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        connection, _ = server.accept()
        with connection, contextlib.suppress(ConnectionError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if "rate" in what:
                _send_events(connection, what["rate"], what["events"])
            else:
                _send_flood(connection, what["lines"])
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)  # stay until the reader is done


def _send_events(connection: socket.socket, rate: float, events: int) -> None:
    started = time.monotonic()
    for number in range(events):
        wait = started + number / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        connection.sendall(b"k%d %d\n" % (number % KEYS, time.monotonic_ns()))


def _send_flood(connection: socket.socket, lines: int) -> None:
    block = FLOOD_LINE * 65_536
    view = memoryview(block)
    left = lines * len(FLOOD_LINE)
    while left:
        sent = connection.send(view[: min(left, len(block))])
        while sent % len(FLOOD_LINE):  # the next block begins with a line
            sent += connection.send(view[sent : sent + len(FLOOD_LINE) - sent % len(FLOOD_LINE)])
        left -= sent


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
