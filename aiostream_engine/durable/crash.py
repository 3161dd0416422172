"""Named places at which a process kills itself, when the environment says so.

The idea is that of TiKV's and RocksDB's fail points. A crash is SIGKILL: no ``finally``, no
``atexit``, no flush, as with a lost machine. Imports nothing of the engine, so that a worker
process may meet a crash point.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

__all__ = ["CRASH_VARIABLE", "crash_environment", "crash_point"]

CRASH_VARIABLE = "AIOSTREAM_CRASH_POINT"

_hits: Counter[str] = Counter()


def crash_environment(name: str, *, hit: int = 1, once: str | None = None) -> dict[str, str]:
    """Environment variables that arm the crash point ``name`` in processes started with them.

    Parameters
    ----------
    hit: the process dies when it comes there for the ``hit``-th time.
    once: path of a file, not yet there, that makes one process alone die, of all that share it:
        a replacement then gets past. None kills each process.
    """
    if ":" in name or not name:
        raise ValueError(f"crash point {name!r}: a name is not empty and has no colon")
    if hit < 1:
        raise ValueError(f"hit is {hit}: it counts from 1")
    return {CRASH_VARIABLE: f"{name}:{hit}:{once or ''}"}


def crash_point(name: str) -> None:
    """Kill this process here if ``name`` is armed; costs one look-up otherwise."""
    armed = os.environ.get(CRASH_VARIABLE)
    if armed is None:
        return
    armed_name, hit, once = armed.split(":", 2)
    if armed_name != name:
        return
    _hits[name] += 1
    if _hits[name] == int(hit) and (not once or _first_to_come(once)):
        os.kill(os.getpid(), signal.SIGKILL)


def _first_to_come(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    return True
