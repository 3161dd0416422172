"""The driver is killed at every named place, for real, and started again: nothing is lost or doubled."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from aiostream_engine.testing import crash_environment
from tests.faults.verdict import Feeder, Verdict

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(120)]

# Each with the hits at which the first and the second driver die.
POINTS = {
    "before_record": (40, 3),
    "before_sync": (9, 2),
    "after_sync": (10, 1),
    "after_segment": (3, 1),
    "mid_replace": (4, 2),
    "before_intent": (5, 1),
    "after_intent": (5, 1),
    "after_stage": (9, 1),
    "before_commit": (5, 1),
    "after_commit": (5, 1),
    "mid_publish": (12, 2),
    "mid_publish_files": (3, 1),
    "after_publish": (5, 1),
    "mid_collect": (1, 1),
    "after_collect": (5, 1),
    "mid_recovery": (1, 1),
}


ON_DISK = {"PADDING": "30000"}  # three of the seven keys are in memory


def finish(feeder: Feeder, master: str, crashes: int, environment: Mapping[str, str] = {}) -> None:
    """The last driver ends by itself, and all is there once."""
    with feeder.start(master, environment) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    verdict = feeder.verdict()
    # A letter whose acknowledgement was lost is sent again: the sender cannot know better.
    assert verdict.letters_repeated <= crashes
    verdict.letters_repeated = 0
    assert verdict == Verdict()
    assert os.listdir(feeder.base / "mail") == []


def die(feeder: Feeder, master: str, point: str, hit: int, environment: Mapping[str, str] = {}) -> None:
    """A driver that dies at a crash point."""
    with feeder.start(master, {**crash_environment(point, hit=hit), **environment}) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, f"{point} was not reached: {output}"


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_crash_point_and_again_in_the_next_life(tmp_path: Path, point: str) -> None:
    """B1, B2, B3, B4, B5, C11, E21, F9: there is more to read each time, and what was begun is as it was."""
    feeder = Feeder(tmp_path)
    first, second = POINTS[point]
    files = 40 if point == "mid_collect" else 4  # before a part of the journal is of no use
    feeder.feed(2 * files)
    if point == "mid_recovery":
        die(feeder, "local", "after_commit", 4)
    die(feeder, "local", point, first)
    feeder.feed(files)
    die(feeder, "local", point, second)
    feeder.feed(3)
    finish(feeder, "local", 3)


@pytest.mark.parametrize("point", ["after_intent", "before_commit", "after_commit", "mid_recovery"])
def test_killed_with_its_worker_processes(tmp_path: Path, point: str) -> None:
    """B1, B2, B3, B4, A24."""
    feeder = Feeder(tmp_path)
    feeder.feed(6)
    if point == "mid_recovery":
        die(feeder, "local[2]", "before_commit", 3)
    die(feeder, "local[2]", point, POINTS[point][0] // 2 + 1)
    feeder.feed(3)
    finish(feeder, "local[2]", 2)


@pytest.mark.parametrize("master", ["local", "local[2]"])
@pytest.mark.parametrize("point", ["after_intent", "after_commit", "mid_recovery"])
def test_killed_with_state_that_is_larger_than_its_cache(tmp_path: Path, point: str, master: str) -> None:
    """B1, B4, C11: the scratch files of the dead are gone; they are made anew from the journal."""
    feeder = Feeder(tmp_path)
    feeder.feed(9)
    if point == "mid_recovery":
        die(feeder, master, "before_commit", 5, ON_DISK)
    die(feeder, master, point, POINTS[point][0], ON_DISK)
    feeder.feed(3)
    finish(feeder, master, 2, ON_DISK)
