"""SIGINT and SIGTERM of a command: drain, then stop, then die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .exit_code import ExitCode

__all__ = ["StopSignals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """The first signal sets ``drain``, the second ``force``, a third ends the process on the spot.

    say: called with a line for the user at the first and second; may be replaced meanwhile, since
        a live picture has a place of its own for it.
    Only commands use it: the library itself never touches signals.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
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
            self.say(f"{name}: draining what was received; once more to stop at once")
        elif not self.force.is_set():
            self.force.set()
            self.say(f"{name} again: stopping at once")
        else:
            os._exit(ExitCode.FORCED)
