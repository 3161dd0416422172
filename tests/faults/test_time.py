"""Streams that were down, and wall clocks that are set, with a checkpoint directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiostream_engine.config import SchedulerConfig
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
