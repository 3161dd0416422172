"""A program of a test: state several times the memory that it may take, and what it took."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import sys
from typing import Any

import psutil

from aiostream_engine import EngineContext, StateConfig
from aiostream_engine.testing import run_batches

VALUE_BYTES = 20_000


def counted(key: int, value: int, state: Any) -> tuple[int, int]:
    count = state.get((0, b""))[0] + value
    state.update((count, bytes(VALUE_BYTES)))
    return key, count


def updated(values: list[int], old: tuple[int, bytes] | None) -> tuple[int, bytes]:
    return (old[0] if old else 0) + sum(values), bytes(VALUE_BYTES)


class Peaks:
    """The most memory, without pages of files, of each worker and of the driver; and the state."""

    def __init__(self, engine: EngineContext, directory: str) -> None:
        self._engine = engine
        self._directory = directory
        self.bytes: dict[int, int] = {}
        self.states: list[dict[str, Any]] = []
        self.state_files: set[str] = set()

    def look(self) -> None:
        self.states = [dataclasses.asdict(state) for state in self._engine.statistics().states] or self.states
        self.state_files |= {name for name in files_in(self._directory) if name.startswith("state-")}
        for process in (psutil.Process(), *psutil.Process().children()):
            if process.name().startswith("python"):
                resident = anonymous_bytes(process.pid)
                self.bytes[process.pid] = max(resident, self.bytes.get(process.pid, 0))

    async def watch(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(0.02)


def anonymous_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status") as status:
            return sum(
                int(line.split()[1]) * 1024 for line in status if line.startswith(("RssAnon", "RssShmem"))
            )
    except OSError:
        return 0


def files_in(directory: str) -> list[str]:
    return [name for _, _, files in os.walk(directory) for name in files]


def kill_once(marker: str, rdd: Any) -> Any:
    """Kills the worker in the last batch, once."""

    def kill(pair: Any) -> Any:
        if pair == (0, 0) and not os.path.exists(marker):
            with open(marker, "w"):
                os.kill(os.getpid(), signal.SIGKILL)
        return pair

    return rdd.map(kill)


async def main(keys: int, memory_bytes_max: int, directory: str) -> None:
    groups = [[(key, 1) for key in range(first, keys, 8)] for first in range(8)]
    batches = [*groups, [(0, 0), *((key, 1) for key in range(0, keys, 50))]]
    state = StateConfig("disk", memory_bytes_max)
    async with EngineContext("local[1]", state=state, spill_directory=directory) as engine:
        peaks = Peaks(engine, directory)
        watcher = asyncio.create_task(peaks.watch())

        def build(pairs: Any) -> Any:
            killing = pairs.transform(lambda rdd: kill_once(os.path.join(directory, "killed"), rdd))
            return killing.map_with_state(counted, name="counts")

        given = await run_batches(build, batches, engine=engine, partitions=1, timeout_s=120)
        watcher.cancel()
    last = given[-1] or []
    print(
        json.dumps(
            {
                "right": sorted(last[1:]) == [(key, 2) for key in range(0, keys, 50)],
                "driver_bytes": peaks.bytes.pop(os.getpid()),
                "worker_bytes": list(peaks.bytes.values()),
                "state": peaks.states[0],
                "state_files": sorted(peaks.state_files),
                "left": [name for name in files_in(directory) if name != "killed"],
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
