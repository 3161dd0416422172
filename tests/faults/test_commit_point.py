"""A sink whose own transaction decides about batches: never two truths, at whatever point it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import aiostream_engine
from aiostream_engine.sinks.two_phase_files import read_committed
from aiostream_engine.testing import crash_environment

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

APP = Path(__file__).with_name("commit_point_app.py")
POINTS = [
    "after_intent",
    "before_commit",
    "after_prepare",
    "mid_transaction",
    "after_transaction",
    "after_commit",
    "mid_publish",
]


def feed(base: Path, first: int, last: int) -> None:
    (base / "in").mkdir(exist_ok=True)
    for number in range(first, last):
        (base / f"new{number}").write_text("".join(f"{number * 10 + line}\n" for line in range(10)))
        (base / f"new{number}").rename(base / "in" / f"f{number:03d}")


def live(base: Path, files: int, at: dict[str, str] | None = None) -> tuple[int, str]:
    root = Path(aiostream_engine.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), **(at or {})}
    done = subprocess.run(
        [sys.executable, str(APP), str(base), str(files)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


def check(base: Path, files: int) -> None:
    """Each number once in both sinks, in order of a key's count, as if nothing had happened."""
    decided = json.loads((base / "out.json").read_text())["records"]
    paths = read_committed(base / "files")
    staged = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    for written in (decided, staged):
        assert sorted(number for _, number, _ in written) == list(range(files * 10))
        for key in range(5):
            counts = [count for one, _, count in written if one == key]
            assert sorted(counts) == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_crash_point_each_record_counts_once(tmp_path, point):
    feed(tmp_path, 0, 3)
    hit = 1 if point != "after_intent" else 2
    assert live(tmp_path, 3, crash_environment(point, hit=hit))[0] == -signal.SIGKILL
    feed(tmp_path, 3, 5)
    code, errors = live(tmp_path, 5)
    assert code == 0, errors
    check(tmp_path, 5)


def test_killed_when_it_just_learnt_of_the_outcome(tmp_path):
    feed(tmp_path, 0, 3)
    assert live(tmp_path, 3, crash_environment("after_transaction"))[0] == -signal.SIGKILL
    assert live(tmp_path, 3, crash_environment("before_confirm"))[0] == -signal.SIGKILL
    assert live(tmp_path, 3, crash_environment("mid_recovery"))[0] == -signal.SIGKILL
    feed(tmp_path, 3, 5)
    code, errors = live(tmp_path, 5)
    assert code == 0, errors
    check(tmp_path, 5)


def test_a_sink_that_forgot_the_outcome_is_not_believed(tmp_path):
    feed(tmp_path, 0, 3)
    assert live(tmp_path, 3, crash_environment("after_prepare"))[0] == -signal.SIGKILL
    (tmp_path / "out.json").unlink()
    code, errors = live(tmp_path, 3)
    assert code == 1
    assert "file out.json has forgotten whether batch 1 is true" in errors
    number = errors.partition("--give-up-from ")[2].split("`")[0]
    assert number.isdigit()


def test_a_sink_that_is_ahead_of_the_directory_is_not_written_to(tmp_path):
    feed(tmp_path, 0, 3)
    assert live(tmp_path, 3, crash_environment("after_prepare"))[0] == -signal.SIGKILL
    (tmp_path / "out.json").write_text(json.dumps({"mark": [99, 2**52], "records": []}))
    code, errors = live(tmp_path, 3)
    assert code == 1
    assert "an old copy, or another stream uses" in errors
