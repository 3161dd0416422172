"""EngineContext: life, datasets from files, shared values; and what is different on worker processes."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import gzip
import operator
import os
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from aiostream_engine import EngineContext, StorageLevel
from aiostream_engine.errors import (
    BlocksReleasedError,
    ConfigurationError,
    CorruptionError,
    LifecycleError,
    OptionError,
    StepError,
    UnpicklableError,
)


@pytest.fixture
async def sc() -> AsyncIterator[EngineContext]:
    async with EngineContext("local", parallelism=3) as context:
        yield context


# -- life ------------------------------------------------------------------------------------------


async def test_rdds_are_built_without_a_running_context_but_actions_need_one() -> None:
    sc = EngineContext("local")
    rdd = sc.parallelize([1, 2]).map(str)
    with pytest.raises(LifecycleError, match="start it first"):
        await rdd.collect()
    async with sc:
        assert await rdd.collect() == ["1", "2"]
    with pytest.raises(LifecycleError, match="it is closed"):
        await rdd.collect()
    with pytest.raises(LifecycleError, match="make a new one"):
        await sc.start()


async def test_starting_and_closing_twice_does_nothing_more() -> None:
    """I4: the states of a context are defined."""
    sc = EngineContext("local")
    assert await sc.start() is await sc.start() is sc
    await sc.aclose()
    await sc.aclose()


async def test_contexts_are_independent() -> None:
    """I9: two contexts in one process share nothing."""
    async with EngineContext("local", parallelism=2) as one, EngineContext("local", parallelism=5) as two:
        total = one.accumulator(0)
        await one.range(4).foreach(total.add)
        assert (total.value, await two.range(10).glom().count()) == (6, 5)
        await one.aclose()
        assert await two.range(10).sum() == 45


async def test_a_context_leaves_no_files_behind() -> None:
    async with EngineContext("local") as sc:
        paths = sc.directory.path, sc.directory.spill_path
        rdd = sc.range(100_000).map(str).persist()
        await rdd.count()
        assert all(map(os.path.exists, paths))
    assert not any(map(os.path.exists, paths))


@pytest.mark.parametrize("options", [{"master": "local[0]"}, {"master": "yarn"}, {"parallelism": 0}], ids=str)
def test_bad_options_are_refused_when_the_context_is_made(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        EngineContext(**options)


async def test_plans_are_found_again_by_content(sc: EngineContext) -> None:
    """A steady pipeline is planned once, although its functions and RDDs are new objects each time."""
    for _ in range(5):
        await (
            sc.parallelize(range(10), 2).map(lambda x: (x % 3, x)).reduce_by_key(lambda a, b: a + b).collect()
        )
    plans = sc.statistics().plans
    assert plans.misses == plans.size
    assert plans.hits == 4 * plans.misses


async def test_rules_can_be_switched_off() -> None:
    async with EngineContext("local", rules=()) as sc:
        words = sc.parallelize(["a b", "a"]).flat_map(str.split).map(lambda w: (w, 1))
        assert dict(await words.reduce_by_key(operator.add).collect()) == {"a": 2, "b": 1}
        assert words.reduce_by_key(operator.add).explain("optimised") == words.reduce_by_key(
            operator.add
        ).explain("physical")


# -- datasets from memory ----------------------------------------------------------------------------


async def test_records_are_cut_evenly_and_copied(sc: EngineContext) -> None:
    records = [[n] for n in range(7)]
    rdd = sc.parallelize(records)
    records[0].append("changed")
    assert await rdd.glom().collect() == [[[0], [1]], [[2], [3]], [[4], [5], [6]]]
    assert sc.parallelize(iter("abcd"), 2).get_num_partitions() == 2


async def test_a_range_is_that_of_python(sc: EngineContext) -> None:
    assert await sc.range(5).collect() == list(range(5))
    assert await sc.range(10, 2, -3).collect() == list(range(10, 2, -3))
    assert await sc.parallelize(range(3, 9, 2)).collect() == [3, 5, 7]
    assert await sc.range(10**12, 10**12 + 3).sum() == 3 * 10**12 + 3


async def test_records_that_cannot_be_pickled_are_refused_at_once(sc: EngineContext) -> None:
    with pytest.raises(UnpicklableError, match="records for parallelize"):
        sc.parallelize([threading.Lock()])
    with pytest.raises(OptionError, match="at least 1"):
        sc.parallelize([1], -1)


async def test_a_union_of_many(sc: EngineContext) -> None:
    assert await sc.union([sc.range(2), sc.empty_rdd(), sc.range(1)]).collect() == [0, 1, 0]
    assert await sc.union([]).collect() == []
    only = sc.range(2)
    assert sc.union([only]) is only


# -- datasets from files -----------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "b.txt").write_text("b1\nb2\n")
    (tmp_path / "a.txt").write_text("a1\r\na2")
    (tmp_path / "c.log").write_text("c1\n")
    (tmp_path / ".hidden").write_text("no\n")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.txt").write_text("d1\n")
    (tmp_path / "packed.gz").write_bytes(gzip.compress(b"g1\ng2\n"))
    return tmp_path


async def test_lines_of_a_file_a_directory_and_a_glob(sc: EngineContext, tree: Path) -> None:
    assert await sc.text_file(str(tree / "a.txt")).collect() == ["a1", "a2"]
    assert await sc.text_file(str(tree / "*.txt")).collect() == ["a1", "a2", "b1", "b2"]
    assert await sc.text_file(str(tree / "s*")).collect() == ["d1"]
    assert await sc.text_file(str(tree)).collect() == ["a1", "a2", "b1", "b2", "c1", "g1", "g2"]
    assert await sc.text_file(str(tree / "packed.gz")).collect() == ["g1", "g2"]


async def test_a_path_that_names_nothing_is_refused_at_once(sc: EngineContext, tmp_path: Path) -> None:
    for name in ("missing", "*.nothing", ""):
        with pytest.raises(ConfigurationError, match="names no file"):
            sc.text_file(str(tmp_path / name))


CONTENT = "".join(f"line {n} " + "x" * (n * 7 % 50) + "\n" for n in range(200)) + "\n\nlast without end"


@pytest.mark.parametrize("partitions", [1, 2, 3, 7, 50, 1000])
@pytest.mark.parametrize("content", [CONTENT, "", "\n", "one", "ä\nö\r\n\n€", "\n" * 40], ids=range(6))
async def test_each_line_is_read_once_wherever_the_file_is_cut(
    sc: EngineContext, tmp_path: Path, partitions: int, content: str
) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(content.encode())
    rdd = sc.text_file(str(path), partitions)
    expected = content.replace("\r\n", "\n").split("\n")
    if not expected[-1]:
        expected.pop()
    assert await rdd.collect() == expected
    assert await rdd.count() == len(expected)


async def test_text_in_another_encoding(sc: EngineContext, tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("häß\n".encode("latin-1"))
    assert await sc.text_file(str(path), encoding="latin-1").collect() == ["häß"]
    assert await sc.text_file(str(path)).collect() == ["h\ufffd\ufffd"]
    with pytest.raises(StepError, match="UnicodeDecodeError"):
        await sc.text_file(str(path), errors="strict").collect()


async def test_whole_files_come_with_their_paths(sc: EngineContext, tree: Path) -> None:
    files = dict(await sc.whole_text_files(str(tree)).collect())
    assert files[str(tree / "b.txt")] == "b1\nb2\n"
    assert files[str(tree / "packed.gz")] == "g1\ng2\n"
    assert len(files) == 4


@pytest.mark.parametrize("partitions", [1, 3, 10])
async def test_records_of_fixed_length(sc: EngineContext, tmp_path: Path, partitions: int) -> None:
    path = tmp_path / "binary"
    data = bytes(range(200)) * 3
    path.write_bytes(data)
    rdd = sc.binary_records(str(path), 8, partitions)
    assert await rdd.collect() == [data[at : at + 8] for at in range(0, 600, 8)]
    with pytest.raises(CorruptionError, match="record_bytes=7"):
        await sc.binary_records(str(path), 7, partitions).collect()
    with pytest.raises(OptionError):
        sc.binary_records(str(path), 0)


async def test_a_file_that_became_shorter_is_an_error(sc: EngineContext, tmp_path: Path) -> None:
    """E12: lines are not lost silently."""
    path = tmp_path / "file.txt"
    path.write_text("one\ntwo\n")
    rdd = sc.text_file(str(path))
    path.write_text("one\n")
    with pytest.raises(CorruptionError, match="shorter than when it was listed"):
        await rdd.collect()


async def test_a_file_that_is_gone_is_an_error_that_names_it(sc: EngineContext, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("one\n")
    rdd = sc.text_file(str(path))
    path.unlink()
    with pytest.raises(StepError, match=r"FileNotFoundError.*file\.txt"):
        await rdd.collect()


async def test_a_gzip_bomb_is_refused(sc: EngineContext, tmp_path: Path) -> None:
    """E11: inflating has a bound."""
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(CorruptionError, match=r"bomb\.gz"):
        await sc.text_file(str(path)).map(len).collect()


async def test_many_small_files_share_partitions(sc: EngineContext, tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02}.txt").write_text(f"{number}\n")
    rdd = sc.text_file(str(tmp_path), 4)
    assert await rdd.collect() == [str(number) for number in range(30)]
    assert rdd.get_num_partitions() <= 5


# -- shared values -----------------------------------------------------------------------------------


async def test_a_broadcast_value_is_there_in_every_function(sc: EngineContext) -> None:
    table = sc.broadcast({"a": 1, "b": 2})
    assert await sc.parallelize("ab").map(lambda key: table.value[key]).collect() == [1, 2]
    assert table.value == {"a": 1, "b": 2}
    table.unpersist()
    assert await sc.parallelize("ab").map(lambda key: table.value[key]).collect() == [1, 2]


async def test_a_destroyed_broadcast_cannot_be_used(sc: EngineContext) -> None:
    table = sc.broadcast([1])
    held = sc.statistics().blocks.files
    table.destroy()
    table.destroy()
    assert sc.statistics().blocks.files == held - 1
    with pytest.raises(LifecycleError, match="was destroyed"):
        _ = table.value
    with pytest.raises((LifecycleError, UnpicklableError), match="was destroyed"):
        await sc.range(1).map(lambda x: table.value).collect()


async def test_a_broadcast_value_must_be_picklable(sc: EngineContext) -> None:
    with pytest.raises(UnpicklableError, match="broadcast value"):
        sc.broadcast(threading.Lock())


async def test_an_accumulator_sums_up_what_tasks_add(sc: EngineContext) -> None:
    total = sc.accumulator(10)
    longest = sc.accumulator("", max)

    def visit(word: str) -> None:
        total.add(1)
        longest.add(word)

    await sc.parallelize(["a", "ccc", "bb"], 3).foreach(visit)
    assert (total.value, longest.value) == (13, "ccc")
    total += 1
    assert total.value == 14


async def test_an_accumulator_of_something_that_can_change(sc: EngineContext) -> None:
    def extend(items: list[int], more: list[int]) -> list[int]:
        items.extend(more)
        return items

    start: list[int] = []
    items = sc.accumulator(start, extend)
    records = sc.parallelize([[1], [2], [3], [4]], 2).map(lambda x: (items.add(x), x)[1])
    assert await records.collect() == [[1], [2], [3], [4]]
    assert sorted(items.value) == [1, 2, 3, 4]
    assert start == []


async def test_an_accumulator_cannot_be_read_in_a_task(sc: EngineContext) -> None:
    total = sc.accumulator(0)
    with pytest.raises(StepError, match="cannot be read inside of a task"):
        await sc.range(1).map(lambda x: total.value).collect()


async def test_an_accumulator_that_nobody_holds_is_forgotten(sc: EngineContext) -> None:
    for _ in range(10):
        total = sc.accumulator(0)
        await sc.range(3).foreach(total.add)
    assert total.value == 3
    gc.collect()
    assert len(sc._accumulators) == 1


async def test_a_task_that_fails_adds_nothing(sc: EngineContext) -> None:
    total = sc.accumulator(0)

    def visit(x: int) -> None:
        total.add(1)
        if x == 5:
            raise ValueError

    with pytest.raises(StepError):
        await sc.range(6, partitions=1).foreach(visit)
    assert total.value == 0


async def test_what_tasks_count_is_added_once_although_an_action_looks_twice(sc: EngineContext) -> None:
    total = sc.accumulator(0)

    def counted(x: int) -> int:
        total.add(1)
        return x

    await sc.range(10).map(counted).sort_by(lambda x: -x).collect()
    assert total.value == 10


# -- on worker processes -------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pool() -> AsyncIterator[EngineContext]:
    async with EngineContext("local[2]") as context:
        yield context


@pytest.fixture
async def own_pool() -> AsyncIterator[EngineContext]:
    """For tests that kill workers: what replaces them belongs to the test."""
    async with EngineContext("local[2]") as context:
        yield context


on_pool = pytest.mark.asyncio(loop_scope="module")


@on_pool
async def test_tasks_run_in_all_workers(pool: EngineContext) -> None:
    def visit(records: Any) -> Any:
        import time

        time.sleep(0.05)  # so that one worker cannot have done both
        yield os.getpid()

    pids = await pool.range(8, partitions=8).map_partitions(visit).collect()
    assert len(set(pids)) == 2
    assert os.getpid() not in pids


@on_pool
async def test_a_shuffle_brings_keys_of_all_workers_together(pool: EngineContext) -> None:
    """H8: workers salt their hashes differently; keys meet all the same."""
    pairs = pool.range(3000, partitions=6).map(lambda n: (f"key {n % 50}", 1))
    assert dict(await pairs.reduce_by_key(operator.add).collect()) == {f"key {n}": 60 for n in range(50)}
    joined = pairs.distinct().join(pairs.reduce_by_key(operator.add))
    assert await joined.count() == 50


@on_pool
async def test_records_of_a_class_that_workers_cannot_import(pool: EngineContext) -> None:
    """A19: classes of a script or a function are sent with the records."""

    @dataclasses.dataclass(frozen=True)
    class Local:
        key: str

    orders = pool.parallelize([Local("a"), Local("b"), Local("a")])
    counted = await orders.map(lambda order: (order, 1)).reduce_by_key(operator.add).collect()
    assert dict(counted) == {Local("a"): 2, Local("b"): 1}


@on_pool
async def test_an_error_of_a_worker_carries_its_traceback(pool: EngineContext) -> None:
    def reciprocal(x: int) -> float:
        return 1 / x

    with pytest.raises(StepError, match="ZeroDivisionError") as caught:
        await pool.parallelize([1, 0], 2).map(reciprocal, name="reciprocal").collect()
    error = caught.value
    assert (error.step, error.record, error.partition) == ("reciprocal", "0", 1)
    assert "in reciprocal" in error.worker_traceback


@on_pool
async def test_a_closure_that_cannot_be_sent_is_named_before_anything_runs(pool: EngineContext) -> None:
    """A18: step and captured variable are in the text."""
    lock = threading.Lock()
    started = pool.statistics().executor.tasks_done
    with pytest.raises(UnpicklableError, match=r"step 'guarded'.*captured variable 'lock'"):
        await pool.range(3).map(lambda x: (lock, x), name="guarded").collect()
    assert pool.statistics().executor.tasks_done == started


@on_pool
async def test_a_result_that_cannot_be_sent_back_is_named(pool: EngineContext) -> None:
    """A17: and the worker lives on."""
    with pytest.raises(UnpicklableError, match="lock"):
        await pool.range(1).map(lambda x: threading.Lock()).collect()
    with pytest.raises(UnpicklableError, match="lock"):
        await pool.range(1).map(lambda x: threading.Lock()).reduce(max)
    assert await pool.range(3).count() == 3


@pytest.mark.faults
async def test_an_accumulator_is_exact_although_a_worker_is_killed(
    own_pool: EngineContext, tmp_path: Path
) -> None:
    """A1: the task of a lost worker is run again, and what it had counted is not counted twice."""
    total = own_pool.accumulator(0)
    marker = str(tmp_path / "killed")
    lost = own_pool.statistics().executor.workers_lost

    def visit(x: int) -> int:
        total.add(1)
        if x == 37:
            try:
                os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return x
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    assert sorted(await own_pool.range(100, partitions=4).map(visit).collect()) == list(range(100))
    assert total.value == 100
    assert own_pool.statistics().executor.workers_lost == lost + 1


@on_pool
async def test_a_broadcast_is_loaded_once_by_each_worker(pool: EngineContext, tmp_path: Path) -> None:
    """RDD-1: shipped once a worker, again after unpersist()."""
    value = Loaded(str(tmp_path))
    table = pool.broadcast(value)

    async def loads() -> int:
        await pool.range(16, partitions=8).map(lambda x: table.value.number + x).collect()
        return len(os.listdir(tmp_path))

    assert 1 <= await loads() <= 2
    for _ in range(3):
        assert await loads() <= 2
    table.unpersist()
    assert 2 <= await loads() <= 4


class Loaded:
    """Leaves a file behind each time that it is unpickled."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.number = 1

    def __reduce__(self) -> Any:
        return _load, (self.directory,)


def _load(directory: str) -> Loaded:
    import tempfile

    handle, _ = tempfile.mkstemp(dir=directory)
    os.close(handle)
    return Loaded(directory)


@pytest.mark.faults
async def test_persisted_blocks_outlive_the_worker_that_made_them(own_pool: EngineContext) -> None:
    """A1: a kept result is not computed again because a worker died."""
    calls = own_pool.accumulator(0)

    def counted(x: int) -> str:
        calls.add(1)
        return str(x) * 20

    rdd = own_pool.range(20_000, partitions=2).map(counted).persist(StorageLevel.MEMORY)
    assert await rdd.count() == 20_000
    for pid in set(await own_pool.range(4, partitions=4).map(lambda _: os.getpid()).collect()):
        os.kill(pid, signal.SIGKILL)
    assert await rdd.map(len).sum() == sum(len(str(x)) * 20 for x in range(20_000))
    assert calls.value == 20_000
    rdd.unpersist()


@pytest.mark.faults
async def test_an_action_is_cancelled_and_the_pool_goes_on(own_pool: EngineContext) -> None:
    """I3: the slow task is given up."""

    def slow(x: int) -> int:
        import time

        time.sleep(30)
        return x

    action = asyncio.ensure_future(own_pool.range(2, partitions=2).map(slow).collect())
    while own_pool.statistics().executor.tasks_running < 2:
        await asyncio.sleep(0.01)
    action.cancel()
    with pytest.raises(asyncio.CancelledError):
        await action
    assert await own_pool.range(3).count() == 3


@on_pool
async def test_blocks_of_a_finished_use_are_named_when_they_are_gone(pool: EngineContext) -> None:
    rdd = pool.range(100_000).map(str).persist()
    await rdd.count()
    source = pool.runner.kept(rdd.node)
    assert source is not None
    rdd.unpersist()
    with pytest.raises(BlocksReleasedError, match=r"persist\(\)"):
        await pool.from_node(source).map(str).count()


@on_pool
async def test_the_same_answers_as_in_one_process(pool: EngineContext) -> None:
    async def answers(context: EngineContext) -> list[Any]:
        base = context.parallelize([f"w{n % 13}" for n in range(500)], 5)
        return [
            sorted(await base.distinct().collect()),
            await base.count_by_value(),
            await base.zip_with_index().collect(),
            await base.sort_by(lambda w: (len(w), w)).collect(),
            await base.sample(False, 0.2, 5).collect(),
            sorted(await base.key_by(len).group_by_key().map_values(sorted).collect()),
            await base.take_sample(False, 7, seed=1),
        ]

    async with EngineContext("local", parallelism=2) as sc:
        assert await answers(pool) == await answers(sc)
