"""How a lineage is cut into stages, and what each task of a stage gets."""

from __future__ import annotations

from typing import Any

import pytest

from aiostream_engine import RDD, EngineContext
from aiostream_engine.errors import InternalError
from aiostream_engine.operators.structure import (
    Concat,
    Leaf,
    Merge,
    Multi,
    Partitioned,
    Record,
    StateScan,
    ToBlocks,
    ToBuckets,
    walk,
)
from aiostream_engine.plan.nodes import Source, StateNode
from aiostream_engine.planner.stages import DEPTH_MAX, JobPlan, Pending, plan_job
from aiostream_engine.state.specs import Snapshot

sc = EngineContext("local", parallelism=3)


def plan(rdd: RDD[Any], known: Any = None) -> JobPlan:
    return plan_job(rdd.node, ToBlocks(), known)


def trees(job: JobPlan, stage: int = -1) -> list[Any]:
    return [item.structure for item in job.stages[stage].partitions]


def terminals(job: JobPlan) -> list[str]:
    return [type(stage.terminal).__name__ for stage in job.stages]


# -- narrow steps ----------------------------------------------------------------------------------


def test_narrow_steps_are_one_stage_with_a_task_for_each_partition() -> None:
    job = plan(sc.range(9).map(str).filter(bool).map_partitions(list))
    assert len(job.stages) == 1
    assert len(job.final.partitions) == 3
    assert [type(node) for node in walk(trees(job)[0])] == [Partitioned, Record, Record, Leaf]


def test_all_partitions_share_one_tree() -> None:
    for rdd in (
        sc.range(9).map(str),
        sc.range(9).map(str).union(sc.range(4)),
        sc.range(9).zip(sc.range(9)),
        sc.range(9).cartesian(sc.range(4)),
        sc.parallelize([(1, 2)]).join(sc.parallelize([(1, 2)])),
    ):
        assert len({id(tree) for tree in trees(plan(rdd))}) <= 2


def test_a_chain_that_is_too_deep_is_run_in_pieces() -> None:
    rdd: RDD[Any] = sc.range(9)
    for _ in range(3 * DEPTH_MAX):
        rdd = rdd.map(str)
    job = plan(rdd)
    assert terminals(job) == ["ToBlocks"] * 4
    assert max(sum(1 for _ in walk(tree)) for index in range(4) for tree in trees(job, index)) <= DEPTH_MAX
    assert job.stages[1].partitions[2].inputs == (Pending(0, 0, 2),)
    assert job.stages[1].needs == {0}


# -- shuffles ----------------------------------------------------------------------------------------


def test_a_shuffle_ends_a_stage_and_the_next_one_reads_its_segments() -> None:
    job = plan(sc.range(9).map(lambda n: (n, 1)).reduce_by_key(max, 2).map(str))
    assert terminals(job) == ["ToBuckets", "ToBlocks"]
    assert (len(job.stages[0].partitions), len(job.stages[1].partitions)) == (3, 2)
    assert [item.inputs for item in job.final.partitions] == [(Pending(0, 0),), (Pending(0, 1),)]
    assert job.final.needs == {0}
    assert [type(node) for node in walk(trees(job)[0])] == [Record, Merge]


def test_values_are_combined_on_both_sides_of_the_shuffle() -> None:
    job = plan(sc.range(9).map(lambda n: (n, 1)).reduce_by_key(max))
    terminal, merge = job.stages[0].terminal, trees(job)[0]
    assert isinstance(terminal, ToBuckets)
    assert terminal.combiner == merge.combiner is not None


def test_each_stage_comes_behind_those_that_it_needs() -> None:
    a = sc.range(9).map(lambda n: (n, n)).reduce_by_key(max, 4)
    b = sc.range(9).map(lambda n: (n, n)).group_by_key(2)
    job = plan(a.join(b, 4).map(lambda p: (p[1], p[0])).distinct())
    for number, stage in enumerate(job.stages):
        assert stage.id == number
        assert all(need < number for need in stage.needs)
    assert job.final.partitions[0].structure is not None


def test_a_shuffle_that_two_sides_share_is_planned_once() -> None:
    shared = sc.range(9).map(lambda n: (n % 3, n)).group_by_key()
    job = plan(shared.map_values(len).union(shared.map_values(sum)))
    assert terminals(job) == ["ToBuckets", "ToBlocks"]
    assert len(job.final.partitions) == 3  # both sides lie alike
    job = plan(shared.map_values(len).join(shared.map_values(sum)))
    assert terminals(job) == ["ToBuckets", "ToBlocks"]


def test_sides_that_lie_alike_are_put_together_without_a_shuffle() -> None:
    a, b = (sc.range(9).map(lambda n: (n, n)).partition_by(4) for _ in range(2))
    for rdd, wrapper in ((a.join(b), Multi), (a.union(b), Concat)):
        job = plan(rdd)
        assert terminals(job) == ["ToBuckets", "ToBuckets", "ToBlocks"]
        assert len(job.final.partitions) == 4
        assert isinstance(trees(job)[0], wrapper)
        assert job.final.partitions[3].inputs == (Pending(0, 3), Pending(1, 3))


def test_sides_that_lie_otherwise_are_moved() -> None:
    a = sc.range(9).map(lambda n: (n, n)).partition_by(4)
    b = sc.range(9).map(lambda n: (n, n)).partition_by(5)
    assert terminals(plan(a.join(b))) == ["ToBuckets", "ToBuckets", "ToBuckets", "ToBlocks"]


# -- partitions put together ---------------------------------------------------------------------------


def test_neighbours_with_the_same_steps_are_read_as_one_input() -> None:
    job = plan(sc.parallelize(range(12), 4).map(str).coalesce(2))
    assert [len(item.inputs) for item in job.final.partitions] == [1, 1]
    assert [len(item.inputs[0]) for item in job.final.partitions if isinstance(item.inputs[0], tuple)] == [
        2,
        2,
    ]


def test_neighbours_that_differ_stay_apart_within_their_task() -> None:
    rdd = sc.range(3, partitions=1).map(str).union(sc.range(3, partitions=1)).coalesce(1)
    job = plan(rdd)
    assert isinstance(trees(job)[0], Concat)
    assert len(job.final.partitions[0].inputs) == 2


def test_a_whole_partition_stays_whole_when_others_join_it() -> None:
    job = plan(sc.parallelize(range(12), 4).map_partitions(list).coalesce(2))
    assert isinstance(trees(job)[0], Concat)


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        (lambda rdd: rdd, [(0,), (1,), (2,)]),
        (lambda rdd: sc.range(2, partitions=2).union(rdd), [(), (), (0,), (1,), (2,)]),
        (lambda rdd: rdd.coalesce(2), [(0,), (1, 2)]),
        (lambda rdd: sc.range(2, partitions=2).cartesian(rdd), [(0,), (1,), (2,)] * 2),
        (lambda rdd: rdd.zip(rdd), [(0, 0), (1, 1), (2, 2)]),
        (lambda rdd: rdd.map_partitions_with_index(lambda i, it: it), [(0, 0), (1, 1), (2, 2)]),
    ],
    ids=["alone", "union", "coalesce", "cartesian", "zip", "twice"],
)
def test_a_step_is_told_the_index_of_its_own_partition(moved: Any, expected: list[Any]) -> None:
    rdd = sc.range(9).map_partitions_with_index(lambda i, it: [(i, *it)])
    assert [item.indices for item in plan(moved(rdd)).final.partitions] == expected


# -- what exists already ---------------------------------------------------------------------------------


def test_what_is_known_is_read_and_not_planned() -> None:
    shuffled = sc.range(9).map(lambda n: (n, 1)).group_by_key(2)
    kept = Source(name="kept", parts=((), ()), partitions=2)
    job = plan(shuffled.map(str), {shuffled.node.id: kept})
    assert terminals(job) == ["ToBlocks"]
    assert isinstance(trees(job)[0].child, Leaf)


def test_a_node_that_must_look_at_data_first_is_not_planned() -> None:
    with pytest.raises(InternalError, match="was not resolved"):
        plan(sc.range(9).sort_by(abs))


# -- states ------------------------------------------------------------------------------------------------


def test_states_are_listed_inner_ones_first() -> None:
    """The generated code numbers them in the same order."""
    placed = sc.range(9).map(lambda n: (n, n)).partition_by(2)

    def state(name: str, parent: Any) -> StateNode:
        return StateNode(name=name, state_id=name, spec=Snapshot(), inputs=(parent,), batch=7, partitions=2)

    job = plan_job(state("outer", state("inner", placed.node)), ToBlocks())
    final = job.final.partitions[1]
    assert [(use.state_id, use.partition, use.batch) for use in final.states] == [
        ("inner", 1, 7),
        ("outer", 1, 7),
    ]
    assert isinstance(final.structure, StateScan)
    assert isinstance(final.structure.children[0], StateScan)
