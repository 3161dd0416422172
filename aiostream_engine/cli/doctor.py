"""``doctor``: is this machine fit, and if not, what to do."""

from __future__ import annotations

import asyncio
import enum
import importlib.metadata
import importlib.util
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import __version__
from ..config import available_cores
from .exit_code import ExitCode
from .loop import run_loop

__all__ = ["Check", "Verdict", "checks", "doctor"]

MIB = 1024 * 1024
SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_SMALL_BYTES = 64 * MIB  # what containers give by default
SPACE_LEAST_BYTES = 256 * MIB
FILES_LEAST = 1024
PROCESSES_LEAST = 256
CLOCK_RESOLUTION_MOST_S = 0.001
WORKER_START_SLOW_S = 5.0
EXTRAS = {"cli": ("typer", "rich"), "kafka": ("aiokafka",), "test": ("pytest", "hypothesis", "psutil")}


class Verdict(enum.Enum):
    """How a check ended: only a PROBLEM keeps the engine from working."""

    FINE = "fine"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


class Check(NamedTuple):
    """One thing that was looked at; ``remedy`` says what to do, for warnings and problems."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def doctor(
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings, too.")] = False,
) -> None:
    """Check this machine: versions, cores, shared memory, limits, disk, clock, and a worker's start.

    Each warning or problem comes with its remedy. Exits with 1 when there is a problem.

    Example: `python -m aiostream_engine doctor`
    """
    found = list(checks())
    _show(found)
    bad = {Verdict.PROBLEM, Verdict.WARNING} if strict else {Verdict.PROBLEM}
    raise typer.Exit(ExitCode.FAILED if any(check.verdict in bad for check in found) else ExitCode.OK)


def checks() -> Iterator[Check]:
    """All checks, each made when it is asked for; a check that breaks down is a problem itself."""
    for check in (
        _python,
        _uvloop,
        _extras,
        _cores,
        _shared_memory,
        _temporary,
        _files,
        _processes,
        _clock,
        _worker,
    ):
        try:
            yield check()
        except Exception as exc:
            yield Check(
                check.__name__.strip("_").replace("_", " "),
                Verdict.PROBLEM,
                f"cannot be checked: {type(exc).__name__}: {exc}",
                "see whether this system restricts what processes may ask for",
            )


def _python() -> Check:
    found = (
        f"aiostream-engine {__version__} on {platform.python_implementation()} {platform.python_version()}"
    )
    found += f", {platform.system()} {platform.release()} {platform.machine()}"
    if platform.system() != "Linux":
        return Check("versions", Verdict.WARNING, found, "Linux is what the engine is tested on")
    return Check("versions", Verdict.FINE, found)


def _uvloop() -> Check:
    try:
        return Check("uvloop", Verdict.FINE, importlib.metadata.version("uvloop"))
    except importlib.metadata.PackageNotFoundError:
        return Check("uvloop", Verdict.WARNING, "not installed: the loop is slower", "pip install uvloop")


def _extras() -> Check:
    def is_there(modules: tuple[str, ...]) -> bool:
        return all(importlib.util.find_spec(module) is not None for module in modules)

    states = [f"{name} {'yes' if is_there(modules) else 'no'}" for name, modules in EXTRAS.items()]
    return Check("extras", Verdict.NOTE, ", ".join(states))


def _cores() -> Check:
    usable, all_cores = available_cores(), os.cpu_count() or 1
    found = f"{usable} usable of {all_cores}"
    if usable < 2:
        return Check("cores", Verdict.WARNING, found, "with one core, master 'local' serves best")
    return Check("cores", Verdict.FINE, found)


def _shared_memory() -> Check:
    if not SHARED_MEMORY.is_dir() or not os.access(SHARED_MEMORY, os.W_OK):
        remedy = "mount a tmpfs there; until then blocks lie in the temporary directory, on disk"
        return Check("shared memory", Verdict.WARNING, f"{SHARED_MEMORY} cannot be written", remedy)
    total, _, free = shutil.disk_usage(SHARED_MEMORY)
    return judge_shared_memory(total, free)


def judge_shared_memory(total_bytes: int, free_bytes: int) -> Check:
    """The check of shared memory of this size."""
    found = f"{total_bytes / MIB:,.0f} MiB, {free_bytes / MIB:,.0f} MiB free"
    if total_bytes <= SHARED_MEMORY_SMALL_BYTES:
        remedy = "give the container more, such as docker run --shm-size=1g; small blocks spill to disk early"
        return Check("shared memory", Verdict.WARNING, found, remedy)
    if free_bytes < SHARED_MEMORY_SMALL_BYTES:
        remedy = f"free some: see what lies in {SHARED_MEMORY}"
        return Check("shared memory", Verdict.WARNING, found, remedy)
    return Check("shared memory", Verdict.FINE, found)


def _temporary() -> Check:
    directory = tempfile.gettempdir()
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(b"x")
    free = shutil.disk_usage(directory).free
    found = f"{directory}, {free / MIB:,.0f} MiB free"
    if free < SPACE_LEAST_BYTES:
        remedy = "free some space or set TMPDIR: blocks spill there when memory is short"
        return Check("temporary directory", Verdict.WARNING, found, remedy)
    return Check("temporary directory", Verdict.FINE, found)


def _limit(name: str, which: int, least: int, option: str) -> Check:
    soft, hard = resource.getrlimit(which)
    words = ["unlimited" if value == resource.RLIM_INFINITY else f"{value:,}" for value in (soft, hard)]
    found = f"{words[0]} (at most {words[1]})"
    if soft != resource.RLIM_INFINITY and soft < least:
        return Check(
            name, Verdict.WARNING, found, f"raise it in the shell or service: ulimit {option} {least}"
        )
    return Check(name, Verdict.FINE, found)


def _files() -> Check:
    return _limit("open files", resource.RLIMIT_NOFILE, FILES_LEAST, "-n")


def _processes() -> Check:
    return _limit("processes", resource.RLIMIT_NPROC, PROCESSES_LEAST, "-u")


def _clock() -> Check:
    resolution_s = time.get_clock_info("monotonic").resolution
    found = f"monotonic, steps of {resolution_s * 1e9:,.0f} ns"
    if resolution_s > CLOCK_RESOLUTION_MOST_S:
        return Check("clock", Verdict.WARNING, found, "intervals below 50 ms will be uneven on this system")
    return Check("clock", Verdict.FINE, found)


def _worker() -> Check:
    outcome: list[Check] = []

    async def main() -> ExitCode:
        outcome.append(await _start_worker())
        return ExitCode.OK

    run_loop(main())
    return outcome[0]


async def _start_worker() -> Check:
    from ..blocks.directory import BlockDirectory
    from ..errors import AiostreamError
    from ..executors.process.pool import ProcessExecutor

    directory = await asyncio.to_thread(BlockDirectory)
    try:
        begin = time.monotonic()
        async with ProcessExecutor(1, directory):
            seconds = time.monotonic() - begin
    except (AiostreamError, OSError) as exc:
        remedy = "see the text of the worker on the left; master 'local' needs no worker"
        return Check("worker start", Verdict.PROBLEM, str(exc), remedy)
    finally:
        await asyncio.to_thread(directory.close)
    found = f"ready in {seconds * 1000:.0f} ms with {sys.executable}"
    if seconds > WORKER_START_SLOW_S:
        return Check("worker start", Verdict.WARNING, found, "see whether the disk or the machine is busy")
    return Check("worker start", Verdict.FINE, found)


_STYLES = {Verdict.FINE: "green", Verdict.NOTE: "dim", Verdict.WARNING: "yellow", Verdict.PROBLEM: "bold red"}


def _show(found: list[Check], console: Console | None = None) -> None:
    table = Table(show_lines=False)
    for title in ("check", "verdict", "found", "remedy"):
        table.add_column(title, overflow="fold")
    for check in found:
        verdict = Text(check.verdict.value, style=_STYLES[check.verdict])
        table.add_row(Text(check.name), verdict, Text(check.found), Text(check.remedy))
    (console or Console()).print(table)
