"""The streaming examples, which run on either engine, unchanged, and print the same."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compat.pyspark.real_spark import script_command

EXAMPLES = Path(__file__).parents[3] / "examples" / "pyspark"
DEADLINE_S = 100.0
pytestmark = pytest.mark.timeout(900)  # the first run installs PySpark


class Program:
    """A running example; its output is read by a thread."""

    def __init__(self, command: list[str], directory: Path, environment: dict[str, str]) -> None:
        self.text = ""
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.text += line

    def wait_for(self, condition: Callable[[], Any]) -> None:
        until = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < until, self.text
            assert self._process.poll() is None or condition(), self.text
            time.sleep(0.02)

    def wait(self) -> int:
        status = self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return status

    def close(self) -> None:
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


Start = Callable[..., Program]


# A start of Spark takes ten seconds: three of the examples are run under it every time, the others seldom.
on_both = pytest.mark.parametrize(
    "start", ["layer", pytest.param("spark", marks=pytest.mark.spark)], indirect=True
)
seldom_on_both = pytest.mark.parametrize(
    "start", ["layer", pytest.param("spark", marks=[pytest.mark.spark, pytest.mark.soak])], indirect=True
)


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Starts an example on one of the engines."""
    programs: list[Program] = []
    command, environment = [sys.executable, "-m", "aiostream_engine", "pyspark", "--master", "local[2]"], {}
    if request.param == "spark":
        command, environment = script_command()

    def run(name: str, *arguments: object) -> Program:
        made = [*command, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
        programs.append(Program(made, tmp_path, {**os.environ, **environment}))
        return programs[-1]

    yield run
    for program in programs:
        program.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(DEADLINE_S)
        yield listening


def printed(text: str) -> list[tuple[Any, ...]]:
    """All records that pprint printed, in order."""
    return [eval(line) for line in text.splitlines() if re.fullmatch(r"\(.*, -?\d+\)", line)]


def send(server: socket.socket, text: str) -> socket.socket:
    connection, _ = server.accept()
    connection.sendall(text.encode())
    return connection


@on_both
def test_network_wordcount(start: Start, server: socket.socket):
    program = start("network_wordcount", *server.getsockname())
    with send(server, "to be or\nnot to be\n"):
        program.wait_for(lambda: len(printed(program.text)) >= 4)
    assert sorted(printed(program.text)) == [("be", 2), ("not", 1), ("or", 1), ("to", 2)]
    assert re.search(r"^-{43}\nTime: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n-{43}\n", program.text, re.MULTILINE)


@on_both
def test_stateful_network_wordcount(start: Start, server: socket.socket, tmp_path: Path):
    program = start("stateful_network_wordcount", *server.getsockname(), tmp_path / "checkpoint")
    with send(server, "hello you\n"):
        program.wait_for(lambda: ("you", 1) in printed(program.text))
        program.wait_for(
            lambda: sorted(printed(program.text)[-3:]) == [("hello", 2), ("world", 1), ("you", 1)]
        )


@seldom_on_both
def test_windowed_network_wordcount(start: Start, server: socket.socket, tmp_path: Path):
    program = start("windowed_network_wordcount", *server.getsockname(), tmp_path / "checkpoint")
    with send(server, "b a b\n"):
        program.wait_for(lambda: len(printed(program.text)) >= 4)
    assert printed(program.text)[:4] == [("b", 2), ("a", 1)] * 2


@seldom_on_both
def test_recoverable_network_wordcount(start: Start, server: socket.socket, tmp_path: Path):
    arguments = (*server.getsockname(), tmp_path / "checkpoint", tmp_path / "out")
    program = start("recoverable_network_wordcount", *arguments)
    with send(server, "a word b word\n"):
        program.wait_for(lambda: "[('word', 2)]\nDropped 2 word(s) in all" in program.text)
    program.close()
    assert "[('word', 2)]" in (tmp_path / "out").read_text()
    again = start("recoverable_network_wordcount", *arguments)
    with send(server, "more\n"):
        again.wait_for(lambda: "[('more', 1)]" in again.text)
    assert "[('word', 2)]" in (tmp_path / "out").read_text()


@seldom_on_both
def test_hdfs_wordcount(start: Start, tmp_path: Path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    program = start("hdfs_wordcount", inbox)
    program.wait_for(lambda: program.text.count("Time:") >= 2)
    (tmp_path / "new").write_text("to be\nto\n")
    os.replace(tmp_path / "new", inbox / "new")
    program.wait_for(lambda: len(printed(program.text)) >= 2)
    assert sorted(printed(program.text)) == [("be", 1), ("to", 2)]


@on_both
def test_queue_stream(start: Start):
    program = start("queue_stream")
    assert program.wait() == 0
    assert sorted(printed(program.text)) == sorted((digit, 100) for digit in range(10) for _ in range(3))
    assert program.text.count("Time:") >= 4


@seldom_on_both
def test_network_wordjoinsentiments(start: Start, server: socket.socket):
    program = start("network_wordjoinsentiments", *server.getsockname(), EXAMPLES / "sentiments.txt")
    with send(server, "good sad good unknown\n"):
        program.wait_for(lambda: "(2 in all):" in program.text)
        program.wait_for(lambda: "good (6)\nsad (-2)\n" in program.text)


@pytest.mark.parametrize(
    ("name", "text"),
    [("sql_network_wordcount", "pandas, DuckDB"), ("kinesis_wordcount", "no Kinesis source")],
)
def test_what_needs_more_says_so(tmp_path: Path, name: str, text: str):
    done = subprocess.run(
        [sys.executable, "-m", "aiostream_engine", "pyspark", str(EXAMPLES / f"{name}.py"), "localhost", "1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 1
    assert text in done.stderr


def test_every_example_has_a_test():
    source = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f"test_{path.stem}(" in source or f'("{path.stem}",' in source, path.name
