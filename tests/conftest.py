"""For all tests: which event loop they run on, and that they leave nothing behind."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from aiostream_engine.testing import LeakCheck

pytest_plugins = ["tests.kafka_broker"]

HERE = Path(__file__).parent

# Rooms that touch the event loop closely enough for its kind to matter. Slow tests and those
# that kill processes run on asyncio's own loop only.
ROOMS_ON_BOTH_LOOPS = {"runtime", "sinks", "sources"}

LEAK_FIXTURE = "_nothing_left_behind"
TASK_FIXTURE = "_no_task_left_behind"


def _asyncio_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop()


def _uvloop_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


def pytest_sessionstart() -> None:
    # The first loop of each kind opens what the process keeps (a pipe for signals): no test's leak.
    for make in (_asyncio_loop, _uvloop_loop):
        make().close()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    room = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
    marks = {mark.name for mark in item.iter_markers()}
    both = room in ROOMS_ON_BOTH_LOOPS and not marks & {"slow", "faults"}
    if sys.platform != "win32" and (both or "both_loops" in marks):
        return {"asyncio": _asyncio_loop, "uvloop": _uvloop_loop}
    return {"asyncio": _asyncio_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        function = getattr(item, "function", None)
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(function):
            # Behind the leak check and before all other fixtures, so that it is torn down after them.
            names = item.fixturenames
            names.insert(names.index(LEAK_FIXTURE) + 1 if LEAK_FIXTURE in names else 0, TASK_FIXTURE)


class LeakCheckOfTests(LeakCheck):
    """Brokers belong to fixtures of many tests; a test that restarts one leaves another process there."""

    def leaks(self) -> list[str]:
        from tests.kafka_broker import shared_broker_pids  # not above: it is a plugin to be rewritten

        brokers = tuple(f"process {pid} " for pid in shared_broker_pids())
        return [leak for leak in super().leaks() if not leak.startswith(brokers)]


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """No thread, child process or descriptor outlives a test and its fixtures."""
    with LeakCheckOfTests(grace_s=5):
        yield


@pytest.fixture
async def _no_task_left_behind() -> AsyncIterator[None]:
    """No task outlives an async test and its fixtures."""
    async with LeakCheckOfTests(grace_s=5, fds=False):
        yield
