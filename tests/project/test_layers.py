"""Rooms import downwards only; workers load no event loop."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What a worker process needs: its own loop, and whatever a program may use.
WORKER_ROOMS = (
    "aiostream_engine.executors.process.worker",
    "aiostream_engine.executors.task",
    "aiostream_engine.operators",
    "aiostream_engine.windows.intervals",
    "aiostream_engine.blocks.formats",
    "aiostream_engine.state.store",
)


def python(code: str) -> str:
    """Run code in a fresh interpreter and give what it printed."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd="/").stdout


def test_rooms_import_only_what_the_contract_allows():
    code = "from importlinter.cli import lint_imports_command as run; run(['--no-logo'])"
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize("room", WORKER_ROOMS)
def test_what_a_worker_loads_brings_neither_asyncio_nor_the_runtime(room):
    loaded = python(f"import sys, {room}; print(*sys.modules, sep='\\n')").split()
    assert room in loaded
    unwanted = ("asyncio", "uvloop", "aiofiles", "aiostream_engine.runtime", "aiostream_engine.context")
    assert [name for name in loaded if name in unwanted] == []
