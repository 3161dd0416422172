# ruff: noqa - written as programs on the web are, not as those of this project
"""Joins of two streams, and with a static RDD."""

import time
from pyspark import SparkContext
from pyspark.streaming import StreamingContext

sc = SparkContext("local[2]", "joins")
ssc = StreamingContext(sc, 0.2)
a = ssc.queueStream([[("u1", "click"), ("u2", "view")], [("u1", "buy")], [("u3", "x")]])
b = ssc.queueStream([[("u1", 10)], [("u2", 5)], [("u3", 7), ("u3", 8)]])
users = sc.parallelize([("u1", "Ann"), ("u2", "Bob")]).cache()
res = {}


def collect(name):
    def f(time, rdd):
        res.setdefault(name, []).append(sorted(rdd.collect(), key=str))

    return f


a.join(b).foreachRDD(collect("join"))
a.leftOuterJoin(b).foreachRDD(collect("left"))
a.rightOuterJoin(b, 3).foreachRDD(collect("right"))
a.fullOuterJoin(b).foreachRDD(collect("full"))
a.window(0.4, 0.2).join(b.window(0.4, 0.2)).foreachRDD(collect("windowed"))
a.transform(lambda rdd: rdd.leftOuterJoin(users)).foreachRDD(collect("static"))
a.cogroup(b).mapValues(lambda vs: tuple(sorted(map(str, v)) for v in vs)).foreachRDD(collect("cogroup"))
a.transformWith(lambda t, x, y: x.join(y).map(lambda kv: (type(t).__name__, kv)), b).foreachRDD(
    collect("transformWith")
)
a.union(b).glom().foreachRDD(collect("glom"))
a.mapPartitionsWithIndex(lambda i, it: [(i, len(list(it)))]).foreachRDD(collect("index"))
a.groupByKey().map(lambda kv: (kv[0], list(kv[1]))).foreachRDD(collect("group"))
a.combineByKey(lambda v: [v], lambda c, v: c + [v], lambda x, y: x + y).foreachRDD(collect("combine"))
ssc.union(a, b).count().foreachRDD(collect("count"))
ssc.transform([a, b], lambda rdds: rdds[0].union(rdds[1])).repartition(3).mapPartitions(
    lambda it: [1]
).reduce(lambda x, y: x + y).foreachRDD(collect("parts"))
ssc.start()
while min((len(v) for v in res.values()), default=0) < 4 or len(res) < 14:
    time.sleep(0.1)
ssc.stop(stopSparkContext=False, stopGraceFully=False)
for name in sorted(res):
    print(name, res[name][:4])
print(users.getStorageLevel(), users.is_cached)
sc.stop()
