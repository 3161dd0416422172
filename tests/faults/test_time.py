"""Streams that were down, and wall clocks that are set, with a checkpoint directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiostream_engine import EngineContext
from aiostream_engine.config import SchedulerConfig
from tests.faults.pipeline import Items, Pipeline, numbered, sums
from tests.faults.world import World, expected_outputs, script

pytestmark = pytest.mark.faults

HOUR_S = 3600.0


@pytest.mark.parametrize("down_s", [1.0, 4.0, 7.5])
async def test_every_tick_of_a_downtime_gives_its_batch_and_all_windows_are_exact(
    tmp_path: Path, down_s: float
) -> None:
    """CTX-24, CTX-23: batch times, windows and sums are those of a stream that was never down."""
    items = script(14)
    expected = await expected_outputs(str(tmp_path / "whole"), items)
    world = World(str(tmp_path / "broken"), items)
    assert await world.run(upto=5) is None
    world.time_s += down_s
    assert await world.run() is None
    assert world.outputs() == expected


async def test_a_stream_that_ended_before_its_first_batch_owes_all_batches_since_it_began(
    tmp_path: Path,
) -> None:
    """CTX-23, CTX-24: zero time is part of what is kept."""
    items = script(6)
    world = World(str(tmp_path / "broken"), items)
    assert await world.run(upto=0) is None
    world.time_s += 4.0
    assert await world.run() is None
    assert world.outputs() == await expected_outputs(str(tmp_path / "whole"), items)


async def test_a_downtime_is_one_batch_when_ticks_coalesce(tmp_path: Path) -> None:
    """CTX-24: the default; labels of the downtime are left out, and no record is lost."""
    items = script(8)
    world = World(str(tmp_path / "checkpoint"), items, scheduler=SchedulerConfig())
    assert await world.run(upto=3) is None
    world.time_s += 5.0
    assert await world.run(upto=13) is None
    labels = sorted({label for sink, label in world.outside.outputs() if sink == "keyed"})
    assert not [label for label in labels if 3000 < label <= 8000]
    sums = [
        record
        for (sink, _), records in world.outside.outputs().items()
        for record in records
        if sink == "keyed"
    ]
    assert sorted(value for _, value, _ in sums) == sorted(value for item in items for _, value in item)


def window_totals(items: Items, labels: list[int]) -> dict[int, dict[int, int]]:
    """What the window of three seconds must hold at each label, whatever lies between two labels."""
    totals: dict[int, dict[int, int]] = {}
    for label in labels:
        total = totals[label] = {}
        for item, at in zip(items, labels, strict=False):
            if label - 3000 < at <= label:
                for key, value in item:
                    total[key] = total.get(key, 0) + value
    return totals


@pytest.mark.parametrize("across_s", [0.0, 2 * HOUR_S, -2 * HOUR_S])
@pytest.mark.parametrize("running_s", [3 * HOUR_S, -3 * HOUR_S])
async def test_a_wall_clock_that_jumps_by_hours_repeats_no_label_and_loses_no_window(
    tmp_path: Path, running_s: float, across_s: float
) -> None:
    """D1, B5, CTX-23: while the stream runs and again across a crash, forward and back."""
    pipeline = Pipeline(tmp_path / "checkpoint", numbered(0, 12))
    pipeline.time_s = 10 * HOUR_S
    for life in range(3):
        async with EngineContext("local", parallelism=2) as engine, pipeline.put_on(engine) as context:
            await context.start()
            for number in range(4):
                if number == 2 and life < 2:
                    pipeline.clock.step_wall(running_s)
                await pipeline.batch()
        pipeline.time_s += across_s
    assert pipeline.labels == sorted(set(pipeline.labels))
    assert len(pipeline.labels) == 12
    assert pipeline.written_sums() == sums(pipeline.items)
    found = {
        label: {key: value for key, value in records if value}
        for (sink, label), records in pipeline.outputs().items()
        if sink == "totals"
    }
    assert found == window_totals(pipeline.items, pipeline.labels)


async def test_a_clock_that_was_set_back_makes_no_batches_for_the_time_it_shows_twice(tmp_path: Path) -> None:
    """D1, CTX-24: though every missed tick gives a batch, these were not missed."""
    world = World(str(tmp_path / "checkpoint"), script(8))
    assert await world.run(upto=4) is None
    world.time_s -= 2 * HOUR_S
    assert await world.run() is None
    assert world.outputs() == await expected_outputs(str(tmp_path / "whole"), script(8))
