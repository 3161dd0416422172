"""What workers print, on its way to the log: cut into lines, named by step, rate limited."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

__all__ = ["OutputLog", "RateLimit"]

logger = logging.getLogger("aiostream_engine.worker")

READ_BYTES = 64 * 1024
LINE_BYTES_MAX = 8 * 1024
TAIL_BYTES = 4 * 1024
DRAIN_BYTES_MAX = 1024 * 1024

# A record of the user may hold anything: no line may fake another or steer a terminal (J4).
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


class RateLimit:
    """So many lines per second; the rest is counted.

    Parameters
    ----------
    lines_per_s_max: lines that pass in one second.
    """

    def __init__(self, lines_per_s_max: int) -> None:
        self._lines_per_s_max = lines_per_s_max
        self._window = -1
        self._left = 0
        self.dropped = 0
        self._unreported = 0

    def admit(self, now: float) -> bool:
        """True when one more line may pass at ``now`` (seconds)."""
        if int(now) != self._window:
            self._window, self._left = int(now), self._lines_per_s_max
        if self._left > 0:
            self._left -= 1
            return True
        self.drop(1)
        return False

    def exhausted(self, now: float) -> bool:
        """True when no line may pass before the next second."""
        return int(now) == self._window and self._left <= 0

    def drop(self, lines: int) -> None:
        """Count lines that were not even looked at."""
        self.dropped += lines
        self._unreported += lines

    def take_unreported(self) -> int:
        """Lines dropped since the last call."""
        count, self._unreported = self._unreported, 0
        return count


class OutputLog:
    """One stream (standard output or error) of one worker.

    Reads whenever there is something, whatever the rate, so that a worker never blocks on a full
    pipe; what is over the rate is counted and dropped.

    Parameters
    ----------
    fd: the reading end of the pipe, non-blocking; owned and closed by this object.
    level: of the log records.
    step: gives the name of the step that the worker runs.
    limit: shared by the streams that share a budget.
    time: seconds that never go back.
    on_line: gets each line instead of the log.
    """

    def __init__(
        self,
        fd: int,
        level: int,
        slot: int,
        step: Callable[[], str],
        limit: RateLimit,
        time: Callable[[], float],
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self.fd = fd
        self._level = level
        self._slot = slot
        self._step = step
        self._limit = limit
        self._time = time
        self._on_line = on_line
        self._partial = b""
        self._tail = b""

    @property
    def tail(self) -> str:
        """The last lines, for an error message."""
        return self._tail.decode("utf-8", "replace").strip().translate(_CONTROL)

    def read(self) -> bool:
        """Take what one read gives; False at the end of the stream."""
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._take(data)
        return bool(data)

    def close(self) -> None:
        """Take what is left, up to a bound, and close the pipe: descendants may hold its other end."""
        for _ in range(DRAIN_BYTES_MAX // READ_BYTES):
            try:
                data = os.read(self.fd, READ_BYTES)
            except OSError:
                break
            if not data:
                break
            self._take(data)
        if self._partial:
            self._emit(self._partial)
            self._partial = b""
        os.close(self.fd)

    def _take(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        now = self._time()
        if self._limit.exhausted(now):
            self._limit.drop(data.count(b"\n"))
            self._partial = b""
            return
        self._report_dropped()
        *lines, rest = (self._partial + data).split(b"\n")
        while len(rest) > LINE_BYTES_MAX:
            lines.append(rest[:LINE_BYTES_MAX])
            rest = rest[LINE_BYTES_MAX:]
        self._partial = rest
        for line in lines:
            if self._limit.admit(now):
                self._emit(line)

    def _emit(self, line: bytes) -> None:
        text = line[:LINE_BYTES_MAX].decode("utf-8", "replace").translate(_CONTROL)
        if self._on_line is not None:
            self._on_line(text)
            return
        step = self._step()
        logger.log(
            self._level,
            "[worker %d, %s] %s",
            self._slot,
            step,
            text,
            extra={"slot": self._slot, "step": step},
        )

    def _report_dropped(self) -> None:
        if count := self._limit.take_unreported():
            logger.warning(
                "[worker %d] %d lines of output dropped: over output_lines_per_s_max", self._slot, count
            )
