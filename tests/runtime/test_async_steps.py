"""How asynchronous steps use their concurrency over the partitions of a batch."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiostream_engine import EngineContext
from aiostream_engine.errors import StepError

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
