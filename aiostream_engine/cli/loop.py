"""The event loop of a command: uvloop where present, and an end that cannot hang."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from .exit_code import ExitCode

__all__ = ["loop_factory", "run_loop"]

CLEANUP_TIMEOUT_S = 10.0


def loop_factory(uvloop: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the loop: uvloop's when it is wanted and installed, else None for the default."""
    if not uvloop:
        return None
    try:
        import uvloop as fast
    except ModuleNotFoundError:
        return None
    return fast.new_event_loop


def run_loop(main: Coroutine[Any, Any, ExitCode], *, uvloop: bool = True) -> ExitCode:
    """Run the main coroutine of a command on a loop of its own; gives its exit code.

    Once ``main`` has answered, what is left behind (a thread of user code that never returns)
    gets ``CLEANUP_TIMEOUT_S`` seconds; then the process ends with the answer all the same.
    """
    try:
        with asyncio.Runner(loop_factory=loop_factory(uvloop)) as runner:
            code = runner.run(main)
            watchdog = _end_process_after(CLEANUP_TIMEOUT_S, code)
        if code is not ExitCode.FORCED:  # by force: not even threads at interpreter exit may hold it up
            watchdog.cancel()
    except KeyboardInterrupt:  # before the handlers were there, or after they were gone
        return ExitCode.FORCED
    return code


def _end_process_after(seconds: float, code: ExitCode) -> threading.Timer:
    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer
