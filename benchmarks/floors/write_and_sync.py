"""The same blocks one after the other into one file, each synced before the next, and no checksum."""

from __future__ import annotations

import os
import platform

from common.blocks import block_bytes
from common.program import parameters, report, stopwatch

given = parameters()


def main() -> None:
    blocks = [block_bytes(number, given["bytes"]) for number in range(given["blocks"])]
    path = os.path.join(given["disk"], "log")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, blocks[0])
    os.fdatasync(fd)
    used, started = os.times(), stopwatch()
    for block in blocks:
        os.write(fd, block)
        os.fdatasync(fd)
    seconds = stopwatch() - started
    processor_s = sum(os.times()[:2]) - sum(used[:2])
    os.close(fd)
    size = len(blocks) * given["bytes"]
    is_whole = os.path.getsize(path) == size + given["bytes"]
    report(
        answer="all there" if is_whole else "blocks are missing",
        version=platform.python_version(),
        metrics={
            "bytes_per_s": size / seconds,
            "processor_s_per_gb": processor_s / size * 1e9,
            "blocks_per_sync": 1,
        },
    )


main()
