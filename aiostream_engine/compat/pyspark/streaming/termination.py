"""What awaitTermination waits for: the end of a stream, or its first error."""

from __future__ import annotations

import threading
import time

__all__ = ["Termination"]


class Termination:
    """One slot for an error and a flag for the end; used from any thread.

    An error has precedence and stays: each wait raises it (row CTX-15). It does not end the stream.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._stopped = False

    @property
    def error(self) -> BaseException | None:
        """The error that was reported last."""
        return self._error

    def report(self, error: BaseException) -> None:
        """Something failed: wake who waits."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def stop(self) -> None:
        """The stream has ended: wake who waits."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end: True then, False when ``timeout_s`` seconds passed first.

        Negative or None waits without a limit. Raises the reported error.
        """
        deadline = None if timeout_s is None or timeout_s < 0 else time.monotonic() + timeout_s
        with self._changed:
            while self._error is None and not self._stopped:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
            if self._error is not None:
                raise self._error
            return True
