"""The same stream gives the same in this process and in worker processes."""

from __future__ import annotations

import operator
from typing import Any

import pytest

from aiostream_engine import DStream
from tests.stage import Stage

LINES = [["a b a", "c"], [], ["b b", "a"], ["c"], [], []]


def words(s: DStream[str]) -> DStream[Any]:
    return s.flat_map(str.split).map(lambda word: (word, 1))


def visit(key: str, value: int | None, state: Any) -> tuple[Any, ...]:
    if state.is_timing_out():
        return (key, "idle", state.get())
    state.update(state.get(0) + (value or 0))
    return (key, state.get())


def fail_on_c(pair: tuple[str, int]) -> tuple[str, int]:
    if pair[0] == "c":
        raise ValueError("c")
    return pair


async def shout(pair: tuple[str, int]) -> tuple[str, int]:
    return pair[0].upper(), pair[1]


STREAMS: dict[str, Any] = {
    "count": lambda s: words(s).reduce_by_key(operator.add),
    "window": lambda s: words(s).window(3, 2).group_by_key().map_values(sorted),
    "inverse": lambda s: words(s).reduce_by_key_and_window(operator.add, operator.sub, 3),
    "top": lambda s: words(s).count_by_value_and_window(4, 2),
    "state": lambda s: words(s).update_state_by_key(lambda new, old: sum(new) + (old or 0)),
    "mapped": lambda s: words(s).map_with_state(visit, timeout_s=1),
    "snapshots": lambda s: words(s).map_with_state(visit).state_snapshots(),
    "join": lambda s: words(s).join(words(s).reduce_by_key(operator.add)),
    "letters": lambda s: (
        words(s)
        .map(fail_on_c, name="c", on_error="dead-letter")
        .dead_letters()
        .map(lambda x: (x.record, x.batch))
    ),
    "async": lambda s: words(s).map_async(shout, placement="worker"),
    "on loop": lambda s: words(s).map_async(shout),
    "sorted": lambda s: words(s).transform(lambda rdd: rdd.sort_by_key().zip_with_index()),
    "total": lambda s: s.count(),
}


async def everything(master: str) -> dict[str, list[tuple[int, list[Any]]]]:
    """All streams as outputs of one graph, played to the end."""
    stage = Stage(LINES, master=master, parallelism=2)
    seen: dict[str, list[tuple[int, list[Any]]]] = {name: [] for name in STREAMS}
    for name, build in STREAMS.items():

        async def keep(rdd: Any, time: Any, name: str = name) -> None:
            seen[name].append((int(time), sorted(await rdd.collect(), key=repr)))

        build(stage.stream).foreach_rdd(keep, name=name)
    await stage.play(len(LINES))
    return seen


@pytest.mark.slow
async def test_worker_processes_give_what_one_process_gives():
    here, there = await everything("local"), await everything("local[2]")
    for name in STREAMS:
        assert there[name] == here[name], name
    assert here["count"][0] == (1000, [("a", 2), ("b", 1), ("c", 1)])
    assert here["letters"][0] == (1000, [(("c", 1), 1000)])
    assert ("c", "idle", 1) in here["mapped"][2][1]
