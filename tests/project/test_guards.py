"""The guards of tests/conftest.py stop a test that leaves something behind."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
OPTIONS = "[pytest]\nasyncio_mode = auto\nmarkers = both_loops\n    slow\n    faults\n"


def run(folder: Path, code: str) -> str:
    """Run a suite of one file under the guards, with little patience, and give pytest's output."""
    (folder / "pytest.ini").write_text(OPTIONS)
    shutil.copy(CONFTEST, folder / "conftest.py")
    guards = (folder / "conftest.py").read_text()
    assert "grace_s=5" in guards
    (folder / "conftest.py").write_text(guards.replace("grace_s=5", "grace_s=0.05"))
    (folder / "test_guarded.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False).stdout


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("kept.append(asyncio.create_task(asyncio.Event().wait(), name='lonely'))", "task lonely"),
        (
            "threading.Thread(target=threading.Event().wait, name='lonely', daemon=True).start()",
            "thread lonely",
        ),
        ("kept.append(open(__file__))", "test_guarded.py"),
        ("kept.append(subprocess.Popen(['sleep', '1']))", "sleep 1"),
    ],
)
def test_what_an_async_test_leaves_behind_is_an_error_that_names_it(tmp_path, body, left):
    output = run(
        tmp_path, f"import asyncio, subprocess, threading\nkept = []\nasync def test_it():\n    {body}\n"
    )
    assert "1 passed, 1 error" in output
    assert "left behind" in output
    assert left in output


def test_what_a_fixture_frees_is_not_left_behind(tmp_path):
    code = """
import asyncio, pytest

@pytest.fixture
async def service():
    task = asyncio.create_task(asyncio.Event().wait())
    yield
    task.cancel()

async def test_it(service):
    pass
"""
    assert "1 passed" in run(tmp_path, code)


def test_a_test_that_is_marked_runs_on_both_loops(tmp_path):
    code = """
import asyncio, pytest

@pytest.mark.both_loops
async def test_it():
    print("on", type(asyncio.get_running_loop()).__module__)
"""
    output = run(tmp_path, code)
    assert "test_it[asyncio] PASSED" in output
    assert "test_it[uvloop] PASSED" in output
