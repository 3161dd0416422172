"""What becomes of records that are given up when the stream, its sinks or its driver fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine import StreamingContext
from aiostream_engine.config import CheckpointConfig, CircuitBreakerConfig
from aiostream_engine.errors import AiostreamError, CircuitBreakerError, SinkError
from aiostream_engine.sinks.base import PlainSink, Records, WriteKey
from aiostream_engine.testing import ManualClock, ScriptedReplayableSource
from aiostream_engine.types import ContextState
from tests.faults.world import KEY, Outside, StagingSink
from tests.stage import Stage

pytestmark = pytest.mark.faults


class Run:
    """A stream of texts that are parsed, with a directory to go on from."""

    def __init__(self, directory: Path, items: list[list[str]]) -> None:
        self.directory, self.items = directory, items
        self.outside = Outside()
        self.time_s = 0.0

    async def run(self, parse: Callable[[str], int], upto: int) -> AiostreamError | None:
        """One life of a driver; gives what it failed with."""
        clock = ManualClock(self.time_s)
        ssc = StreamingContext(
            1.0,
            "local",
            clock=clock,
            checkpoint=CheckpointConfig(str(self.directory), key=KEY),
            circuit_breaker=CircuitBreakerConfig(share_max=0.5, window_batches=2, records_min=20),
            stop_when_finished=False,
        )
        source = ScriptedReplayableSource(self.items, name="script")
        parsed = ssc.from_source(source).map(parse, name="parse", on_error="dead-letter")
        parsed.to(StagingSink(self.outside, "numbers"))
        parsed.dead_letters().map(lambda letter: letter.record).to(StagingSink(self.outside, "letters"))

        def over() -> bool:
            return ssc.state is ContextState.STOPPED or bool(source.commits and source.commits[-1] >= upto)

        try:
            async with ssc:
                await ssc.start()
                while not over():
                    before = len(source.commits)
                    await clock.advance(1.0)
                    await clock.until(lambda: over() or len(source.commits) > before, timeout_s=20)  # noqa: B023
            await ssc.await_termination()
        except AiostreamError as error:
            return error
        finally:
            self.time_s = clock.time()
        return None

    def written(self, sink: str) -> list[Any]:
        parts = [records for (name, _), records in self.outside.outputs().items() if name == sink]
        return sorted(record for records in parts for record in records)


async def test_a_broken_circuit_loses_nothing_and_the_repaired_program_goes_on_with_the_same_batch(
    tmp_path: Path,
) -> None:
    """F15, B5: the producer changed its format; of the batch that showed it nothing is given up."""
    plain = [[f"{10 * batch + n}" for n in range(10)] for batch in range(3)]
    changed = [[f"n={10 * batch + n}" for n in range(10)] for batch in range(3, 6)]
    run = Run(tmp_path / "checkpoint", [*plain, *changed])
    error = await run.run(int, 6000)
    assert isinstance(error, CircuitBreakerError)
    before = run.written("letters")
    assert len(before) == 10  # of the one batch in which half the window was still good
    assert run.written("numbers") == list(range(30))
    error = await run.run(lambda text: int(text.removeprefix("n=")), 6000)
    assert error is None
    assert run.written("letters") == before
    assert run.written("numbers") == [*range(30), *range(40, 60)]


class Down(PlainSink):
    """Takes nothing."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def write(self, key: WriteKey, records: Records) -> None:
        async for _ in records:
            raise SinkError("the dead-letter queue is down")


async def test_dead_letters_that_cannot_be_written_stop_the_stream_and_the_batch_is_not_committed() -> None:
    """F13: nothing is dropped in silence."""
    stage = Stage([["1"], ["2", "x"], ["3"]])
    parsed = stage.stream.map(int, name="parse", on_error="dead-letter")
    stage.look(parsed)
    parsed.dead_letters().to(Down("letters"))
    with pytest.raises(SinkError, match="dead-letter queue is down"):
        await stage.play(3)
    assert stage.commits == [1000]
