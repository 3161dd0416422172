"""A small world around a stream: what it reads, what it writes to, and what must come of it.

The outside (script, sinks) survives the driver; a driver is a :class:`StreamingContext` with a manual
clock that goes on where the last one was, so that each script item always has the same label, and
each label's output can be compared with that of a run in which nothing failed.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiostream_engine.config import CheckpointConfig, SchedulerConfig, StateConfig
from aiostream_engine.context import StreamingContext
from aiostream_engine.dstream import DStream
from aiostream_engine.durable.files import Files
from aiostream_engine.errors import AiostreamError
from aiostream_engine.sinks.base import IdempotentSink, Records, TransactionalSink, WriteKey
from aiostream_engine.testing import ManualClock, ScriptedReplayableSource, use_files
from aiostream_engine.types import BatchTime, ContextState

INTERVAL_S = 1.0
KEY = b"a key for tests, not a secret"


class Crash(Exception):
    """Stands for the end of the driver at some place."""


Outputs = dict[tuple[str, int], list[Any]]  # sink, label -> records in any order


async def _all(records: Records) -> list[Any]:
    return [record async for chunk in records for record in chunk]


@dataclass
class Outside:
    """Systems that the stream writes to: they do not die with it, and see every write."""

    by_key: dict[tuple[str, BatchTime, int], tuple[int, list[Any]]] = field(default_factory=dict)
    staged: dict[tuple[str, int, int], list[Any]] = field(default_factory=dict)
    published: dict[tuple[str, int], list[Any]] = field(default_factory=dict)
    is_off: bool = False
    rewritten: int = 0

    def check_power(self) -> None:
        """A driver without power reaches nobody."""
        if self.is_off:
            raise ConnectionError("the driver has no power")

    def outputs(self) -> Outputs:
        """What readers see, by sink and label."""
        outputs: Outputs = {key: list(records) for key, records in self.published.items()}
        for (sink, time, _), (_, records) in self.by_key.items():
            outputs.setdefault((sink, int(time)), []).extend(records)
        return {key: sorted(records, key=repr) for key, records in outputs.items()}


class KeyedSink(IdempotentSink):
    """Keeps the first write of a key, and insists that a repetition has the same content."""

    concurrency_max = 4

    def __init__(self, outside: Outside, name: str) -> None:
        self.outside, self.name = outside, name

    async def write(self, key: WriteKey, records: Records) -> None:
        content = await _all(records)
        self.outside.check_power()
        place = (key.sink, key.time, key.partition)
        known = self.outside.by_key.setdefault(place, (key.partitions, content))
        if known[1] is not content:
            self.outside.rewritten += 1
        assert known[0] == key.partitions, f"{key} was written with {known[0]} partitions before"
        assert sorted(known[1], key=repr) == sorted(content, key=repr), f"{key} had another content before"


class StagingSink(TransactionalSink):
    """Stages under the key, publishes by batch."""

    def __init__(self, outside: Outside, name: str) -> None:
        self.outside, self.name = outside, name

    async def stage(self, key: WriteKey, records: Records) -> Any:
        content = await _all(records)
        self.outside.check_power()
        token = [self.name, key.batch_id, key.partition]
        self.outside.staged[self.name, key.batch_id, key.partition] = content
        return token

    async def commit(self, batch_id: int, time: BatchTime, tokens: Sequence[Any]) -> None:
        self.outside.check_power()
        records = []
        for token in tokens:
            staged = self.outside.staged.get(tuple(token))
            if staged is None:
                assert (self.name, int(time)) in self.outside.published, f"{token} was never staged"
                return
            records += staged
        self.outside.published.setdefault((self.name, int(time)), records)
        for token in tokens:
            del self.outside.staged[tuple(token)]

    async def abort(self, batch_id: int, tokens: Sequence[Any]) -> None:
        for token in tokens:
            self.outside.staged.pop(tuple(token), None)


def running_sum(key: int, value: int, state: Any) -> list[int]:
    """One record for each: key, value, sum so far."""
    state.update(state.get(0) + value)
    return [key, value, state.get()]


def script(batches: int, records: int = 6) -> list[list[tuple[int, int]]]:
    """Pairs, some batches without any."""
    return [
        [((batch * records + number) % 5, batch * records + number) for number in range(records)]
        if batch % 4 != 3
        else []
        for batch in range(batches)
    ]


def standard_program(pairs: DStream[Any], outside: Outside) -> None:
    """Keyed sums to both kinds of sinks, a window with an inverse, a plain one, and a shuffle."""
    pairs.reduce_by_key(operator.add).to(KeyedSink(outside, "reduced"))
    sums = pairs.map_with_state(running_sum, name="sums")
    sums.to(KeyedSink(outside, "keyed"))
    sums.to(StagingSink(outside, "staged"))
    totals = pairs.reduce_by_key_and_window(operator.add, operator.sub, 3.0, 1.0, name="totals")
    totals.to(KeyedSink(outside, "totals"))
    pairs.window(2.0, 2.0, name="pairs of two").count().to(StagingSink(outside, "counts"))


Program = Callable[[DStream[Any], Outside], None]


@dataclass
class World:
    """A script, the program, and the outside."""

    directory: str
    items: Sequence[Any]
    outside: Outside = field(default_factory=Outside)
    program: Program = standard_program
    source_name: str = "script"
    master: str = "local"
    parallelism: int = 2
    time_s: float = 0.0
    errors: list[BaseException] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    state: StateConfig | None = None
    # A label for each item: none is left out.
    scheduler: SchedulerConfig = field(default_factory=lambda: SchedulerConfig(missed_ticks="every"))

    async def run(self, files: Files | None = None, *, upto: int | None = None) -> BaseException | None:
        """One life of a driver: until ``upto`` items of the script are committed, or it fails."""
        end = len(self.items) if upto is None else upto
        clock = ManualClock(self.time_s)
        config = CheckpointConfig(self.directory, key=KEY, **self.config)
        ssc = StreamingContext(
            INTERVAL_S,
            self.master,
            parallelism=self.parallelism,
            checkpoint=config,
            state=self.state,
            clock=clock,
            scheduler=self.scheduler,
            stop_when_finished=False,
        )
        if files is not None:
            use_files(ssc, files)
        source = ScriptedReplayableSource(self.items, name=self.source_name, partitions=2)
        self.program(ssc.from_source(source), self.outside)
        try:
            async with ssc:
                await ssc.start()
                await self._play(ssc, clock, source, end)
            await ssc.await_termination()
        except (AiostreamError, ConnectionError, AssertionError, Crash) as error:
            self.errors.append(error)
            return error
        return None

    async def _play(
        self, ssc: StreamingContext, clock: ManualClock, source: ScriptedReplayableSource, end: int
    ) -> None:
        def over() -> bool:
            return ssc.state is ContextState.STOPPED or self.committed(source) >= end

        while not over():
            before = len(source.commits)
            await clock.advance(INTERVAL_S)
            await clock.until(lambda: over() or len(source.commits) > before, timeout_s=20)  # noqa: B023
            self.time_s = max([self.time_s, *(int(time) / 1000 for time in source.commits)])

    def outputs(self) -> Outputs:
        """What readers see of the script; a batch behind its end may have been begun."""
        end = len(self.items) * int(INTERVAL_S * 1000)
        return {key: records for key, records in self.outside.outputs().items() if key[1] <= end}

    def committed(self, source: ScriptedReplayableSource) -> int:
        """How many items are in batches that are true; each label is one item."""
        return int(max(source.commits, default=0)) // int(INTERVAL_S * 1000)


async def expected_outputs(directory: str, items: Sequence[Any], **options: Any) -> Outputs:
    """What comes of a script when nothing fails."""
    world = World(directory, items, **options)
    error = await asyncio.wait_for(world.run(), 60)
    assert error is None, error
    return world.outputs()
