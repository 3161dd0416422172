"""The event loop that a program is asked to use."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["run_on"]


def run_on(loop: str, main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` on ``asyncio``'s own loop or on ``uvloop``, as the command line does by default."""
    if loop == "uvloop":
        import uvloop

        uvloop.run(main)
    else:
        asyncio.run(main)
