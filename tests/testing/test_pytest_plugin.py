"""The pytest plugin, in the tests of a user."""

import subprocess
import sys
from pathlib import Path

_USER_TESTS = """
import asyncio, threading
from aiostream_engine.testing import ScriptedSource

def test_clock(manual_clock):
    assert manual_clock.time() == 0

def test_clean(leak_check):
    pass

def test_stream(streaming_context, manual_clock):
    async def run():
        seen = []
        async with streaming_context(interval=1) as ssc:
            ssc.from_source(ScriptedSource([[1, 2]])).foreach_rdd(lambda rdd, time: seen.append(time))
            await ssc.start()
            await manual_clock.advance(1)
            await manual_clock.until(lambda: seen)
        assert seen == [1000]
    asyncio.run(run())

def test_running_context(streaming_context):
    async def run():
        ssc = streaming_context()
        ssc.from_source(ScriptedSource()).pprint()
        await ssc.start()
        ssc.engine.directory.close()
    asyncio.run(run())

def test_leaks(leak_check):
    leak_check._grace_s = 0.05
    threading.Thread(target=threading.Event().wait, name="lonely-thread", daemon=True).start()
"""


def test_its_fixtures_are_found_without_any_setting(tmp_path: Path):
    (tmp_path / "test_user.py").write_text(_USER_TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "5 passed, 2 errors" in result.stdout, result.stdout + result.stderr
    assert "1 contexts are running" in result.stdout
    assert "left behind" in result.stdout
    assert "thread lonely-thread" in result.stdout
