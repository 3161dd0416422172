"""A stream with a checkpoint directory, killed at each point of its sinks' two phases."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiostream_engine.sinks.two_phase_files import read_committed
from aiostream_engine.testing import crash_environment

pytestmark = [pytest.mark.faults, pytest.mark.slow]

DEADLINE_S = 45
FILES = 6
LINES_PER_FILE = 40

APP = """
import os
from aiostream_engine.sinks.sqlite import SqliteSink
from aiostream_engine.sinks.two_phase_files import TwoPhaseFileSink

def pair(line):
    return int(line) % 5, int(line)

def add(key, number, total):
    total.update(total.get(0) + number)
    return number, key, total.get()

def build(ssc):
    lines = ssc.text_file_stream("in", name="lines", files_per_batch_max=1)
    sums = lines.map(pair).map_with_state(add, name="sums", partitions=2)
    sums.to(TwoPhaseFileSink("out"), name="files")
    schema = "create table if not exists sums (number integer, key integer, total integer)"
    sums.to(SqliteSink("sums.db", table="sums", schema=schema), name="table")
"""

COMMAND = [
    sys.executable, "-m", "aiostream_engine", "run", "app.py:build", "--checkpoint", "checkpoint",
    "--interval", "0.05", "--master", "local", "--log-level", "warning",
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "in").mkdir()
    for file in range(FILES):
        numbers = range(file * LINES_PER_FILE, (file + 1) * LINES_PER_FILE)
        (tmp_path / "in" / f"{file}").write_text("".join(f"{number}\n" for number in numbers))
    return tmp_path


def run(place: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    log = (place / "log").open("wb")
    with log:
        return subprocess.Popen(COMMAND, cwd=place, env=os.environ | environment, stdout=log, stderr=log)


def in_files(place: Path) -> list[list[int]]:
    paths = read_committed(place / "out")
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def in_table(place: Path) -> list[list[int]]:
    with contextlib.closing(sqlite3.connect(place / "sums.db")) as connection:
        return [list(row) for row in connection.execute("select * from sums")]


def expected() -> list[list[int]]:
    totals: dict[int, int] = {}
    rows = []
    for number in range(FILES * LINES_PER_FILE):
        totals[number % 5] = totals.get(number % 5, 0) + number
        rows.append([number, number % 5, totals[number % 5]])
    return rows


def finish(place: Path) -> None:
    """Run to the end of the input, and stop well."""
    stream = run(place, {})
    deadline = time.monotonic() + DEADLINE_S
    while min(len(in_files(place)), len(in_table(place))) < FILES * LINES_PER_FILE:
        assert time.monotonic() < deadline, (place / "log").read_text()
        assert stream.poll() is None, (place / "log").read_text()
        time.sleep(0.05)
    stream.terminate()
    assert stream.wait(DEADLINE_S) == 0, (place / "log").read_text()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("point", "hit"),
    [
        ("after_stage", 3),
        ("after_commit", 1),
        ("mid_publish_files", 2),
        ("mid_publish", 1),
        ("mid_sqlite_commit", 2),
        ("after_sqlite_commit", 1),
    ],
)
def test_each_record_arrives_once_after_a_kill_and_another_one_in_its_recovery(place, point, hit):
    """B1, B2, B3, B4, F9: two sinks of one batch, each in its own two phases."""
    for armed in (crash_environment(point, hit=hit), crash_environment(point)):
        stream = run(place, armed)
        assert stream.wait(DEADLINE_S) == -signal.SIGKILL, (place / "log").read_text()
    finish(place)
    assert sorted(in_files(place)) == sorted(in_table(place)) == expected()
    assert [path.name for path in (place / "out" / ".staged").iterdir()] == ["LOCK"]
    with contextlib.closing(sqlite3.connect(place / "sums.db")) as connection:
        assert connection.execute("select count(*) from aiostream_staged").fetchone() == (0,)
