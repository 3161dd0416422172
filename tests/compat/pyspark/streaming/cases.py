"""Waiting for batches, with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

DEADLINE_S = 30.0


class Batches:
    """What a stream gives, batch by batch."""

    def __init__(self, stream: Any) -> None:
        self.times: list[Any] = []
        self.contents: list[list[Any]] = []
        self._arrived = threading.Condition()
        stream.foreachRDD(self._add)

    def _add(self, moment: Any, rdd: Any) -> None:
        records = rdd.collect()
        with self._arrived:
            self.times.append(moment)
            self.contents.append(records)
            self._arrived.notify_all()

    def records(self) -> list[Any]:
        return [record for batch in self.contents for record in batch]

    def first(self, count: int) -> list[list[Any]]:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.contents) >= count, DEADLINE_S), self.contents
            return self.contents[:count]


def wait_for(condition: Callable[[], Any]) -> None:
    """Return when ``condition()`` is true, within the deadline."""
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until, "the condition did not come true"
        time.sleep(0.01)
