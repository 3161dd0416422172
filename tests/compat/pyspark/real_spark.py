"""Real PySpark in a process of its own, and the same programs under it and under the layer."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.compat.pyspark.spark_server import Environment, answer

ROOT = Path(__file__).resolve().parents[3]
PEER = ROOT / "benchmarks" / ".peers" / "pyspark"
ANSWER_TIMEOUT_S = 600.0
SETUP_TIMEOUT_S = 900.0
# A short life on few cores: compile quickly, and leave the second core to the layer.
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"

Request = tuple[str, str, tuple[Any, ...]]


class SparkUnavailableError(Exception):
    """Real PySpark cannot run on this machine; the text says why."""


def make_environment() -> Path:
    """The interpreter that has PySpark, installed when it is not there. Raises SparkUnavailableError."""
    if shutil.which("java") is None:
        raise SparkUnavailableError("no java on this machine")
    command = [sys.executable, str(ROOT / "benchmarks" / "setup"), "--peers", "pyspark", "--no-data"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SETUP_TIMEOUT_S, check=False)
    python = PEER / "bin" / "python"
    if done.returncode or not (PEER / "installed.txt").exists():
        raise SparkUnavailableError(f"PySpark could not be installed: {done.stdout} {done.stderr}"[-2000:])
    return python


def made_environment() -> Path:
    """:func:`make_environment`; without it the test is skipped with the reason, or fails where CI is true."""
    try:
        return make_environment()
    except SparkUnavailableError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no real PySpark: {error}")


def script_command() -> tuple[list[str], dict[str, str]]:
    """The command that runs a script under real PySpark, and its environment beside that of here."""
    python = made_environment()
    options = f"--driver-java-options '{JAVA_OPTIONS}'"
    return [str(python)], {
        "PYSPARK_SUBMIT_ARGS": f"--master local[2] --conf spark.ui.enabled=false {options} pyspark-shell",
        "PYSPARK_PYTHON": str(python),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }


class RealSpark:
    """A long-lived process with a real SparkContext on ``local[2]``."""

    def __init__(self) -> None:
        python = made_environment()
        self._directory = tempfile.mkdtemp(prefix="real-spark-")
        requests_fd, self._requests_fd = os.pipe()
        self._answers_fd, answers_fd = os.pipe()
        life_fd, self._life_fd = os.pipe()
        theirs = (requests_fd, answers_fd, life_fd)
        self._log = open(os.path.join(self._directory, "log"), "w+b")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, Path(__file__).with_name("spark_server.py"), *map(str, theirs)],
            pass_fds=theirs,
            cwd=self._directory,
            env=_environment(python),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        for fd in theirs:
            os.close(fd)
        self._requests = os.fdopen(self._requests_fd, "wb")
        self._answers = os.fdopen(self._answers_fd, "rb", buffering=0)
        try:
            self.version = self._receive()[1]
        except BaseException:
            self.close()
            raise

    def send(self, batch: list[Request]) -> None:
        """Let it run programs; :meth:`receive` waits for what they give."""
        pickle.dump(batch, self._requests)
        self._requests.flush()

    def receive(self) -> list[tuple[Any, ...]]:
        """The answers to the last batch, in order."""
        answers: list[tuple[Any, ...]] = self._receive()
        return answers

    def _receive(self) -> Any:
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while not select.select([self._answers], [], [], 0.2)[0]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"real PySpark gave no answer; its log ends with:\n{self.log()[-3000:]}")
        return pickle.load(self._answers)

    def log(self) -> str:
        """What it wrote on standard output and error."""
        self._log.flush()
        return Path(self._log.name).read_text(errors="replace")

    def close(self) -> None:
        """End it and all its processes."""
        self._requests.close()
        os.close(self._life_fd)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError):  # a JVM in the middle of a stream stays for minutes
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        self._answers.close()
        self._log.close()
        shutil.rmtree(self._directory, ignore_errors=True)


def _environment(python: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYSPARK_PYTHON": str(python),
        "PYTHONHASHSEED": "0",
        "PYTHONWARNINGS": "ignore",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_SUBMIT_ARGS": f"--driver-java-options '{JAVA_OPTIONS}' pyspark-shell",
    }


class LayerEnvironment(Environment):
    """The same for the layer."""

    package = "aiostream_engine.compat.pyspark"


class Comparison:
    """Runs a program under both and compares."""

    def __init__(self, real: RealSpark, layer: Environment) -> None:
        self._real = real
        self._layer = layer

    def both(self, module: str, name: str, *args: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """(answer of real PySpark, answer of the layer); they run at the same time."""
        self._real.send([(module, name, args)])
        try:
            mine = answer(self._layer, module, name, args)
        finally:
            (theirs,) = self._real.receive()
        return theirs, mine

    def same(self, program: Any, *args: Any) -> Any:
        """The result, after checking that both give the same. ``program`` is a function of a module."""
        theirs, mine = self.both(program.__module__, program.__name__, *args)
        assert theirs[0] == "ok", f"under real PySpark: {theirs[2]}"
        assert mine[0] == "ok", f"under the layer: {mine[2]}"
        if isinstance(theirs[1], dict) and isinstance(mine[1], dict):
            differing = [name for name in theirs[1] if exact(theirs[1][name]) != exact(mine[1].get(name))]
            for name in differing[:1]:
                raise AssertionError(_unequal(f"{name}: ", theirs[1][name], mine[1].get(name)))
        assert exact(theirs[1]) == exact(mine[1]), _unequal("", theirs[1], mine[1])
        return mine[1]


def _unequal(what: str, theirs: Any, mine: Any) -> str:
    return f"{what}real PySpark gives\n{theirs!r}\nthe layer gives\n{mine!r}"


def exact(value: Any) -> str:
    """A text that is equal only for values of equal types, whatever the order of dicts and sets."""
    if isinstance(value, dict):
        items = sorted((exact(key), exact(item)) for key, item in value.items())
        return f"{type(value).__name__}{items}"
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}{sorted(map(exact, value))}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(exact, value))})"
    return repr(value)
