"""A stream as a process of its own that tells what it did, and can be killed.

Standard library only. The process prints a line of JSON for each thing it tells: ``[what, when, data]``, with
the time of the clock that all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Self

__all__ = ["StreamProcess", "tell"]

_MARK = "STREAM-TELLS "


def tell(what: str, data: Any = None) -> None:
    """Tell the process that started this one."""
    sys.stdout.write(f"{_MARK}{json.dumps([what, time.monotonic(), data])}\n")
    sys.stdout.flush()


class StreamProcess:
    """This program once more, with ``role`` in its parameters; in a process group of its own."""

    def __init__(self, parameters: dict[str, Any], role: str = "stream", timeout_s: float = 240) -> None:
        self._timeout_s = timeout_s
        self._tail: list[str] = []
        self._told: queue.Queue[tuple[str, float, Any] | None] = queue.Queue()
        self.started_at = time.monotonic()
        command = [sys.executable, sys.argv[0], json.dumps({**parameters, "role": role})]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(_MARK):
                self._told.put(tuple(json.loads(line.removeprefix(_MARK))))
            else:
                self._tail = [*self._tail[-20:], line]
        self._told.put(None)

    def wait_for(self, what: str) -> tuple[float, Any]:
        """When the next ``what`` was told, and what with it; RuntimeError when it is not told in time."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                told = self._told.get(timeout=max(0.001, deadline - time.monotonic()))
            except queue.Empty:
                raise RuntimeError(f"{what} was not told within {self._timeout_s:g} s") from None
            if told is None:
                raise RuntimeError(f"the stream ended before {what}:\n{''.join(self._tail)}")
            if told[0] == what:
                return told[1], told[2]

    def check(self) -> None:
        """Raises RuntimeError when the stream has ended by itself."""
        if self._process.poll() is not None:
            time.sleep(0.2)  # its last lines
            raise RuntimeError(f"the stream ended by itself:\n{''.join(self._tail)}")

    def kill(self) -> float:
        """Kill the driver alone with SIGKILL; gives the time. What it leaves behind is swept after."""
        killed_at = time.monotonic()
        self._process.kill()
        self._process.wait()
        return killed_at

    def sweep(self) -> None:
        """Kill what is left of the group: workers and virtual machines may live a little longer."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()
        self.sweep()
