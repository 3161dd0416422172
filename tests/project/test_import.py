"""Importing the package is light and changes nothing."""

import json
import subprocess
import sys

_LOOK = """
import json, logging, signal, sys, threading, time
before = set(sys.modules)
handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
began = time.perf_counter()
import aiostream_engine
seconds = time.perf_counter() - began
print(json.dumps({
    "seconds": seconds,
    "modules": sorted(set(sys.modules) - before),
    "signals_kept": handlers == {number: signal.getsignal(number) for number in signal.valid_signals()},
    "threads": threading.active_count(),
    "log_handlers": len(logging.getLogger().handlers) + len(logging.getLogger("aiostream_engine").handlers),
    "version": aiostream_engine.__version__,
}))
"""

OPTIONAL = {"aiokafka", "httpx", "numpy", "psutil", "pyarrow", "ray", "rich", "starlette", "typer", "uvloop"}


def look() -> dict[str, object]:
    command = [sys.executable, "-W", "error", "-c", _LOOK]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd="/")
    return json.loads(result.stdout)


def test_importing_the_package_loads_no_event_loop_no_serialiser_and_nothing_optional():
    modules = {str(name).partition(".")[0] for name in look()["modules"]}
    assert modules & (OPTIONAL | {"asyncio", "cloudpickle", "multiprocessing", "msgspec"}) == set()


def test_importing_the_package_loads_none_of_its_rooms():
    ours = [name for name in look()["modules"] if str(name).startswith("aiostream_engine")]
    assert ours == ["aiostream_engine", "aiostream_engine.exports"]


def test_importing_the_package_touches_no_signal_thread_or_log_handler():
    seen = look()
    assert (seen["signals_kept"], seen["threads"], seen["log_handlers"]) == (True, 1, 0)


def test_the_time_of_the_import_is_told(capsys):
    seconds = min(float(str(look()["seconds"])) for _ in range(3))
    with capsys.disabled():
        print(f" import aiostream_engine: {seconds * 1000:.1f} ms ", end="")
    assert seconds < 1
