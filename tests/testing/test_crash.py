"""Crash points kill real processes, when armed."""

import os
import signal
import subprocess
import sys

import pytest

from aiostream_engine.testing import crash_environment, crash_point

pytestmark = pytest.mark.faults

_LOOP = """
import sys
from aiostream_engine.testing import crash_point
for number in range(5):
    crash_point("here")
    print(number, flush=True)
assert "asyncio" not in sys.modules
"""


def run(**armed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _LOOP],
        env={**os.environ, **armed},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_armed_point_kills_the_process_at_its_nth_hit():
    result = run(**crash_environment("here", hit=3))
    assert result.returncode == -signal.SIGKILL
    assert result.stdout.split() == ["0", "1"]


def test_points_that_are_not_armed_do_nothing_and_load_no_asyncio():
    assert (run().returncode, run(**crash_environment("elsewhere")).returncode) == (0, 0)


def test_with_once_only_the_first_process_dies(tmp_path):
    armed = crash_environment("here", once=str(tmp_path / "crashed"))
    assert [run(**armed).returncode for _ in range(2)] == [-signal.SIGKILL, 0]


def test_a_point_in_this_process_is_quiet():
    crash_point("here")


@pytest.mark.parametrize(("name", "hit"), [("", 1), ("a:b", 1), ("a", 0)])
def test_names_and_hits_that_cannot_be_armed_are_refused(name, hit):
    with pytest.raises(ValueError, match=r"crash point|hit is"):
        crash_environment(name, hit=hit)
