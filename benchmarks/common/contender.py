"""A contender is a program in its own interpreter; running one gives an outcome, never an exception."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from .program import RESULT_MARK

__all__ = ["BENCHMARKS", "Contender", "Outcome", "interpreter_of", "run_contender"]

BENCHMARKS = Path(__file__).resolve().parent.parent
PEERS = BENCHMARKS / ".peers"
_ERROR_LINES = 12


@dataclass(frozen=True)
class Contender:
    """One row of a table.

    key: short name for ``--only``.  name: as printed.
    program: path below ``benchmarks/``.
    peer: name of the environment below ``.peers``; None runs in this interpreter.
    kind: ``engine``, ``peer`` or ``floor`` (hand-written code that does only this).
    parameters: what the program gets, and a ``scratch`` directory that is removed after the run.
    runs_max: fewer runs for the slow.
    answer: the right one of its own work; None for that of the benchmark.
    on_disk: give a directory ``disk`` as well, beside the checkout: for work of which the disk is a part.
    """

    key: str
    name: str
    program: str
    peer: str | None = None
    kind: str = "peer"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    runs_max: int | None = None
    answer: Any = None
    on_disk: bool = False


@dataclass(frozen=True)
class Outcome:
    """What one run gave; ``error`` says why there are no metrics."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    answer: Any = None
    version: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


def interpreter_of(contender: Contender) -> Path | None:
    """The interpreter that runs it, None when its peer is not installed."""
    if contender.peer is None:
        return Path(sys.executable)
    home = PEERS / contender.peer
    return home / "bin" / "python" if (home / "installed.txt").exists() else None


def run_contender(contender: Contender, timeout_s: float) -> Outcome:
    """Run once in a process group of its own, which is gone afterwards whatever happened."""
    interpreter = interpreter_of(contender)
    assert interpreter is not None
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS)}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output,
        _directory(_scratch_root()) as scratch,
        _directory(_disk_root()) if contender.on_disk else contextlib.nullcontext("") as disk,
    ):
        given = json.dumps({**contender.parameters, "scratch": scratch, "disk": disk})
        command = [str(interpreter), str(BENCHMARKS / contender.program), given]
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            status = str(process.wait(timeout_s))
        except subprocess.TimeoutExpired:
            status = f"no result within {timeout_s:g} s"
        finally:
            _end_group(process)
        output.seek(0)
        return _outcome(output, status)


def _directory(root: str | None) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="benchmark-", dir=root, ignore_cleanup_errors=True)


def _disk_root() -> str:
    """The disk of the checkout: the system's temporary directory may be memory."""
    root = BENCHMARKS / ".data"
    root.mkdir(exist_ok=True)
    return str(root)


def _scratch_root() -> str | None:
    """Shared memory where there is any, so that no disk has a part in the figures."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _outcome(output: IO[str], status: str) -> Outcome:
    lines = output.read().splitlines()
    for line in reversed(lines):
        if line.startswith(RESULT_MARK):
            return Outcome(**json.loads(line.removeprefix(RESULT_MARK)))
    return Outcome(error="\n".join([f"exit status {status}", *lines[-_ERROR_LINES:]]))
