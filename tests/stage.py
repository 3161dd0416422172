"""A stream under a manual clock, played batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiostream_engine import DStream, StreamingContext
from aiostream_engine.observe.events import Event
from aiostream_engine.testing import ManualClock, ScriptedSource
from aiostream_engine.testing.source import ScriptItem
from aiostream_engine.types import BatchTime, ContextState

DEADLINE_S = 20.0


class Stage:
    """A context with scripted sources, its clock, and what came out of it.

    ``seen`` has the records of :meth:`look` by label, ``events`` all events in order.
    """

    def __init__(
        self, *scripts: Sequence[ScriptItem], interval: float = 1.0, partitions: int = 2, **options: Any
    ) -> None:
        self.clock = ManualClock()
        self.interval = interval
        options = {"master": "local", "stop_when_finished": False, **options}
        self.ssc = StreamingContext(interval, clock=self.clock, **options)
        self.sources = [
            ScriptedSource(script, name=f"input {number}", partitions=partitions)
            for number, script in enumerate(scripts or [()])
        ]
        self.streams = [self.ssc.from_source(source) for source in self.sources]
        self.seen: dict[BatchTime, list[Any]] = {}
        self.events: list[Event] = []
        self.ssc.add_listener(self.events.append)

    @property
    def stream(self) -> DStream[Any]:
        return self.streams[0]

    @property
    def commits(self) -> list[BatchTime]:
        return self.sources[0].commits

    def look(self, stream: DStream[Any]) -> None:
        """Keep what ``stream`` gives for each batch."""

        async def keep(rdd: Any, time: BatchTime) -> None:
            self.seen[time] = await rdd.collect()

        stream.foreach_rdd(keep, name="look")

    @property
    def records(self) -> list[list[Any]]:
        return [self.seen[time] for time in sorted(self.seen)]

    async def batch(self, count: int = 1) -> None:
        """Let ``count`` intervals pass, each with its batch to the end."""
        for _ in range(count):
            before = len(self.commits)
            await self.clock.advance(self.interval)
            await self.until(lambda: len(self.commits) > before)  # noqa: B023

    async def until(self, condition: Any) -> None:
        """Wait until ``condition()`` or the end of the stream."""
        await self.clock.until(
            lambda: condition() or self.ssc.state is ContextState.STOPPED, timeout_s=DEADLINE_S
        )

    async def stopped(self) -> None:
        """Wait until the stream has ended by itself."""
        await self.clock.until(lambda: self.ssc.state is ContextState.STOPPED, timeout_s=DEADLINE_S)

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Stage]:
        async with self.ssc:
            await self.ssc.start()
            yield self

    async def play(self, batches: int) -> None:
        """Start, run so many batches, stop at once; raise what made the stream fail."""
        async with self.started():
            await self.batch(batches)
        await self.ssc.await_termination()


class Letters:
    """What a step gave up."""

    def __init__(self, stream: Any) -> None:
        self.found: list[Any] = []
        stream.dead_letters().foreach_rdd(self._keep)

    async def _keep(self, rdd: Any, time: Any) -> None:
        self.found += await rdd.collect()

    @property
    def values(self) -> dict[Any, Counter[Any]]:
        """The values of each key."""
        return {letter.record[0]: Counter(letter.record[1]) for letter in self.found}
