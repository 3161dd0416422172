"""RDDs of the layer without Java: what Spark gives is written down here, taken from real PySpark."""

from __future__ import annotations

import gzip
import operator
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine.compat.pyspark import SparkContext, StorageLevel
from aiostream_engine.compat.pyspark.dealing import first_place
from aiostream_engine.compat.pyspark.errors import (
    IllegalArgumentException,
    Py4JJavaError,
    PySparkRuntimeError,
    PythonException,
    SparkRuntimeException,
    UnsupportedOperationException,
)
from aiostream_engine.compat.pyspark.rdd import RDD, Partitioner, portable_hash
from aiostream_engine.compat.pyspark.resultiterable import ResultIterable
from aiostream_engine.compat.pyspark.slices import slices, splits
from aiostream_engine.compat.pyspark.statcounter import StatCounter


@pytest.fixture(scope="module")
def sc() -> Any:
    with SparkContext("local[2]", "tests") as made:
        yield made


# -- where records lie ---------------------------------------------------------------------------


def test_batches_of_records_are_dealt_out_and_not_records() -> None:
    assert slices(list(range(11)), 3, 0) == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9, 10]]
    assert slices(list(range(5)), 3, 0) == [[0], [1, 2], [3, 4]]
    assert slices([], 2, 0) == [[], []]
    assert slices(list(range(8)), 2, 1) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_keys_lie_where_spark_puts_them(sc: SparkContext) -> None:
    pairs = sc.parallelize(["a", "b", "c", "d"], 2).map(lambda x: (x, 1)).reduceByKey(operator.add, 3)
    assert pairs.glom().collect() == [[("b", 1)], [("a", 1), ("c", 1)], [("d", 1)]]


def test_a_repartition_deals_out_sparks_chunks(sc: SparkContext) -> None:
    assert [first_place(index, 4) for index in range(3)] == [0, 0, 3]
    assert [first_place(index, 3) for index in range(4)] == [2, 0, 1, 2]
    dealt = sc.parallelize(range(45), 3).repartition(4).glom().collect()
    assert dealt == [
        list(range(30, 40)),
        [*range(10), *range(15, 25), *range(40, 45)],
        [*range(10, 15), *range(25, 30)],
        [],
    ]


def test_a_sample_with_a_seed_is_sparks(sc: SparkContext) -> None:
    rdd = sc.parallelize(range(20), 2)
    assert rdd.sample(False, 0.3, 7).glom().collect() == [[0, 2, 4, 9], [10, 16, 19]]


def test_a_file_is_cut_as_by_hadoop() -> None:
    assert list(splits(100, 50)) == [(0, 50), (50, 50)]
    assert list(splits(105, 50)) == [(0, 50), (50, 55)]
    assert list(splits(0, 50)) == []
    assert list(splits(3, 0)) == [(0, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize(
    ("key", "place"), [(None, 0), (5, 5), (True, 1), ((), 3430008), ((1,), 3430019290026), (-1, -2)]
)
def test_portable_hash(key: Any, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert portable_hash(key) == place


def test_portable_hash_needs_a_fixed_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with pytest.raises(PySparkRuntimeError, match="PYTHONHASHSEED"):
        portable_hash("x")


def test_partitioners_are_equal_when_number_and_function_are() -> None:
    assert Partitioner(3, portable_hash) == Partitioner(3, portable_hash)
    assert Partitioner(3, portable_hash) != Partitioner(2, portable_hash)
    assert Partitioner(3, abs) != Partitioner(3, portable_hash)
    assert Partitioner(3, abs)(-4) == 1
    assert len({Partitioner(3, abs), Partitioner(3, abs)}) == 1


def test_what_is_placed_right_is_not_moved(sc: SparkContext) -> None:
    placed = sc.parallelize([(1, 2), (3, 4)]).partitionBy(3)
    assert placed.partitionBy(3) is placed
    assert placed.mapValues(str).partitioner == placed.partitioner
    assert placed.filter(bool).partitioner == placed.partitioner
    assert placed.map(lambda pair: pair).partitioner is None
    assert placed.union(placed).getNumPartitions() == 3
    assert placed.join(placed).getNumPartitions() == 3


# -- keeping -------------------------------------------------------------------------------------


def test_a_cached_rdd_is_computed_once_until_it_is_let_go(sc: SparkContext) -> None:
    calls = sc.accumulator(0)

    def count(x: int) -> int:
        calls.add(1)
        return x

    rdd = sc.parallelize([1, 2, 3], 2).map(count).cache()
    assert (rdd.is_cached, rdd.getStorageLevel()) == (True, StorageLevel.MEMORY_ONLY)
    assert (rdd.sum(), rdd.sum(), calls.value) == (6, 6, 3)
    rdd.unpersist(blocking=True)
    assert (rdd.is_cached, rdd.getStorageLevel()) == (False, StorageLevel.NONE)
    assert (rdd.sum(), calls.value) == (6, 6)


def test_a_level_cannot_be_changed(sc: SparkContext) -> None:
    rdd = sc.parallelize([1]).persist(StorageLevel.DISK_ONLY)
    assert rdd.persist(StorageLevel.DISK_ONLY) is rdd
    with pytest.raises(UnsupportedOperationException, match="Cannot change storage level"):
        rdd.cache()
    with pytest.raises(TypeError, match="StorageLevel"):
        rdd.persist("disk")  # type: ignore[arg-type]


def test_a_checkpoint_needs_a_directory_and_is_there_after_the_first_job(
    sc: SparkContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sc, "_checkpoint_directory", None)
    rdd = sc.parallelize([1, 2])
    with pytest.raises(SparkRuntimeException, match="Checkpoint directory has not been set"):
        rdd.checkpoint()
    sc.setCheckpointDir(str(tmp_path))
    assert sc.getCheckpointDir() == str(tmp_path)
    rdd.checkpoint()
    assert not rdd.isCheckpointed()
    assert rdd.sum() == 3
    assert rdd.isCheckpointed()
    assert rdd.unpersist().isCheckpointed()
    local = sc.parallelize([1])
    local.localCheckpoint()
    assert local.isLocallyCheckpointed()


def test_levels_as_texts() -> None:
    assert str(StorageLevel.MEMORY_AND_DISK_2) == "Disk Memory Serialized 2x Replicated"
    assert repr(StorageLevel.OFF_HEAP) == "StorageLevel(True, True, True, False, 1)"
    assert StorageLevel(False, True, False, False) == StorageLevel.MEMORY_ONLY
    assert StorageLevel.DISK_ONLY != StorageLevel.DISK_ONLY_2


# -- one by one ----------------------------------------------------------------------------------


def test_the_local_iterator_computes_a_partition_when_it_is_asked_for(sc: SparkContext) -> None:
    seen = sc.accumulator(0)

    def count(x: int) -> int:
        seen.add(1)
        return x

    records = sc.parallelize(range(6), 3).map(count).toLocalIterator()
    assert next(records) == 0
    assert seen.value == 2
    records.close()  # type: ignore[attr-defined]
    assert list(sc.parallelize(range(5), 3).toLocalIterator()) == [0, 1, 2, 3, 4]


def test_an_iterator_that_is_dropped_halfway_frees_its_blocks(sc: SparkContext) -> None:
    rdd = sc.parallelize([b"x" * 200_000] * 4, 4).map(lambda x: x + b"y")
    held = sc._on_loop(lambda: sc._engine.statistics().blocks.files)
    records = rdd.toLocalIterator()
    next(records)
    del records
    assert sc._on_loop(lambda: sc._engine.statistics().blocks.files) == held


def test_jobs_of_some_partitions(sc: SparkContext) -> None:
    rdd = sc.parallelize(range(6), 3)
    assert sc.runJob(rdd, lambda items: [sum(items)], [2, 0]) == [9, 1]
    assert sc.runJob(rdd, lambda items: items) == [0, 1, 2, 3, 4, 5]


def test_several_threads_may_act_at_once(sc: SparkContext) -> None:
    rdd, sums = sc.parallelize(range(100), 4), []
    threads = [threading.Thread(target=lambda: sums.append(rdd.map(abs).sum())) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [4950] * 5


# -- functions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["map", "filter", "flatMap", "foreach"])
def test_a_function_that_raises_stop_iteration_ends_nothing_silently(sc: SparkContext, step: str) -> None:
    def stops(x: int) -> int:
        raise StopIteration

    made = getattr(sc.parallelize(range(4), 2), step)
    with pytest.raises(PythonException, match="StopIteration"):
        made(stops).collect()


def test_a_builtin_function_that_raises_stop_iteration_ends_nothing_silently(sc: SparkContext) -> None:
    with pytest.raises(PythonException):
        sc.parallelize([iter(()), iter(())], 1).map(next).collect()


def test_combined_values_start_from_a_copy_of_zero(sc: SparkContext) -> None:
    pairs = sc.parallelize([(1, "a"), (2, "b"), (1, "c")], 1)
    zero: list[str] = []
    lists = pairs.aggregateByKey(zero, lambda acc, x: acc.append(x) or acc, operator.add, 1)
    assert lists.collect() == [(1, ["a", "c"]), (2, ["b"])]
    assert zero == []


def test_groups_are_iterables_with_a_length(sc: SparkContext) -> None:
    ((key, group),) = sc.parallelize([(1, "a"), (1, "b")], 1).groupByKey().collect()
    assert isinstance(group, ResultIterable)
    assert (key, len(group), list(group), list(group)) == (1, 2, ["a", "b"], ["a", "b"])


def test_old_names_warn(sc: SparkContext) -> None:
    rdd = sc.parallelize([1, 2], 2)
    with pytest.warns(FutureWarning):
        assert rdd.mapPartitionsWithSplit(lambda i, items: [i]).collect() == [0, 1]
    with pytest.warns(FutureWarning):
        assert rdd.collectWithJobGroup("a", "b") == [1, 2]


def test_counters_of_statistics_can_be_merged() -> None:
    few, many = StatCounter([1.0]), StatCounter(map(float, range(2, 100)))
    merged = StatCounter().mergeStats(few).mergeStats(many)
    assert (merged.count(), merged.min(), merged.max()) == (99, 1.0, 99.0)
    assert merged.mean() == pytest.approx(50)
    assert merged.mergeStats(merged).count() == 198
    with pytest.raises(TypeError, match="Can only merge StatCounter"):
        merged.mergeStats(3)  # type: ignore[arg-type]


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "suffix"), [("GzipCodec", ".gz"), ("BZip2Codec", ".bz2"), ("DefaultCodec", ".deflate")]
)
def test_text_can_be_compressed(sc: SparkContext, tmp_path: Path, codec: str, suffix: str) -> None:
    path = str(tmp_path / "out")
    sc.parallelize(["a", b"b", 3], 2).saveAsTextFile(path, f"org.apache.hadoop.io.compress.{codec}")
    assert sorted(os.listdir(path)) == ["_SUCCESS", f"part-00000{suffix}", f"part-00001{suffix}"]
    if suffix == ".gz":
        assert gzip.decompress((tmp_path / "out" / "part-00001.gz").read_bytes()) == b"b\n3\n"
        assert sc.textFile(path).collect() == ["a", "b", "3"]


def test_an_unknown_codec_is_refused_before_anything_is_made(sc: SparkContext, tmp_path: Path) -> None:
    with pytest.raises(IllegalArgumentException, match="SnappyCodec"):
        sc.parallelize([1]).saveAsTextFile(str(tmp_path / "out"), "SnappyCodec")
    assert not (tmp_path / "out").exists()


def test_what_was_pickled_comes_back(sc: SparkContext, tmp_path: Path) -> None:
    data = [{"a": [1]}, None, (2, 3)]
    sc.parallelize(data, 2).saveAsPickleFile(str(tmp_path / "out"), batchSize=1)
    assert sc.pickleFile(str(tmp_path / "out")).collect() == data


def test_only_local_files_are_known(sc: SparkContext) -> None:
    with pytest.raises(SparkRuntimeException, match="No FileSystem for scheme 'hdfs'"):
        sc.textFile("hdfs://host/path")


def test_large_lists_lie_in_shared_memory(sc: SparkContext) -> None:
    data = [os.urandom(1000) for _ in range(400)]
    assert sc.parallelize(data, 2).collect() == data


def test_rdds_tell_what_they_are(sc: SparkContext) -> None:
    rdd: RDD[int] = sc.parallelize([1], 1)
    assert rdd.context is sc
    assert rdd.name() is None
    assert rdd.setName("mine").name() == "mine"
    assert isinstance(rdd.map(abs).toDebugString(), bytes)
    assert rdd.id() < rdd.map(abs).id()


def test_the_java_exception_of_an_error_has_its_text(sc):
    with pytest.raises(Py4JJavaError) as caught:
        sc.parallelize([0], 1).map(lambda x: 1 // x).collect()
    told = caught.value.java_exception
    assert "ZeroDivisionError" in told.getMessage()
    assert told.toString().startswith("PythonException: ")
    assert told.getCause() is None
