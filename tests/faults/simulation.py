"""The whole runtime under a manual clock, on a disk with faults, all chosen by a seed.

    python tests/faults/simulation.py --seeds 1000 --first 0

prints the seeds that failed; each can be run alone, and is kept in ``test_simulation.py`` then. What
the seed does not choose is the timing of threads, which makes little difference: the runtime awaits
each of its file operations.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import operator
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import pytest

from aiostream_engine.config import KIB, SchedulerConfig, StateConfig
from aiostream_engine.dstream import DStream
from aiostream_engine.runtime import checkpointing, commit, state_registry
from aiostream_engine.runtime.chains import ChainLink
from aiostream_engine.runtime.state_registry import StateRegistry
from aiostream_engine.state import changelog, sweep
from aiostream_engine.testing import FaultFiles
from tests.faults.world import (
    Crash,
    KeyedSink,
    Outside,
    StagingSink,
    World,
    expected_outputs,
    running_sum,
    standard_program,
)

LIVES_MAX = 6
CRASH_POINTS = (
    "before_intent",
    "after_intent",
    "before_commit",
    "after_commit",
    "mid_publish",
    "after_publish",
    "after_collect",
    "mid_recovery",
)


@dataclass
class Life:
    """What happens to one driver."""

    fault: str
    at: int
    parallelism: int
    error: int
    tear: bool
    upto: int


def last_word(key: int, value: int | None, state: Any) -> list[Any] | None:
    if state.is_timing_out():
        return [key, state.get()]
    state.update(state.get(0) + value)
    return None


def program(pairs: DStream[Any], outside: Outside) -> None:
    """The standard one, with timers, a state that changes in every batch, and a slow window."""
    standard_program(pairs, outside)
    gone = pairs.map_with_state(last_word, name="idle", timeout_s=2.0)
    gone.filter(lambda item: item is not None).to(KeyedSink(outside, "gone"))
    counts = pairs.update_state_by_key(lambda values, old: (old or 0) + 1, name="batches seen")
    counts.to(StagingSink(outside, "seen"))
    pairs.reduce_by_key_and_window(operator.add, operator.sub, 4.0, 2.0, name="slow").to(
        KeyedSink(outside, "slow")
    )
    pairs.map_with_state(running_sum, name="again").filter(lambda item: item[0] < 3).to(
        StagingSink(outside, "again")
    )


def choose_items(choice: random.Random) -> list[list[tuple[int, int]]]:
    """Batches of all sizes, one of which may be too large to ride in a reference."""
    items = []
    for number in range(choice.randint(5, 12)):
        size = choice.choice([0, 1, 3, 10, 10, 50, 20_000 if choice.random() < 0.1 else 5])
        items.append([(choice.randrange(8), number * 100_000 + index) for index in range(size)])
    return items


def choose_life(choice: random.Random, batches: int) -> Life:
    fault = choice.choice(
        ["power", "power", "kill", "fail", "fail", "broken", "full", "crash", "crash", "stop"]
    )
    at = choice.randint(1, 12) if fault == "crash" else choice.randint(1, 120)
    error = choice.choice([errno.EIO, errno.EXDEV, errno.EROFS, errno.ENOSPC])
    return Life(fault, at, choice.randint(1, 4), error, choice.random() < 0.5, choice.randint(0, batches))


@contextmanager
def crashing(choice: random.Random, life: Life) -> Iterator[None]:
    """Raise at a crash point, which ends the driver without a loss of power."""
    name, left = choice.choice(CRASH_POINTS), [life.at]

    def point(at: str) -> None:
        if life.fault == "crash" and at == name:
            left[0] -= 1
            if left[0] == 0:
                raise Crash(name)

    modules = (commit, checkpointing)
    before = [module.crash_point for module in modules]
    for module in modules:
        module.crash_point = point  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module, old in zip(modules, before, strict=True):
            module.crash_point = old  # type: ignore[attr-defined]


async def live(world: World, life: Life, choice: random.Random) -> None:
    """One life of a driver, with its fault."""
    options: dict[str, Any] = {}
    if life.fault in ("power", "kill"):
        options = {"cut_at": life.at}
    elif life.fault in ("fail", "broken"):
        options = {"fail_at": life.at, "error": life.error, "fails": 1 if life.fault == "fail" else 10**6}
    elif life.fault == "full":
        options = {
            "fail_at": life.at,
            "error": errno.ENOSPC,
            "fails": choice.randint(1, 3),
            "only": {"write"},
        }
    files = FaultFiles(world.directory, tear=life.tear, **options)
    files.on_power_off = lambda: setattr(world.outside, "is_off", True)
    world.parallelism = life.parallelism
    with crashing(choice, life):
        await world.run(files, upto=life.upto if life.fault == "stop" else None)
    if files.is_off and life.fault == "power":
        files.power_cut(choice.randrange(2**32))
    world.outside.is_off = False


@contextmanager
def sweeping(done: list[int]) -> Iterator[None]:
    """Snapshots all the time, of a key or two in each batch. done: gets the versions that completed one."""
    extend = StateRegistry._extend

    def noted(self: Any, partition: Any, link: ChainLink, is_snapshot: bool) -> None:
        extend(self, partition, link, is_snapshot)
        if link.sweep_done:
            done.append(link.version)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_registry, "CHAIN_BYTES_MIN", 0)
        patch.setattr(state_registry, "CHAIN_BLOCKS_MAX", 4)
        patch.setattr(sweep, "_KEYS", (1, 1))
        patch.setattr(changelog, "WHOLE_SHARE", 2)
        patch.setattr(StateRegistry, "_extend", noted)
        yield


async def simulate(seed: int, directory: str, state: StateConfig | None = None) -> list[Life]:
    """Raises AssertionError when something was lost, doubled, out of order or changed."""
    choice = random.Random(seed)
    items = choose_items(choice)
    expected = await expected_outputs(f"{directory}/expected", items, program=program)
    scheduler = SchedulerConfig(
        missed_ticks="every",
        batches_in_flight_max=choice.randint(1, 4),
        concurrent_batches=choice.randint(1, 3),
    )
    config = {"segment_bytes": choice.choice([1, 500, 3000, 10**6]), "disk_full_wait_s": 0.2}
    world = World(f"{directory}/cp", items, program=program, config=config, scheduler=scheduler, state=state)
    lives = [choose_life(choice, len(items)) for _ in range(choice.randint(1, LIVES_MAX))]
    clock = random.Random(f"clock of {seed}")  # apart, so that the faults of a seed stay what they were
    for life in lives:
        await live(world, life, choice)
        if world.time_s:  # a stream that has begun: a downtime, or a clock that is set back
            world.time_s += clock.choice([0.0, 0.0, 1.0, 3.7, 11.0, -2.0, -3600.0])
    world.parallelism = choice.randint(1, 4)
    error = await world.run()
    assert error is None, f"the last driver failed: {error!r}"
    outputs = world.outputs()
    wrong = {
        key: (outputs.get(key), records) for key, records in expected.items() if outputs.get(key) != records
    }
    assert not wrong, f"wrong: {dict(list(wrong.items())[:3])}"
    assert outputs.keys() == expected.keys(), f"too much: {outputs.keys() - expected.keys()}"
    return lives


def run_seed(seed: int, state: StateConfig | None = None) -> list[Life]:
    """A simulation on a loop of its own."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        return asyncio.run(asyncio.wait_for(simulate(seed, directory, state), 120))


def run_swept_seed(seed: int) -> list[int]:
    """The same with snapshots in slices, of state in memory or on disk; gives how many were completed."""
    done: list[int] = []
    backend: Literal["memory", "disk"] = "disk" if seed % 2 else "memory"
    with sweeping(done):
        run_seed(seed, StateConfig(backend, 64 * KIB, snapshot_slice_bytes=1))
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--sweeps", action="store_true", help="with snapshots in slices all the time")
    parser.add_argument("--trace", action="store_true", help="show what failed")
    options = parser.parse_args()
    failed, lives, began = [], 0, time.monotonic()
    for seed in range(options.first, options.first + options.seeds):
        try:
            lives += len(run_swept_seed(seed) if options.sweeps else run_seed(seed))
        except Exception as error:
            failed.append(seed)
            print(f"seed {seed}: {str(error)[:300]}")
            if options.trace:
                traceback.print_exc()
    took = time.monotonic() - began
    what = "snapshots in slices" if options.sweeps else "lives with a fault"
    print(f"{options.seeds} seeds, {lives} {what}, {took:.0f} s, failed: {failed}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
