"""Fixtures for users' tests, found by pytest through the ``pytest11`` entry point.

Nothing but pytest is imported until a fixture is used. Works with any plugin that runs async
tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
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
