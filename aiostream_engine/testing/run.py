"""Run a stream graph over given batches, in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..context import StreamingContext
from ..dstream import DStream
from ..errors import OptionError
from ..types import BatchTime, ContextState
from .clock import ManualClock
from .source import ScriptedSource, ScriptItem

__all__ = ["run_batches"]


async def run_batches(
    build: Callable[..., DStream[Any]],
    *inputs: Sequence[ScriptItem],
    interval: float = 1.0,
    batches: int | None = None,
    partitions: int = 2,
    timeout_s: float = 30.0,
    **options: Any,
) -> list[list[Any] | None]:
    """What a graph gives for each batch of its inputs, under a clock that nobody waits for.

    Parameters
    ----------
    build: gets one stream for each input and returns the stream to look at; it may add outputs.
    inputs: for each input one list of records a batch, or the other items of a scripted source.
    interval: seconds of manual time from batch to batch.
    batches: how many to run; by default as many as the longest input has.
    partitions: blocks that the records of a batch are spread over.
    timeout_s: real seconds that one batch may take.
    options: passed to :class:`~aiostream_engine.context.StreamingContext`; ``master`` is ``local``
        (in this process) unless given.

    Returns, for each batch, the records of the stream in order, or None where it is not due.
    Raises what makes the stream fail, and TimeoutError for a batch that does not end.
    """
    if not inputs:
        raise OptionError("run_batches needs at least one input: a list of records for each batch")
    clock = ManualClock()
    sources = [
        ScriptedSource(script, name=f"input {number}", partitions=partitions)
        for number, script in enumerate(inputs)
    ]
    count = max(map(len, inputs), default=0) if batches is None else batches
    given: dict[BatchTime, list[Any]] = {}

    async def look(rdd: Any, time: BatchTime) -> None:
        given[time] = await rdd.collect()

    options.setdefault("master", "local")
    options.setdefault("stop_when_finished", False)
    async with StreamingContext(interval, clock=clock, **options) as ssc:
        stream = build(*[ssc.from_source(source) for source in sources])
        if not isinstance(stream, DStream):
            raise OptionError(f"build must return the stream to look at, not {type(stream).__name__}")
        stream.foreach_rdd(look, name="run_batches")
        await ssc.start()
        await _play(ssc, clock, sources[0], interval, count, timeout_s)
    await ssc.await_termination()
    return [given.get(BatchTime(ssc.interval_ms * number)) for number in range(1, count + 1)]


async def _play(
    ssc: StreamingContext,
    clock: ManualClock,
    source: ScriptedSource,
    interval: float,
    count: int,
    timeout_s: float,
) -> None:
    """Let one interval pass, wait until its batch is committed, and so on."""
    for number in range(1, count + 1):
        await clock.advance(interval)
        await clock.until(lambda: _committed(ssc, source, number), timeout_s=timeout_s)  # noqa: B023


def _committed(ssc: StreamingContext, source: ScriptedSource, count: int) -> bool:
    return len(source.commits) >= count or ssc.state is ContextState.STOPPED
