"""A program of a contender that runs until it is ended, and says when it is ready to begin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["ready_program"]


@contextmanager
def ready_program(interpreter: str, program: str, given: Mapping[str, Any]) -> Iterator[None]:
    """Start it, go on when it has printed ``READY``, and kill it in the end."""
    process = subprocess.Popen([interpreter, program, json.dumps(given)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        while (line := process.stdout.readline()).strip() != "READY":
            assert line, "the program ended"
        yield
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
