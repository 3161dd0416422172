"""The pytest plugin, in the tests of a user."""

import subprocess
import sys
from pathlib import Path

_USER_TESTS = """
import threading

def test_clock(manual_clock):
    assert manual_clock.time() == 0

def test_clean(leak_check):
    pass

def test_leaks(leak_check):
    leak_check._grace_s = 0.05
    threading.Thread(target=threading.Event().wait, name="lonely-thread", daemon=True).start()
"""


def test_its_fixtures_are_found_without_any_setting(tmp_path: Path):
    (tmp_path / "test_user.py").write_text(_USER_TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "3 passed, 1 error" in result.stdout, result.stdout + result.stderr
    assert "left behind" in result.stdout
    assert "thread lonely-thread" in result.stdout
