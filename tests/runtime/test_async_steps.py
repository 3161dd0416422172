"""How asynchronous steps use their concurrency over the partitions of a batch."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiostream_engine import EngineContext
from aiostream_engine.config import RetryPolicy
from aiostream_engine.errors import StepError
from aiostream_engine.runtime import async_steps

DEADLINE_S = 30.0


@pytest.mark.parametrize("partitions", [1, 4, 10])
async def test_calls_of_all_partitions_are_under_way_together(partitions: int):
    arrived = 0
    everybody = asyncio.Event()

    async def meet(number: int) -> int:
        nonlocal arrived
        arrived += 1
        if arrived == 20:
            everybody.set()
        await everybody.wait()
        return number

    async with EngineContext("local") as sc, asyncio.timeout(DEADLINE_S):
        numbers = sc.parallelize(list(range(20)), partitions)
        assert await numbers.map_async(meet, concurrency=20).collect() == list(range(20))


async def test_results_stay_in_the_partition_of_their_record():
    async def twice(number: int) -> list[int]:
        await asyncio.sleep(0.001 * (number % 3))
        return [number, number]

    async with EngineContext("local") as sc:
        numbers = sc.parallelize(list(range(7)), 3)
        doubled = await numbers.flat_map_async(twice).glom().collect()
        assert doubled == [
            [item for number in part for item in (number, number)] for part in await numbers.glom().collect()
        ]


async def test_a_partition_of_which_nothing_is_left_stays_one():
    async def is_small(number: int) -> bool:
        return number < 2

    async with EngineContext("local") as sc:
        kept = sc.parallelize(list(range(6)), 3).filter_async(is_small)
        assert await kept.glom().collect() == [[0, 1], [], []]


@pytest.mark.parametrize("placement", ["loop", "worker"])
async def test_an_error_and_a_dead_letter_name_the_partition_of_their_record(placement: str):
    async def refuse_five(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    async with EngineContext("local") as sc:
        numbers = sc.parallelize(list(range(6)), 3)
        with pytest.raises(StepError) as caught:
            await numbers.map_async(refuse_five, placement=placement).collect()
        assert caught.value.partition == 2
        rest = numbers.map_async(refuse_five, placement=placement, on_error="dead-letter")
        assert await rest.collect() == [0, 1, 2, 3, 4]
        (letter,) = await rest.dead_letters().collect()
        assert (letter.record, letter.partition) == (5, 2)


@pytest.mark.parametrize("placement", ["loop", "worker"])
async def test_a_result_that_cannot_be_iterated_is_the_fault_of_its_record(placement: str):
    async def one(number: int) -> Any:
        return number

    async with EngineContext("local") as sc:
        with pytest.raises(StepError, match="not iterable") as caught:
            await sc.parallelize([7]).flat_map_async(one, name="flat", placement=placement).collect()
    assert (caught.value.step, caught.value.record) == ("flat", "7")


@pytest.mark.parametrize("placement", ["loop", "worker"])
async def test_a_call_that_takes_too_long_is_tried_again_and_then_given_up_as_any_error(placement: str):
    """A3: with its cause and the number of tries; the results of the others stay in order."""

    async def answer(number: int) -> int:
        if number == 5:
            await asyncio.Event().wait()
        return number

    async with EngineContext("local") as sc, asyncio.timeout(DEADLINE_S):
        answers = sc.parallelize(list(range(10)), 2).map_async(
            answer,
            name="ask",
            timeout_s=0.05,
            retry=RetryPolicy(attempts_max=2, wait_s=0.001),
            on_error="dead-letter",
            placement=placement,
        )
        (letter,) = await answers.dead_letters().collect()
        assert await answers.collect() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
        assert (letter.record, letter.step, letter.attempts) == (5, "ask", 2)
        assert letter.error_type == "TimeoutError"
        assert sc.statistics().counters == {"retried:ask": 1, "dead_lettered:ask": 1}


async def test_more_dead_letters_than_a_batch_may_have_fail_it_instead_of_filling_memory(monkeypatch: Any):
    """A3."""
    monkeypatch.setattr(async_steps, "DEAD_LETTERS_MAX", 3)

    async def refuse(number: int) -> int:
        raise ValueError(f"not {number}")

    async with EngineContext("local") as sc:
        refused = sc.parallelize(list(range(6)), 2).map_async(refuse, name="ask", on_error="dead-letter")
        with pytest.raises(StepError, match="over 3 dead letters in one batch; the last: not 3"):
            await refused.dead_letters().collect()
