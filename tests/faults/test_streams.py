"""Workers are killed under running streams: results are exact, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import operator
import os
import random
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from aiostream_engine.config import PoolConfig
from aiostream_engine.observe.events import WorkerLost
from aiostream_engine.testing import VerifyingSink, numbered_records
from aiostream_engine.types import BatchTime
from tests.stage import Stage

pytestmark = pytest.mark.faults

# Kills come from outside and at random: no task is to blame for as many as may hit it.
POOL = PoolConfig(task_attempts_max=20, worker_restarts_max=1000)


def workers() -> list[psutil.Process]:
    """The worker processes of this process."""
    found = []
    for process in psutil.Process().children():
        try:
            if "aiostream_engine.executors.process.worker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:  # ended meanwhile
            continue
    return found


async def batches_under_fire(stage: Stage, count: int, seed: int) -> int:
    """Run batches, some with a kill of a random worker at a random moment; gives the number of kills.

    Moments and victims come from ``seed``; what they hit depends on the machine, which is the point.
    """
    numbers = random.Random(seed)
    kills = 0

    async def kill(after_s: float) -> None:
        nonlocal kills
        await asyncio.sleep(after_s)
        alive = workers()
        if alive:
            numbers.choice(alive).send_signal(signal.SIGKILL)
            kills += 1

    for _ in range(count):
        if numbers.random() < 0.4:
            await asyncio.gather(stage.batch(), kill(numbers.choice([0, 0.002, 0.005, 0.01, 0.02])))
        else:
            await stage.batch()
    return kills


def pool_stage(*scripts: Any, **options: Any) -> Stage:
    return Stage(*scripts, master="local[2]", pool=POOL, **options)


def random_pairs(seed: int, batches: int, records: int = 40) -> list[list[tuple[str, int]]]:
    numbers = random.Random(seed)
    return [
        [(numbers.choice("abcdefg"), numbers.randint(1, 9)) for _ in range(records)] for _ in range(batches)
    ]


def sums(records: Any) -> dict[str, int]:
    totals: dict[str, int] = {}
    for key, value in records:
        totals[key] = totals.get(key, 0) + value
    return totals


def total(new: list[int], old: int | None) -> int:
    return sum(new) + (old or 0)


BATCHES = 16


@pytest.mark.parametrize("seed", [1])
async def test_state_and_windows_are_exact_though_workers_die_at_random_times(seed: int):
    """Keyed state, windows and inverse windows of one stream, all in every batch."""
    batches = random_pairs(seed, BATCHES)
    stage = pool_stage(batches, parallelism=4)
    seen: dict[str, dict[int, dict[str, int]]] = {"state": {}, "plain": {}, "inverse": {}, "tumbling": {}}

    def keep(name: str) -> Any:
        async def output(rdd: Any, time: BatchTime) -> None:
            records = await rdd.collect()
            assert len(records) == len(dict(records)), (name, time)
            seen[name][int(time) // 1000] = dict(records)

        return output

    s = stage.stream
    s.update_state_by_key(total).foreach_rdd(keep("state"))
    s.reduce_by_key_and_window(operator.add, None, 5).foreach_rdd(keep("plain"))
    s.reduce_by_key_and_window(operator.add, operator.sub, 5).foreach_rdd(keep("inverse"))
    s.reduce_by_key_and_window(operator.add, operator.sub, 4, 4).foreach_rdd(keep("tumbling"))
    async with stage.started():
        assert await batches_under_fire(stage, BATCHES, seed) > 3
    await stage.ssc.await_termination()
    for label in range(1, BATCHES + 1):
        assert seen["state"][label] == sums(record for batch in batches[:label] for record in batch)
        last_five = sums(record for batch in batches[max(0, label - 5) : label] for record in batch)
        assert seen["plain"][label] == last_five
        assert {key: value for key, value in seen["inverse"][label].items() if value} == last_five
        if label % 4 == 0:
            assert seen["tumbling"][label] == sums(r for batch in batches[label - 4 : label] for r in batch)


async def test_mapped_state_with_timeouts_is_exact_though_workers_die_at_random_times():
    numbers = random.Random(3)
    batches = [[(key, n) for key in numbers.sample("abcdef", 2)] for n in range(BATCHES)]

    def visit(key: str, value: int | None, state: Any) -> tuple[Any, ...]:
        if state.is_timing_out():
            return (key, "idle", state.get())
        state.update(state.get(0) + 1)
        return (key, value, state.get())

    stage = pool_stage(batches, parallelism=3, partitions=1)
    stage.look(stage.stream.map_with_state(visit, timeout_s=3))
    async with stage.started():
        await batches_under_fire(stage, BATCHES, seed=3)
    counts: dict[str, int] = {}
    touched: dict[str, int] = {}
    for label, (batch, got) in enumerate(zip(batches, stage.records, strict=True), start=1):
        expected: list[tuple[Any, ...]] = []
        for key, value in batch:
            counts[key] = counts.get(key, 0) + 1
            touched[key] = label
            expected.append((key, value, counts[key]))
        for key in [key for key in counts if touched[key] < label - 3]:
            expected.append((key, "idle", counts.pop(key)))
        assert sorted(got, key=repr) == sorted(expected, key=repr)


async def test_every_record_reaches_the_sink_once_though_workers_die_at_random_times():
    """Through a shuffle, an asynchronous step in the workers, and a window."""
    batches = [list(numbered_records("s", 50, start=50 * n)) for n in range(BATCHES)]
    sink = VerifyingSink({"s": 50 * BATCHES})

    async def same(record: Any) -> Any:
        await asyncio.sleep(0)
        return record

    stage = pool_stage(batches, parallelism=2)
    kept = stage.stream.map_async(same, placement="worker").map(lambda x: (x.sequence % 5, x))
    kept.group_by_key(1).flat_map(lambda pair: pair[1]).transform(
        lambda rdd: rdd.sort_by(lambda x: x.sequence, partitions=1)
    ).to(sink)
    async with stage.started():
        await batches_under_fire(stage, BATCHES, seed=4)
    await stage.ssc.await_termination()
    sink.assert_exactly_once()


def dies_once(marker: str, key: str) -> None:
    """Kill this worker the first time that ``key`` comes by."""
    if key == "fatal" and not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)


async def test_a_worker_that_dies_while_it_updates_a_state_leaves_no_half_of_it(tmp_path: Path):
    marker = str(tmp_path / "died")

    def update(key: str, new: list[int], old: int | None) -> int:
        dies_once(marker, key)
        return total(new, old)

    stage = pool_stage([[("a", 1), ("b", 1)], [("a", 1), ("fatal", 1), ("b", 1)], [("b", 1)]], parallelism=1)
    stage.look(stage.stream.update_state_by_key(update, with_key=True))
    async with stage.started():
        await stage.batch(3)
    await stage.ssc.await_termination()
    assert [dict(batch) for batch in stage.records] == [
        {"a": 1, "b": 1},
        {"a": 2, "b": 2, "fatal": 1},
        {"a": 2, "b": 3, "fatal": 1},
    ]
    assert sum(isinstance(event, WorkerLost) for event in stage.events) == 1


@pytest.mark.parametrize("chain_max", [1, 3])
async def test_a_lost_state_is_rebuilt_from_snapshots_and_changes(
    chain_max: int, monkeypatch: pytest.MonkeyPatch
):
    """However many snapshots lie in the chain, and wherever in it the workers die."""
    monkeypatch.setattr("aiostream_engine.runtime.state_registry.CHAIN_BLOCKS_MAX", chain_max)
    batches = random_pairs(5, 8, records=10)
    stage = pool_stage(batches, parallelism=2)
    stage.look(stage.stream.update_state_by_key(lambda new, old: None if sum(new) > 12 else total(new, old)))
    chains = []
    async with stage.started():
        for number in range(len(batches)):
            if number in (1, 4, 7):
                for worker in workers():
                    worker.send_signal(signal.SIGKILL)
            await stage.batch()
            chains.append(stage.ssc.engine.statistics().states[0].chain_blocks)
    model: dict[str, int] = {}
    for batch, got in zip(batches, stage.records, strict=True):
        new: dict[str, list[int]] = {}
        for key, value in batch:
            new.setdefault(key, []).append(value)
        for key, values in new.items():
            if sum(values) > 12:
                model.pop(key, None)
            else:
                model[key] = model.get(key, 0) + sum(values)
        assert dict(got) == model
    assert max(chains) <= 2 * (chain_max + 1)


async def test_a_chain_of_changes_does_not_grow_without_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aiostream_engine.runtime.state_registry.CHAIN_BLOCKS_MAX", 5)
    stage = pool_stage([[("k", n)] for n in range(30)], parallelism=1)
    stage.look(stage.stream.map_with_state(lambda k, v, state: state.update(v)))
    files, chains = [], []
    async with stage.started():
        for _ in range(3):
            await stage.batch(10)
            statistics = stage.ssc.engine.statistics()
            files.append(statistics.blocks.files)
            chains.append(statistics.states[0].chain_blocks)
    assert files == [0] * 3
    assert max(chains) <= 6


async def test_a_stream_in_which_all_workers_die_at_once_goes_on():
    stage = pool_stage([[("k", 1)] for _ in range(4)])
    stage.look(stage.stream.update_state_by_key(total).join(stage.stream.reduce_by_key(operator.add)))
    async with stage.started():
        for _ in range(2):
            await stage.batch()
            for worker in workers():
                worker.send_signal(signal.SIGKILL)
            await stage.batch()
    await stage.ssc.await_termination()
    assert stage.records == [[("k", (n, 1))] for n in range(1, 5)]


async def test_a_stream_that_is_stopped_while_a_worker_is_dead_stops():
    stage = pool_stage([[("k", 1)]] * 3)
    stage.look(stage.stream.update_state_by_key(total))
    async with stage.started():
        await stage.batch()
        for worker in workers():
            worker.send_signal(signal.SIGKILL)
        assert await asyncio.wait_for(stage.ssc.stop(), 30)
    assert stage.records == [[("k", 1)], [("k", 2)], [("k", 3)]]
