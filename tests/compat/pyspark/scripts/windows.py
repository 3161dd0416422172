# ruff: noqa - written as programs on the web are, not as those of this project
"""Windows with and without an inverse function, counts, top of a window."""

import sys
import time

from pyspark import SparkContext
from pyspark.streaming import StreamingContext

sc = SparkContext("local[2]", "WindowedWordCount")
sc.setLogLevel("WARN")
ssc = StreamingContext(sc, 0.2)
ssc.checkpoint(sys.argv[1])

rddQueue = []
for i in range(6):
    rddQueue += [ssc.sparkContext.parallelize([(k, i) for k in "abc"[: i % 3 + 1]], 2)]
inputStream = ssc.queueStream(rddQueue)
results = []
inv = inputStream.reduceByKeyAndWindow(lambda x, y: x + y, lambda x, y: x - y, 0.6, 0.2)
inv2 = inputStream.reduceByKeyAndWindow(
    lambda x, y: x + y, lambda x, y: x - y, 1.2, 0.4, filterFunc=lambda kv: kv[1] > 0
)
win = (
    inputStream.window(0.6, 0.2)
    .map(lambda x: x[0])
    .countByValue()
    .transform(lambda rdd: rdd.sortBy(lambda x: x[1], ascending=False))
)
num = inputStream.countByWindow(0.8, 0.4)
vals = inputStream.map(lambda x: x[1]).countByValueAndWindow(0.8, 0.4)
inv.foreachRDD(lambda t, rdd: results.append(("inv", sorted(rdd.collect()))))
inv2.foreachRDD(lambda t, rdd: results.append(("inv2", sorted(rdd.collect()))))
win.foreachRDD(lambda rdd: results.append(("win", rdd.map(lambda kv: kv[1]).take(1))))
num.foreachRDD(lambda rdd: results.append(("num", rdd.collect())))
vals.foreachRDD(lambda rdd: results.append(("vals", sorted(rdd.collect()))))
ssc.start()
while sum(1 for n, _ in results if n == "inv") < 9:
    time.sleep(0.1)
ssc.stop(False, False)
for name in ("inv", "inv2", "win", "num", "vals"):
    print(name)
    for r in [x for n, x in results if n == name][: 8 if name in ("inv", "win") else 4]:
        print("  ", r)
sc.stop()
