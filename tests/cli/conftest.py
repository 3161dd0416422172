from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from aiostream_engine.cli.main import build_app

DEADLINE_S = 45.0


class Command:
    """The command line in a process of its own, read as it writes."""

    def __init__(self, arguments: tuple[str, ...], cwd: Path, *, stdin: int = subprocess.DEVNULL) -> None:
        environment = {**os.environ, "COLUMNS": "120", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "aiostream_engine", *arguments],
            cwd=cwd,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._text = {"out": "", "err": ""}

    @property
    def out(self) -> str:
        return self._text["out"]

    @property
    def err(self) -> str:
        return self._text["err"]

    def _pump(self, timeout_s: float) -> bool:
        streams = {"out": self.process.stdout, "err": self.process.stderr}
        open_streams = {name: s for name, s in streams.items() if s is not None and not s.closed}
        if not open_streams:
            return False
        ready, _, _ = select.select(list(open_streams.values()), [], [], timeout_s)
        for name, stream in open_streams.items():
            if stream in ready:
                data = os.read(stream.fileno(), 65536)
                self._text[name] += data.decode(errors="replace")
                if not data:
                    stream.close()
        return True

    def wait_for(self, reached: Callable[[Command], bool]) -> None:
        """Read until the condition holds; fails with everything that was written."""
        deadline = time.monotonic() + DEADLINE_S
        while not reached(self):
            assert time.monotonic() < deadline, f"not reached\nout: {self.out}\nerr: {self.err}"
            assert self._pump(0.1) or reached(self), f"ended\nout: {self.out}\nerr: {self.err}"

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def exit_code(self) -> int:
        """Read to the end; gives the exit code."""
        deadline = time.monotonic() + DEADLINE_S
        while self._pump(0.1):
            assert time.monotonic() < deadline, f"does not end\nout: {self.out}\nerr: {self.err}"
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        self.process.wait(DEADLINE_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts the command line in the test's directory."""
    started: list[Command] = []

    def start(*arguments: str, stdin: int = subprocess.DEVNULL) -> Command:
        started.append(Command(arguments, tmp_path, stdin=stdin))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture(scope="session")
def app() -> typer.Typer:
    return build_app()


@pytest.fixture
def invoke(app: typer.Typer) -> Callable[..., object]:
    """Runs a command in this process; gives its exit code and what it wrote, both streams together."""
    runner = CliRunner()

    def run(*arguments: str) -> object:
        return runner.invoke(app, list(arguments), env={"COLUMNS": "200", "TERM": "dumb"})

    return run
