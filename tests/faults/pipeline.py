"""A stream that is put on one engine after the other, and goes on from its directory each time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiostream_engine import EngineContext, StreamingContext
from aiostream_engine.config import CheckpointConfig
from aiostream_engine.testing import ManualClock, ScriptedReplayableSource
from tests.faults.world import KEY, Outputs, Outside, standard_program

Items = Sequence[Sequence[tuple[int, int]]]


class Pipeline:
    """A stream that goes on from its directory each time it is put on an engine."""

    def __init__(self, directory: Path | None, items: Items) -> None:
        self.directory, self.items, self.outside = directory, items, Outside()
        self.clock = ManualClock()
        self.time_s = 0.0
        self.labels: list[int] = []

    def put_on(self, engine: EngineContext) -> StreamingContext:
        self.clock = ManualClock(self.time_s)
        checkpoint = None if self.directory is None else CheckpointConfig(str(self.directory), key=KEY)
        self.ssc = StreamingContext(
            1.0, engine=engine, clock=self.clock, checkpoint=checkpoint, stop_when_finished=False
        )
        self.source = ScriptedReplayableSource(self.items, name="script", partitions=2)
        standard_program(self.ssc.from_source(self.source), self.outside)
        return self.ssc

    async def batch(self) -> None:
        before = len(self.source.commits)
        await self.clock.advance(1.0)
        await self.clock.until(lambda: len(self.source.commits) > before, timeout_s=20)
        self.labels.append(int(self.source.commits[-1]))
        self.time_s = self.clock.time()

    def outputs(self) -> Outputs:
        return {key: records for key, records in self.outside.outputs().items() if records}

    def written_sums(self) -> list[Any]:
        """All records of the step ``sums``."""
        return sorted(
            record for (sink, _), part in self.outputs().items() if sink == "keyed" for record in part
        )


def sums(items: Items) -> list[list[int]]:
    """What the step ``sums`` must give for each record."""
    totals: dict[int, int] = {}
    rows = []
    for key, value in (pair for item in items for pair in item):
        totals[key] = totals.get(key, 0) + value
        rows.append([key, value, totals[key]])
    return sorted(rows)


def numbered(first: int, batches: int) -> Items:
    return [[((batch * 4 + n) % 3, first + batch * 4 + n) for n in range(4)] for batch in range(batches)]
