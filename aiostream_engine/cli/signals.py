"""SIGINT and SIGTERM of a command: drain, then stop, then die."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .exit_code import ExitCode

__all__ = ["StopSignals"]

STOP_GRACE_S = 5.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """The first signal sets ``drain``, the second ``force``, a third ends the process on the spot.

    stop_timeout_s: how long a drain may take: ``STOP_GRACE_S`` after that the process ends, whatever
        hangs, since a container that is not gone in time is killed anyway. None for no limit.
    say: called with a line for the user at the first and second; may be replaced meanwhile, since
        a live picture has a place of its own for it.
    Only commands use it: the library itself never touches signals.
    """

    def __init__(self, say: Callable[[str], None], *, stop_timeout_s: float | None = None) -> None:
        self.say = say
        self._stop_timeout_s = stop_timeout_s
        self.drain = asyncio.Event()
        self.force = asyncio.Event()

    @contextmanager
    def installed(self) -> Iterator[StopSignals]:
        """Handle the signals meanwhile, on the running loop."""
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._received, number)
        try:
            yield self
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
                if before[number] is not None:  # the loop leaves Python's defaults, not what was there
                    signal.signal(number, before[number])

    def _received(self, number: int) -> None:
        name = signal.Signals(number).name
        if not self.drain.is_set():
            self.drain.set()
            self._end_process_in_time()
            self.say(f"{name}: draining what was received; once more to stop at once")
        elif not self.force.is_set():
            self.force.set()
            self.say(f"{name} again: stopping at once")
        else:
            os._exit(ExitCode.FORCED)

    def _end_process_in_time(self) -> None:
        if self._stop_timeout_s is not None:
            timer = threading.Timer(self._stop_timeout_s + STOP_GRACE_S, os._exit, (ExitCode.FORCED,))
            timer.daemon = True
            timer.start()
