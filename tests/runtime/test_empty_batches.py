"""RDDs of batches without input: made once where nothing else can see the difference."""

from __future__ import annotations

import operator
from typing import Any

from tests.stage import Stage


async def rdds_of(build: Any, script: list[list[Any]], remember_s: float = 0) -> tuple[Stage, list[Any]]:
    """The RDD of the built stream in each batch."""
    stage, rdds = Stage(script), []
    if remember_s:
        stage.ssc.remember(remember_s)

    async def keep(rdd: Any, time: Any) -> None:
        rdds.append(rdd)
        stage.seen[time] = await rdd.collect()

    build(stage).foreach_rdd(keep)
    await stage.play(len(script))
    return stage, rdds


def summed(stage: Stage) -> Any:
    return stage.stream.map(lambda word: (word, 1)).reduce_by_key(operator.add)


async def test_batches_without_input_share_one_rdd():
    stage, rdds = await rdds_of(summed, [[], ["a", "a"], [], [], ["b"]])
    assert stage.records == [[], [("a", 2)], [], [], [("b", 1)]]
    assert rdds[0] is rdds[2] is rdds[3]
    assert len({id(rdd) for rdd in rdds}) == 3


async def test_one_input_of_two_is_enough_for_an_rdd_of_its_own():
    stage = Stage([[], ["a"], []], [["x"], [], []])
    stage.look(stage.ssc.union(*stage.streams).map(str.upper))
    await stage.play(3)
    assert stage.records == [["X"], ["A"], []]


async def test_functions_of_the_user_see_each_empty_batch():
    """TR-2."""
    times: list[int] = []

    def build(stage: Stage) -> Any:
        return stage.stream.transform(lambda rdd, time: (times.append(time), rdd)[1])

    await rdds_of(build, [[], [], []])
    assert len(times) == 3


async def test_windows_over_empty_batches_are_right():
    """WIN-7."""
    stage, _ = await rdds_of(lambda stage: summed(stage).window(2), [["a"], [], [], ["b"], []])
    assert stage.records == [[("a", 1)], [("a", 1)], [], [("b", 1)], [("b", 1)]]


async def test_batches_that_are_remembered_have_an_rdd_each():
    """DS-8."""
    _, rdds = await rdds_of(summed, [[], [], []], remember_s=60)
    assert len({id(rdd) for rdd in rdds}) == 3


async def test_a_persisted_stream_has_an_rdd_for_each_batch():
    """DS-7."""
    _, rdds = await rdds_of(lambda stage: summed(stage).persist(), [[], [], []])
    assert len({id(rdd) for rdd in rdds}) == 3
