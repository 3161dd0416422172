"""Whether a directory that is meant to be on a disk is in memory."""

from __future__ import annotations

import os

__all__ = ["lies_in_memory"]

_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})


def lies_in_memory(path: str, mounts: str = "/proc/self/mounts") -> bool:
    """True when the file system of ``path`` is one in memory; False also where that cannot be told.

    mounts: the kernel's list, for tests. Reads a small file: belongs into a thread.
    """
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            found = [line.split(" ")[1:3] for line in file]
    except OSError:  # not Linux
        return False
    real = os.path.join(os.path.realpath(path), "")
    under = [
        (len(point), kind)
        for point, kind in ((_unescaped(point), kind) for point, kind in found)
        if real.startswith(os.path.join(point, ""))
    ]
    return bool(under) and max(reversed(under), key=lambda item: item[0])[1] in _IN_MEMORY


def _unescaped(point: str) -> str:
    for code in ("040", "011", "012", "134"):  # as the kernel writes white space and backslashes
        point = point.replace(f"\\{code}", chr(int(code, 8)))
    return point
