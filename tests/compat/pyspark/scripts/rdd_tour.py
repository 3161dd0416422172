# ruff: noqa - written as programs on the web are, not as those of this project
"""A tour of RDDs: what blogs show."""

import os
import sys
from operator import add
from pyspark import (
    SparkConf,
    SparkContext,
    SparkFiles,
    StorageLevel,
    RDD,
    Broadcast,
    Accumulator,
    TaskContext,
)
import pyspark

base = sys.argv[1]
conf = (
    SparkConf()
    .setMaster("local[2]")
    .setAppName("tour")
    .set("spark.executor.memory", "1g")
    .set("spark.cores.max", 2)
)
print(
    conf.get("spark.executor.memory"),
    conf.get("spark.cores.max"),
    conf.get("nope"),
    conf.get("nope", "d"),
    conf.contains("spark.master"),
)
sc = SparkContext.getOrCreate(conf)
sc.setLogLevel("ERROR")
print(
    sc.appName,
    sc.master,
    sc.defaultParallelism,
    sc.defaultMinPartitions,
    sc.version[:2],
    pyspark.__version__[:2],
)
mod = os.path.join(base, "mymod.py")
with open(mod, "w") as f:
    f.write("def triple(x):\n    return 3 * x\n")
sc.addPyFile(mod)
import mymod

data = os.path.join(base, "lookup.txt")
with open(data, "w") as f:
    f.write("100\n")
sc.addFile(data)
r = sc.parallelize(range(20), 4)


def with_file(it):
    from mymod import triple

    with open(SparkFiles.get("lookup.txt")) as f:
        n = int(f.read())
    return [triple(x) + n for x in it]


print(r.mapPartitions(with_file).collect()[:5], r.map(mymod.triple).sum())
print(r.getNumPartitions(), r.glom().collect())
print(
    r.takeOrdered(3, key=lambda x: -x),
    r.top(2),
    r.takeOrdered(2),
    r.first(),
    r.take(3),
    r.max(),
    r.min(),
    r.mean(),
    r.stdev(),
    r.variance(),
)
print(r.stats())
print(r.sample(False, 0.5, 42).collect(), [x.collect() for x in r.randomSplit([0.6, 0.4], 17)])
print(r.zipWithIndex().take(3), r.zipWithUniqueId().take(6))
print(r.aggregate((0, 0), lambda a, v: (a[0] + v, a[1] + 1), lambda a, b: (a[0] + b[0], a[1] + b[1])))
print(r.histogram(4), r.countApprox(1000), r.isEmpty(), r.sumApprox(1000))
p = sc.parallelize([("a", 1), ("b", 2), ("a", 3), ("c", 1)], 2)
q = sc.parallelize([("a", "x"), ("c", "y"), ("d", "z")])
print(sorted(p.reduceByKey(add).collect()), sorted(p.countByKey().items()), p.countByKey(), p.collectAsMap())
print(
    sorted((k, sorted(v)) for k, v in p.groupByKey().collect()),
    sorted(p.join(q).collect()),
    sorted(p.leftOuterJoin(q).collect()),
)
print(sorted((k, (sorted(a), sorted(b))) for k, (a, b) in p.cogroup(q).collect()))
print(
    p.sortByKey().collect(),
    p.sortBy(lambda kv: kv[1], ascending=False).collect(),
    p.keys().distinct().count(),
    p.lookup("a"),
)
print(
    p.aggregateByKey(0, max, add).collectAsMap(),
    p.foldByKey(0, add).collectAsMap(),
    p.subtractByKey(q).collect(),
)
print(r.map(lambda x: x % 3).countByValue(), sorted(r.map(lambda x: x % 3).countByValue().items()))
print(p.values().fold(0, add), p.mapValues(str).collect(), p.flatMapValues(lambda v: [v] * v).collect())
print(sc.parallelize(["a b", "c"]).flatMap(str.split).map(str.upper).collect())
print(sc.range(3, 9, 2).collect(), sc.emptyRDD().collect(), sc.parallelize([]).isEmpty())
print(
    r.cartesian(sc.parallelize([1])).count(),
    r.subtract(sc.parallelize(range(18))).collect(),
    sorted(r.intersection(sc.parallelize([3, 99])).collect()),
)
r.setName("numbers").persist(StorageLevel.MEMORY_AND_DISK)
print(
    r.coalesce(2).glom().map(len).collect(),
    r.repartition(3).getNumPartitions(),
    p.partitionBy(2).glom().collect(),
)
acc = sc.accumulator(5)
r.foreach(lambda x: acc.add(x))
acc += 1
print(acc, acc.value)
b = sc.broadcast({"k": [1, 2]})
print(r.map(lambda x: b.value["k"][x % 2]).sum(), b.value, type(b).__name__)
b.unpersist()
b.destroy()
print(
    r.mapPartitionsWithIndex(
        lambda i, it: [(i, TaskContext.get().partitionId(), TaskContext.get().attemptNumber())]
    ).collect()
)
print(
    r.pipe("cat").take(2),
    r.keyBy(lambda x: x % 2).groupByKey().mapValues(sum).collectAsMap(),
    r.treeReduce(add),
    r.treeAggregate(0, add, add),
)
for f in (
    lambda: sc.parallelize([]).first(),
    lambda: sc.parallelize([]).reduce(add),
    lambda: r.map(1 / 0),
    lambda: sc.parallelize([1]).repartition(0),
    lambda: SparkContext("local", "second"),
):
    try:
        print(f())
    except Exception as e:
        print(type(e).__name__, str(e).splitlines()[0][:60])
try:
    r.map(lambda x: 10 // (x - 7)).collect()
except Exception as e:
    print("ZeroDivisionError: " in str(e))
try:
    r.map(lambda x: r.count()).collect()
except Exception as e:
    print("SPARK-5063" in str(e))
try:
    r.map(lambda x: sc.parallelize([x])).collect()
except Exception as e:
    print("SPARK-5063" in str(e))
print(
    sc,
    sc.applicationId.startswith("local-"),
    sc.sparkUser() != "",
    sc.startTime > 0,
    sc.uiWebUrl is None or True,
)
print(sc.getConf().get("spark.executor.memory"))
print(
    r.context is sc, r.ctx is sc, isinstance(r, RDD), isinstance(b, Broadcast), isinstance(acc, Accumulator)
)
sc.stop()
try:
    sc.parallelize([1]).count()
except Exception as e:
    print("stopped")
sc = SparkContext("local", "again")
print(sc.parallelize([1, 2]).getNumPartitions(), sc.master)
sc.stop()
