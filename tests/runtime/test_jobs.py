"""Running a lineage: what is computed when, who owns the blocks, what a lost worker costs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from aiostream_engine import EngineContext
from aiostream_engine.blocks.directory import BlockDirectory
from aiostream_engine.errors import StepError
from aiostream_engine.executors.base import Program, Task, TaskResult
from aiostream_engine.executors.inline import InlineExecutor
from aiostream_engine.operators.function import Fn
from aiostream_engine.operators.structure import ErrorPolicy
from aiostream_engine.plan.nodes import StateNode
from aiostream_engine.state.specs import MapWithState, UpdateState
from aiostream_engine.types import OnError


class Recording(InlineExecutor):
    """Notes the calls that it gets, and which of them were under way at the same time."""

    def __init__(self, directory: BlockDirectory) -> None:
        super().__init__(directory)
        self.calls: list[tuple[str, int]] = []
        self.under_way = self.most_under_way = 0

    async def run(self, program: Program, tasks: Sequence[Task]) -> list[TaskResult]:
        self.calls.append((program.step, len(tasks)))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)
            return await super().run(program, tasks)
        finally:
            self.under_way -= 1


@pytest.fixture
async def sc() -> AsyncIterator[EngineContext]:
    async with EngineContext("local", parallelism=3, executor=Recording) as context:
        yield context


def executor(sc: EngineContext) -> Recording:
    found = sc.runner.executor
    assert isinstance(found, Recording)
    return found


async def test_tasks_of_one_program_are_one_call(sc: EngineContext) -> None:
    await sc.range(9).map(str, name="text").collect()
    assert executor(sc).calls == [("text", 3)]


async def test_stages_that_need_nothing_of_each_other_run_side_by_side(sc: EngineContext) -> None:
    a, b = (sc.range(9).map(lambda n: (n, n)).group_by_key(2, name=name) for name in ("a", "b"))
    await a.join(b, 2).collect()
    assert executor(sc).most_under_way == 2
    assert [step for step, _ in executor(sc).calls[:2]] in (["a", "b"], ["b", "a"])


async def test_a_shuffle_that_two_sides_share_runs_once(sc: EngineContext) -> None:
    shared = sc.range(9).map(lambda n: (n % 3, n)).group_by_key(name="shared")
    await shared.map_values(len).join(shared.map_values(sum)).collect()
    assert [step for step, _ in executor(sc).calls].count("shared") == 1


async def test_partitions_without_input_need_no_task(sc: EngineContext) -> None:
    rdd = sc.parallelize([], 3).map(lambda n: (n, n)).group_by_key(2)
    assert await rdd.collect() == []
    assert await rdd.count() == 0
    assert executor(sc).calls == []


async def test_a_failed_action_frees_what_it_made(sc: EngineContext) -> None:
    before = sc.statistics().blocks.files
    big = sc.range(200_000).map(lambda n: (n % 1000, str(n) * 5)).group_by_key(2)
    with pytest.raises(StepError):
        await big.map(lambda pair: 1 // 0).collect()
    assert sc.statistics().blocks.files == before


async def test_counters_of_all_tasks_are_added_up(sc: EngineContext) -> None:
    rdd = sc.parallelize([0, 1, 0, 2], 4).map(lambda n: 1 // n, name="reciprocal", on_error="skip")
    await rdd.count()
    await rdd.count()
    assert sc.statistics().counters == {"skipped:reciprocal": 4}


async def test_what_is_kept_is_computed_from_what_is_kept_below_it(sc: EngineContext) -> None:
    calls = sc.accumulator(0)
    base = sc.range(9).map(lambda n, calls=calls: (calls.add(1), str(n))[1], name="base").persist()
    top = base.map(len, name="top").persist()
    assert await top.sum() == 9
    assert [step for step, _ in executor(sc).calls[:2]] == ["base", "top"]
    assert await base.count() == 9
    assert calls.value == 9


async def test_a_sort_of_a_kept_rdd_does_not_compute_it_again(sc: EngineContext) -> None:
    calls = sc.accumulator(0)

    def counted(n: int) -> int:
        calls.add(1)
        return n

    rdd = sc.range(9).map(counted).persist()
    assert await rdd.sort_by(lambda n: -n).collect() == list(range(8, -1, -1))
    assert await rdd.zip_with_index().count() == 9
    assert calls.value == 9


async def test_dead_letters_and_records_are_computed_together(sc: EngineContext) -> None:
    calls = sc.accumulator(0)

    def reciprocal(n: int) -> float:
        calls.add(1)
        return 1 / n

    good = sc.range(3).map(reciprocal, name="reciprocal", on_error="dead-letter")
    letters = good.dead_letters()
    assert await letters.count() == 1
    assert await good.count() == 2
    assert calls.value == 3


# -- keyed state -----------------------------------------------------------------------------------


def total(values: list[int], old: int | None) -> int:
    return sum(values, old or 0)


def running(key: str, value: int, state: Any) -> tuple[str, int]:
    state.update(state.get(0) + value)
    return key, state.get()


def state_of(sc: EngineContext, spec: Any, pairs: list[Any], batch: int, state_id: str = "s") -> Any:
    """The state ``state_id``, brought to ``batch`` by ``pairs``."""
    placed = sc.parallelize(pairs, 2).partition_by(2)
    return sc.from_node(
        StateNode(
            name="total",
            state_id=state_id,
            spec=spec,
            inputs=(placed.node,),
            batch=batch,
            partitions=2,
            partitioner=placed.partitioner,
        )
    )


async def test_a_state_is_brought_forward_batch_by_batch(sc: EngineContext) -> None:
    spec = UpdateState(Fn(total))
    assert dict(await state_of(sc, spec, [("a", 1), ("b", 2)], 1).collect()) == {"a": 1, "b": 2}
    assert dict(await state_of(sc, spec, [("a", 5)], 2).collect()) == {"a": 6, "b": 2}
    (statistics,) = sc.statistics().states
    assert (statistics.state_id, statistics.keys) == ("s", 2)


async def test_a_batch_that_is_asked_for_again_counts_once(sc: EngineContext) -> None:
    for spec in (UpdateState(Fn(total)), MapWithState(Fn(running))):
        async with EngineContext("local", executor=Recording) as fresh:
            await state_of(fresh, spec, [("a", 1)], 1).collect()
            for _ in range(3):
                assert await state_of(fresh, spec, [("a", 5)], 2).collect() == [("a", 6)]


@pytest.mark.parametrize("master", ["local", "local[2]"])
async def test_a_batch_that_is_asked_for_again_gives_its_dead_letters_again(master: str) -> None:
    """A3: they are not in the state, which the batch has changed already."""
    policy = ErrorPolicy(OnError.DEAD_LETTER)
    async with EngineContext(master) as context:
        for state_id, spec in (
            ("u", UpdateState(Fn(total), policy=policy)),
            ("m", MapWithState(Fn(running), policy=policy)),
        ):
            await state_of(context, spec, [("a", 1)], 1, state_id).collect()
            for _ in range(2):
                second = state_of(context, spec, [("a", 5), ("b", "x")], 2, state_id)
                assert await second.collect() == [("a", 6)]
                (letter,) = await second.dead_letters().collect()
                assert letter.record[0] == "b"
                context.runner.drop([second.node.id])


async def test_states_over_states_do_not_get_mixed_up(sc: EngineContext) -> None:
    for batch, expected in ((1, {"a": 1, "b": 2}), (2, {"a": 1 + 6, "b": 2 + 2})):
        inner = state_of(
            sc, UpdateState(Fn(total)), [("a", 1), ("b", 2)] if batch == 1 else [("a", 5)], batch
        )
        outer = StateNode(
            name="outer",
            state_id="outer",
            spec=UpdateState(Fn(total)),
            inputs=(inner.node,),
            batch=batch,
            partitions=2,
            partitioner=inner.partitioner,
        )
        assert dict(await sc.from_node(outer).collect()) == expected


@pytest.mark.faults
@pytest.mark.parametrize("spec", [UpdateState(Fn(total)), MapWithState(Fn(running))], ids=["update", "map"])
async def test_the_state_of_a_lost_worker_is_rebuilt(spec: Any) -> None:
    """A1, A2: the new worker loads snapshot and changes, and the batch runs on it."""
    async with EngineContext("local[2]") as pool:
        keys = [f"key {n}" for n in range(20)]
        for batch in range(1, 4):
            await state_of(pool, spec, [(key, 1) for key in keys], batch).collect()
        for pid in set(await pool.range(8, partitions=8).map(lambda _: os.getpid()).collect()):
            os.kill(pid, signal.SIGKILL)
        found = await state_of(pool, spec, [(key, 1) for key in keys], 4).collect()
        assert sorted(found) == sorted((key, 4) for key in keys)
        assert pool.statistics().executor.workers_lost == 2
