"""Fixtures for users' tests, found by pytest through the ``pytest11`` entry point.

Nothing but pytest is imported until a fixture is used. Works with any plugin that runs async
tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..context import StreamingContext
    from .clock import ManualClock
    from .leaks import LeakCheck


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock that stands still until the test advances it."""
    from .clock import ManualClock

    return ManualClock()


@pytest.fixture
def leak_check() -> Iterator[LeakCheck]:
    """Fails the test when it leaves a thread, child process or descriptor behind."""
    from .leaks import LeakCheck

    with LeakCheck() as check:
        yield check


@pytest.fixture
def streaming_context(manual_clock: ManualClock) -> Iterator[Callable[..., StreamingContext]]:
    """Makes contexts on :func:`manual_clock`, in this process; takes the options of StreamingContext.

    Fails the test when one that was started was not stopped.
    """
    from ..context import StreamingContext
    from ..types import ContextState

    made: list[StreamingContext] = []

    def make(interval: float = 1.0, master: str = "local", **options: Any) -> StreamingContext:
        made.append(StreamingContext(interval, master, clock=manual_clock, **options))
        return made[-1]

    yield make
    running = [ssc for ssc in made if ssc.state is ContextState.ACTIVE]
    assert not running, f"{len(running)} contexts are running: use `async with`, or await stop()"
