"""What docs/durability.md says is run, or looked up."""

from __future__ import annotations

import inspect
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from aiostream_engine.cli.main import build_app
from aiostream_engine.cli.run import run
from aiostream_engine.cli.signals import STOP_GRACE_S
from aiostream_engine.sinks.base import SinkContext
from aiostream_engine.sinks.sqlite import SqliteSink
from aiostream_engine.sinks.two_phase_files import read_committed

PAGE = (Path(__file__).parents[2] / "docs" / "durability.md").read_text()
DEADLINE_S = 50


def block(containing: str) -> str:
    (found,) = [
        text for text in re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S) if containing in text
    ]
    return found


def test_the_program_of_the_page_runs_and_goes_on_where_it_was(tmp_path: Path):
    (tmp_path / "app.py").write_text(block("# app.py"))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "one").write_text("/home 200\n/pay 500\n/home 200\n")
    command = [sys.executable, "-m", "aiostream_engine", "run", "app.py:build", "--checkpoint", "state"]
    for _ in range(2):
        done = subprocess.run(
            [*command, "--interval", "0.5", "--master", "local", "--duration", "2"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    lines = [path.read_text().splitlines() for path in read_committed(tmp_path / "hits")]
    assert {line for batch in lines for line in batch} == {'["/home",2]', '["/pay",1]'}


async def test_the_sink_of_the_page_can_be_made_and_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, SqliteSink] = {}
    exec(block("totals.db"), names)
    sink = names["sink"]
    await sink.open(SinkContext("totals"))
    await sink.aclose()
    with sqlite3.connect(tmp_path / "totals.db") as connection:
        assert connection.execute("select count(*) from totals").fetchone() == (0,)
    connection.close()


def test_the_commands_of_the_page_are_those_that_there_are():
    import typer

    group = typer.main.get_command(build_app())
    known = set(group.commands["checkpoint"].commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"^\| `checkpoint (\w+) DIR` \|", PAGE, re.M)) == known
    options = {
        option
        for command in group.commands["checkpoint"].commands.values()
        for p in command.params
        for option in p.opts
    }  # type: ignore[attr-defined]
    assert set(re.findall(r"`(--(?:json|give-up-from|delete))", PAGE)) <= options


def test_the_stop_timeout_of_the_page_is_that_of_the_command():
    timeout_s = inspect.signature(run).parameters["stop_timeout"].default
    assert f"`--stop-timeout` ({timeout_s:g} s); {STOP_GRACE_S:g} s later" in PAGE
    (grace_s,) = re.findall(r"terminationGracePeriodSeconds: (\d+)", PAGE)
    assert int(grace_s) > timeout_s + STOP_GRACE_S
