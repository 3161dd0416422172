"""Programs over RDDs that run under real PySpark and under the layer.

Each gets an environment and data, and gives plain Python values: partitions as ``glom()`` shows them.
Neither engine is imported here.
"""

from __future__ import annotations

import math
import operator
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Data = list[Any]
Results = dict[str, Any]


def plain(value: Any) -> Any:
    """``value`` without classes of the engines."""
    kind = type(value).__name__
    if kind == "ResultIterable":
        return ("values", plain(list(value)))
    if kind == "StatCounter":
        return plain([value.count(), value.mean(), value.max(), value.min(), value.variance()])
    if kind == "defaultdict" or kind == "dict":
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return value


class Parts:
    """Stands for the partitions of an RDD until :func:`gathered` computes those of all in one job."""

    def __init__(self, rdd: Any) -> None:
        self.rdd = rdd
        self.in_order = True

    def sorted(self) -> Parts:
        """The same in an order of its own, where that of the partitions is not promised."""
        self.in_order = False
        return self


parts = Parts


def gathered(env: Any, results: Results) -> Results:
    """``results`` with partitions instead of RDDs. One job for all: a job of Spark's takes long."""
    wanted = {name: value.rdd for name, value in results.items() if isinstance(value, Parts)}
    found = {name: [None] * rdd.getNumPartitions() for name, rdd in wanted.items()}
    if not wanted:
        return results
    named = [rdd.mapPartitionsWithIndex(labelled(name)) for name, rdd in wanted.items()]
    for name, index, records in env.sc.union(named).collect():
        found[name][index] = plain(records)
    for name in wanted:
        if not results[name].in_order:
            found[name].sort(key=repr)
    return {name: found.get(name, value) for name, value in results.items()}


def labelled(name: str) -> Any:
    def label(index: int, items: Iterable[Any]) -> Iterator[Any]:
        yield name, index, list(items)

    return label


def outcome(call: Callable[[], Any]) -> Any:
    """What a call gives, or the kind of error that the user sees."""
    try:
        return plain(call())
    except (ValueError, TypeError, AssertionError) as error:
        return ("raises", type(error).__name__, str(error))


def twice(x: Any) -> Any:
    return (x, x)


def add(a: Any, b: Any) -> Any:
    return a + b


def indexed(index: int, items: Iterable[Any]) -> Iterator[Any]:
    yield index, list(items)


# -- single records ----------------------------------------------------------------------------


def slicing(env: Any, data: Data, slices: int) -> Results:
    sc = env.sc
    results = {
        "parallelize": parts(sc.parallelize(data, slices)),
        "a generator": parts(sc.parallelize(iter(data), slices)),
        "a set": parts(sc.parallelize(sorted(set(map(str, data))), slices)),
        "the default number": parts(sc.parallelize(data)),
        "range": parts(sc.range(len(data), numSlices=slices)),
        "range with a step": parts(sc.range(-3, 3 * len(data), 2, slices)),
        "of a range": parts(sc.parallelize(range(10, len(data)), slices)),
    }
    return gathered(env, results)


def by_record(env: Any, data: Data, slices: int) -> Results:
    rdd = env.sc.parallelize(data, slices)
    results = {
        "map": parts(rdd.map(lambda x: (x, 1))),
        "flatMap": parts(rdd.flatMap(lambda x: [x] * (len(str(x)) % 3))),
        "filter": parts(rdd.filter(lambda x: len(str(x)) % 2)),
        "mapPartitions": parts(rdd.mapPartitions(lambda items: [sum(1 for _ in items)])),
        "mapPartitionsWithIndex": parts(rdd.mapPartitionsWithIndex(indexed)),
        "keyBy": parts(rdd.keyBy(str)),
        "glom": parts(rdd.glom()),
        "zipWithIndex": parts(rdd.zipWithIndex()),
        "zipWithUniqueId": parts(rdd.zipWithUniqueId()),
        "zip": parts(rdd.zip(rdd.map(str))),
        "chained": parts(rdd.map(str).filter(len).flatMap(list).map(lambda c: (c, c))),
        "pipe": parts(rdd.map(lambda x: str(x).encode("unicode_escape").decode()).pipe("cat")),
        "setName": rdd.setName("mine").name(),
    }
    return gathered(env, results)


def partitioning(env: Any, data: Data, slices: int, wanted: int) -> Results:
    rdd = env.sc.parallelize(data, slices)
    dealt = rdd.repartition(wanted)
    results = {
        "repartition": parts(dealt),
        "repartition twice": parts(dealt.repartition(slices)),
        "repartition after map": parts(rdd.map(str).repartition(wanted)),
        "coalesce": parts(rdd.coalesce(wanted)),
        "coalesce with shuffle": parts(rdd.coalesce(wanted, True)),
        "coalesce after repartition": parts(dealt.coalesce(max(1, wanted - 1)).repartition(3)),
        "map after repartition": parts(dealt.map(str).repartition(2)),
        "union": parts(rdd.union(dealt)),
        "plus": parts(rdd + rdd),
        "union of three": parts(env.sc.union([rdd, dealt, rdd.map(str)])),
        "union with nothing": parts(rdd.union(env.sc.emptyRDD())),
        "union of repartitioned": parts(dealt.union(dealt).repartition(2)),
        "numbers": [rdd.getNumPartitions(), dealt.getNumPartitions(), env.sc.emptyRDD().getNumPartitions()],
    }
    return gathered(env, results)


def sampling(env: Any, data: Data, slices: int, seed: int, fraction: float) -> Results:
    rdd = env.sc.parallelize(data, slices)
    pairs = rdd.map(lambda x: (len(str(x)) % 2, x))
    results = {
        "sample": parts(rdd.sample(False, fraction, seed)),
        "sample with replacement": parts(rdd.sample(True, fraction * 3, seed)),
        **{f"randomSplit {n}": parts(p) for n, p in enumerate(rdd.randomSplit([1, 2, fraction], seed))},
        "sampleByKey": parts(pairs.sampleByKey(False, {0: fraction, 1: 1.0}, seed)),
        "sampleByKey with replacement": parts(pairs.sampleByKey(True, {0: fraction, 1: 2.0}, seed)),
        "takeSample": rdd.takeSample(False, len(data) // 2, seed),
        "takeSample with replacement": rdd.takeSample(True, 5, seed),
        "takeSample of all": rdd.takeSample(False, len(data) + 3, seed),
    }
    return gathered(env, results)


def actions(env: Any, data: Data, slices: int, n: int) -> Results:
    rdd = env.sc.parallelize(data, slices)
    return {
        "collect": rdd.collect(),
        "count": rdd.count(),
        "take": rdd.take(n),
        "first": outcome(rdd.first),
        "isEmpty": rdd.isEmpty(),
        "countByValue": plain(rdd.map(str).countByValue()),
        "countByKey": plain(rdd.map(lambda x: (type(x).__name__, x)).countByKey()),
        "top": rdd.top(n, key=str),
        "takeOrdered": outcome(lambda: rdd.takeOrdered(n, key=str)),
        "top of texts": rdd.map(str).top(n),
        "toLocalIterator": list(rdd.toLocalIterator()),
        "toLocalIterator, prefetching": list(rdd.toLocalIterator(prefetchPartitions=True)),
        "runJob": env.sc.runJob(rdd, lambda items: [len(list(items))], [slices - 1, 0]),
        "runJob of all": env.sc.runJob(rdd, lambda items: [len(list(items))]),
        "collectAsMap": plain(rdd.map(lambda x: (str(x), x)).collectAsMap()),
        "countApprox": rdd.countApprox(60_000),
        "max": outcome(lambda: rdd.max(key=str)),
        "min": outcome(lambda: rdd.min(key=str)),
        "type of countByValue": type(rdd.countByValue()).__name__ if data else None,
    }


def reductions(env: Any, data: list[int], slices: int) -> Results:
    rdd = env.sc.parallelize(data, slices)
    texts = rdd.map(str)
    counted = (0, "")
    both = lambda acc, x: (acc[0] + 1, acc[1] + x)  # noqa: E731
    join = lambda a, b: (a[0] + b[0], a[1] + b[1])  # noqa: E731
    return {
        "reduce": outcome(lambda: texts.reduce(add)),
        "fold": texts.fold("<", add),
        "aggregate": texts.aggregate(counted, both, join),
        "treeReduce": outcome(lambda: rdd.treeReduce(add)),
        "treeReduce, deep": outcome(lambda: rdd.treeReduce(add, 4)),
        "treeAggregate": rdd.treeAggregate(0, add, add),
        "treeAggregate of lists": sorted(rdd.treeAggregate([], lambda a, x: [*a, x], add, 3)),
        "aggregate into a list": rdd.aggregate(
            [], lambda a, x: a.append(x) or a, lambda a, b: a.extend(b) or a
        ),
        "max": outcome(rdd.max),
        "min": outcome(rdd.min),
        "sum": rdd.sum(),
        "reduce of nothing": outcome(lambda: rdd.filter(lambda x: False).reduce(add)),
        "a bad depth": outcome(lambda: rdd.treeReduce(add, 0)),
    }


def numbers(env: Any, data: list[float], slices: int, buckets: list[float]) -> Results:
    rdd = env.sc.parallelize(data, slices)
    return {
        "stats": plain(rdd.stats()),
        "mean": plain(rdd.mean()),
        "variance": plain(rdd.variance()),
        "stdev": plain(rdd.stdev()),
        "sampleStdev": plain(rdd.sampleStdev()),
        "sampleVariance": plain(rdd.sampleVariance()),
        "sum": plain(rdd.sum()),
        "asDict": plain(rdd.stats().asDict()),
        "asDict of the population": plain(rdd.stats().asDict(True)),
        "repr": repr(rdd.stats()),
        "histogram": outcome(lambda: rdd.histogram(3)),
        "histogram of one bucket": outcome(lambda: rdd.histogram(1)),
        "histogram of given bounds": outcome(lambda: rdd.histogram(buckets)),
        "histogram of none": outcome(lambda: rdd.histogram(0)),
        "histogram of a text": outcome(lambda: rdd.histogram("x")),
        "sumApprox": float(rdd.sumApprox(60_000)),
        "meanApprox": plain(float(rdd.meanApprox(60_000))) if data else None,
    }


# -- pairs -------------------------------------------------------------------------------------


def by_key(env: Any, pairs: Data, slices: int, wanted: int | None) -> Results:
    rdd = env.sc.parallelize(pairs, slices)
    lists = (lambda v: [v], lambda acc, v: [*acc, v], lambda a, b: a + b)
    results = {
        "keys": parts(rdd.keys()),
        "values": parts(rdd.values()),
        "mapValues": parts(rdd.mapValues(lambda v: (v,))),
        "flatMapValues": parts(rdd.flatMapValues(lambda v: [v] * (v % 3))),
        "partitionBy": parts(rdd.partitionBy(wanted)),
        "reduceByKey": parts(rdd.reduceByKey(operator.add, wanted)),
        "reduceByKey of texts": parts(rdd.mapValues(str).reduceByKey(lambda a, b: a + b, wanted)),
        "combineByKey": parts(rdd.combineByKey(*lists, wanted)),
        "aggregateByKey": parts(rdd.aggregateByKey([], lambda a, v: a.append(v) or a, operator.add, wanted)),
        "foldByKey": parts(rdd.foldByKey(1, operator.add, wanted)),
        "groupByKey": parts(rdd.groupByKey(wanted)),
        "groupBy": parts(rdd.groupBy(lambda pair: pair[1] % 3, wanted)),
        "distinct": parts(rdd.distinct(wanted)),
        "reduceByKeyLocally": plain(rdd.reduceByKeyLocally(operator.add)) if pairs else None,
    }
    return gathered(env, results)


def by_key_again(env: Any, pairs: Data, slices: int, wanted: int | None) -> Results:
    rdd = env.sc.parallelize(pairs, slices)
    odd = lambda key: len(str(key))  # noqa: E731
    placed = rdd.partitionBy(wanted)
    counts = rdd.mapValues(lambda v: 1).reduceByKey(add, wanted)
    results = {
        "a partition function": parts(rdd.partitionBy(3, odd)),
        "reduceByKey with one": parts(rdd.reduceByKey(add, 3, odd)),
        "groupByKey of placed": parts(placed.groupByKey(wanted)),
        "reduceByKey of placed": parts(placed.reduceByKey(add, wanted)),
        "mapValues keeps the place": parts(counts.mapValues(str).groupByKey(wanted)),
        "map forgets it": parts(counts.map(lambda pair: (pair[1], str(pair[0]))).reduceByKey(add)),
        "preserving": parts(counts.map(lambda pair: pair, preservesPartitioning=True).groupByKey()),
        "repartitionAndSortWithinPartitions": parts(
            rdd.map(lambda pair: (str(pair[0]), pair[1])).repartitionAndSortWithinPartitions(wanted)
        ),
        "the same, falling": parts(
            rdd.map(lambda pair: (pair[1], pair[0])).repartitionAndSortWithinPartitions(
                2, lambda key: key, False
            )
        ),
        "partitioners": [rdd.partitioner is None, counts.partitioner is None],
        "the number that it gives": counts.partitioner.numPartitions,
    }
    return gathered(env, results)


def sorting(env: Any, pairs: Data, slices: int, wanted: int | None) -> Results:
    rdd = env.sc.parallelize(pairs, slices).map(lambda pair: (str(pair[0]), pair[1]))
    results = {
        "sortByKey": parts(rdd.sortByKey(True, wanted)),
        "sortByKey, falling": parts(rdd.sortByKey(False, wanted)),
        "sortByKey by a function": rdd.sortByKey(True, wanted, keyfunc=lambda key: key[::-1])
        .keys()
        .collect(),
        "sortBy": parts(rdd.sortBy(lambda pair: (pair[1], pair[0]), True, wanted)),
        "sortBy, falling": parts(rdd.sortBy(lambda pair: pair[1], ascending=False, numPartitions=wanted)),
        "sortBy of many": parts(env.sc.range(300, numSlices=slices).sortBy(lambda x: x * 7919 % 301)),
    }
    return gathered(env, results)


def sides(env: Any, left: Data, right: Data, slices: int, wanted: int | None) -> Results:
    a, b = env.sc.parallelize(left, slices), env.sc.parallelize(right, 2)
    results = {
        "join": parts(a.join(b, wanted)),
        "leftOuterJoin": parts(a.leftOuterJoin(b, wanted)),
        "rightOuterJoin": parts(a.rightOuterJoin(b, wanted)),
        "fullOuterJoin": parts(a.fullOuterJoin(b, wanted)),
        "cogroup": parts(a.cogroup(b, wanted)),
        "groupWith": parts(a.groupWith(b, a)),
        "subtractByKey": parts(a.subtractByKey(b, wanted)),
        "subtract": parts(a.subtract(b, wanted)),
        "intersection": parts(a.intersection(b)),
        "cartesian": parts(a.cartesian(b).map(repr).mapPartitions(sorted)),
    }
    return gathered(env, results)


def placed_sides(env: Any, left: Data, right: Data, slices: int, wanted: int) -> Results:
    a, b = env.sc.parallelize(left, slices), env.sc.parallelize(right, 2)
    placed_a, placed_b = a.partitionBy(wanted), b.reduceByKey(add, wanted)
    both = placed_a.union(placed_b)
    results = {
        "join of placed": parts(placed_a.join(placed_b)),
        "join of placed to another number": parts(placed_a.join(placed_b, wanted + 1)),
        "join of one placed": parts(placed_a.join(b, wanted)),
        "cogroup of placed to another number": parts(placed_a.cogroup(placed_b, wanted + 2)),
        "union of placed": parts(both),
        "its number": both.getNumPartitions(),
        "its partitioner": both.partitioner is not None,
        "reduceByKey of the union": parts(both.reduceByKey(add)),
        "union of all three": parts(env.sc.union([placed_a, placed_b, placed_a])),
        "union of placed and not": parts(placed_a.union(b)),
        "groupWith of placed": parts(placed_a.groupWith(placed_b, a)),
        "subtractByKey of placed": parts(placed_a.subtractByKey(placed_b, wanted)),
    }
    return gathered(env, results)


def lookups(env: Any, pairs: Data, slices: int) -> Results:
    rdd = env.sc.parallelize(pairs, slices)
    wanted = [*[key for key, _ in pairs][:2], "nobody"]
    return {
        f"lookup {key!r}": [rdd.lookup(key), sorted(rdd.groupByKey().mapValues(len).lookup(key))]
        for key in wanted
    }


def nothing(env: Any) -> Results:
    empty, blank = env.sc.emptyRDD(), env.sc.parallelize([], 2)
    results: Results = {}
    for name, rdd in (("empty", empty), ("blank", blank)):
        found = {
            "collect": rdd.collect(),
            "count": rdd.count(),
            "sum": rdd.sum(),
            "reduceByKey": parts(rdd.reduceByKey(add)),
            "groupByKey": parts(rdd.groupByKey()),
            "join": parts(rdd.join(rdd)),
            "distinct": parts(rdd.distinct()),
            "sortByKey": parts(rdd.sortByKey()),
            "zipWithIndex": parts(rdd.zipWithIndex()),
            "fold": rdd.fold(0, add),
            "reduce": outcome(lambda rdd=rdd: rdd.reduce(add)),
            "treeReduce": outcome(lambda rdd=rdd: rdd.treeReduce(add)),
            "treeAggregate": rdd.treeAggregate(7, add, add),
            "first": outcome(rdd.first),
            "isEmpty": rdd.isEmpty(),
            "max": outcome(rdd.max),
            "stats": outcome(rdd.stats),
            "countByValue": outcome(rdd.countByValue),
            "takeSample": rdd.takeSample(False, 3),
            "top": outcome(lambda rdd=rdd: rdd.top(2)),
            "takeOrdered": rdd.takeOrdered(2),
            "histogram": outcome(lambda rdd=rdd: rdd.histogram(2)),
        }
        results |= {f"{name}: {what}": value for what, value in found.items()}
    return gathered(env, results)


# -- files and failures ------------------------------------------------------------------------


def files(env: Any, directory: str, name: str, wanted: int) -> Results:
    """Text files below ``directory`` are read; what is written goes to ``directory/<engine>-<name>``."""
    sc, own = env.sc, f"{directory}/{env.package}-{name}"
    lines = sc.textFile(f"{directory}/in", wanted)
    sc.textFile(f"{directory}/in/a.txt", wanted).map(len).saveAsTextFile(f"{own}-text")
    lines.saveAsTextFile(f"{own}-gzip", "org.apache.hadoop.io.compress.GzipCodec")
    lines.map(twice).saveAsPickleFile(f"{own}-pickle")
    # In which order Hadoop sees the files of a directory is the file system's affair.
    results = {
        "textFile": parts(lines).sorted(),
        "of one file": parts(sc.textFile(f"{directory}/in/a.txt", wanted)),
        "of a list": parts(sc.textFile(f"{directory}/in/a.txt,{directory}/in/b.txt", wanted)),
        "of a pattern": parts(sc.textFile(f"file:{directory}/in/*.txt", wanted)),
        "as bytes": parts(sc.textFile(f"{directory}/in/a.txt", wanted, use_unicode=False)),
        "by default": parts(sc.textFile(f"{directory}/in")).sorted(),
        "wholeTextFiles": sorted(sc.wholeTextFiles(f"{directory}/in").collect()),
        "binaryFiles": sorted(
            (url, bytes(data)) for url, data in sc.binaryFiles(f"{directory}/in").collect()
        ),
        "binaryRecords": parts(sc.binaryRecords(f"{directory}/records", 4)),
        "what was written": sorted(sc.textFile(f"{own}-text").collect()),
        "what was written, by file": written(f"{own}-text"),
        "compressed": sorted(sc.textFile(f"{own}-gzip").collect()),
        "compressed, by file": sorted(written(f"{own}-gzip")),
        "pickled": sorted(sc.pickleFile(f"{own}-pickle").collect()),
        "names": [sc.textFile(f"{directory}/in").name(), sc.binaryFiles(f"{directory}/in").name()],
        "more names": [sc.wholeTextFiles(f"{directory}/in").name(), lines.map(len).name()],
        "no name": sc.binaryRecords(f"{directory}/records", 4).name(),
        "again": failure(lambda: lines.saveAsTextFile(f"{own}-text"), "FileAlreadyExistsException"),
        "nowhere": failure(
            lambda: sc.textFile(f"{directory}/nowhere").collect(), "Input path does not exist"
        ),
    }
    return gathered(env, results)


def written(directory: str) -> dict[str, bytes | None]:
    """Names of the files, with the content of those that are not compressed."""
    from pathlib import Path

    found = [path for path in Path(directory).iterdir() if not path.name.startswith(".")]
    return {path.name: None if path.suffix == ".gz" else path.read_bytes() for path in found}


def failure(call: Callable[[], Any], *told: str) -> Any:
    """Whether a call fails with a text that has all of ``told``."""
    try:
        return ("gives", plain(call()))
    except Exception as error:
        return ("raises", [text in str(error) for text in told])


def pickling_error(call: Callable[[], Any]) -> bool:
    """Whether a call fails as Python's pickle does."""
    try:
        call()
    except pickle.PicklingError:
        return True
    return False


class MyError(Exception):
    """Of the user."""


def failures(env: Any) -> Results:
    rdd = env.sc.parallelize(range(6), 3)

    def broken(x: int) -> int:
        if x == 4:
            raise MyError(f"cannot do {x}")
        return x

    def stops(x: int) -> int:
        raise StopIteration

    nobody = lambda x: env.sc  # noqa: E731
    return {
        "map": failure(lambda: rdd.map(broken).collect(), "MyError: cannot do 4", "in broken", "Traceback"),
        "take of what works": failure(lambda: rdd.map(broken).take(2)),
        "filter": failure(lambda: rdd.filter(broken).count(), "MyError"),
        "foreach": failure(lambda: rdd.foreach(broken), "MyError: cannot do 4"),
        "foreachPartition": failure(
            lambda: rdd.foreachPartition(lambda items: [broken(x) for x in items]), "MyError"
        ),
        "reduceByKey": failure(
            lambda: rdd.map(lambda x: (0, x)).reduceByKey(lambda a, b: broken(4)).collect(), "MyError"
        ),
        "mapPartitions of no iterable": failure(lambda: rdd.mapPartitions(lambda items: None).collect()),
        "flatMap of no iterable": failure(lambda: rdd.flatMap(lambda x: x).collect(), "not iterable"),
        "an unhashable key": failure(
            lambda: rdd.map(lambda x: ([x], x)).groupByKey().collect(), "unhashable"
        ),
        "no pair": failure(lambda: rdd.reduceByKey(add).collect(), "TypeError"),
        "StopIteration": failure(lambda: rdd.map(stops).collect()),
        "StopIteration in a filter": failure(lambda: rdd.filter(stops).collect()),
        "StopIteration in a reduction": failure(lambda: rdd.reduce(lambda a, b: stops(a))),
        "StopIteration by key": failure(
            lambda: rdd.map(lambda x: (0, x)).reduceByKey(lambda a, b: stops(a)).collect()
        ),
        "unequal zips": failure(lambda: rdd.zip(env.sc.parallelize(range(7), 3)).collect()),
        "zips of other numbers": outcome(lambda: rdd.zip(env.sc.parallelize(range(6), 2))),
        "the context in a function": failure(lambda: rdd.map(nobody).collect(), "SPARK-5063"),
        "its kind": pickling_error(lambda: rdd.map(nobody).collect()),
        "an rdd in a function": failure(lambda: rdd.map(lambda x: rdd.count()).collect(), "SPARK-5063"),
        "no partitions": outcome(lambda: rdd.coalesce(0)),
        "no such weights": outcome(lambda: rdd.randomSplit([-1.0])),
        "no such fraction": outcome(lambda: rdd.sample(False, -1.0)),
        "no such number": outcome(lambda: rdd.takeSample(False, -1)),
        "takeOrdered of fewer than none": outcome(lambda: rdd.takeOrdered(-1)),
        "adding what is no rdd": outcome(lambda: rdd + [1]),  # noqa: RUF005
        "a level that is none": outcome(lambda: rdd.persist("MEMORY")),
        "another level": failure(
            lambda: env.sc.parallelize([1]).cache().persist(env.module("").StorageLevel.DISK_ONLY),
            "storage level",
        ),
        "countApproxDistinct": outcome(lambda: rdd.countApproxDistinct(0.00001)),
        "pipe with a check": failure(lambda: rdd.pipe("false", checkCode=True).collect(), "error code 1"),
        "pipe without": rdd.pipe("false").collect(),
        "pipe of a program that is not there": failure(
            lambda: rdd.pipe("no-such-program").collect(), "no-such"
        ),
    }


def shared(env: Any) -> Results:
    """Accumulators and broadcasts."""
    sc = env.sc
    number, real = sc.accumulator(1), sc.accumulator(0.5)
    table = sc.broadcast({"a": 1, "b": 2})

    def visit(x: str) -> int:
        nonlocal number
        number += 1
        real.add(0.25)
        return table.value.get(x, 0)

    rdd = sc.parallelize(["a", "b", "c"] * 2, 3).map(visit)
    found = [rdd.collect(), number.value, real.value, rdd.sum(), number.value]
    kept = rdd.cache()
    found += [kept.count(), kept.count(), number.value, kept.is_cached, str(kept.getStorageLevel())]
    kept.unpersist()
    found += [kept.is_cached, str(kept.getStorageLevel()), kept.count(), number.value]
    number.value = 7
    return {
        "found": found,
        "set": (str(number), number.value),
        "no number": outcome(lambda: sc.accumulator("x")),
        "read in a task": failure(lambda: rdd.map(lambda x: number.value).collect(), "VALUE_NOT_ACCESSIBLE"),
        "destroyed in a task": failure(
            lambda: rdd.foreach(lambda x: table.destroy()), "INVALID_BROADCAST_OPERATION"
        ),
    }
