# ruff: noqa - written as programs on the web are, not as those of this project
"""Join each batch with a broadcast blacklist; count what was dropped."""

import time
import datetime
from pyspark import SparkContext
from pyspark.context import SparkContext as SC2
from pyspark.rdd import RDD
from pyspark.streaming import StreamingContext
from pyspark.streaming.dstream import DStream
from pyspark.broadcast import Broadcast
from pyspark.accumulators import AccumulatorParam

assert SC2 is SparkContext


class VectorAccumulatorParam(AccumulatorParam):
    def zero(self, value):
        return [0.0] * len(value)

    def addInPlace(self, val1, val2):
        for i in range(len(val1)):
            val1[i] += val2[i]
        return val1


def getWordBlacklist(sparkContext):
    if "wordBlacklist" not in globals():
        globals()["wordBlacklist"] = sparkContext.broadcast(["a", "b", "c"])
    return globals()["wordBlacklist"]


def getDroppedWordsCounter(sparkContext):
    if "droppedWordsCounter" not in globals():
        globals()["droppedWordsCounter"] = sparkContext.accumulator(0)
    return globals()["droppedWordsCounter"]


sc = SparkContext(master="local[2]", appName="PythonBlacklist")
vec = sc.accumulator([0.0, 0.0], VectorAccumulatorParam())
ssc = StreamingContext(sc, 0.2)
rdds = [sc.parallelize(["a b x y", "z z a"], 2), sc.parallelize(["c q"], 1), sc.parallelize([], 1)]
lines = ssc.queueStream(rdds)
blacklistRDD = sc.parallelize([("a", True), ("q", False), ("b", True)])
words = lines.flatMap(lambda l: l.split()).map(lambda w: (w, 1))
cleaned = words.transform(
    lambda rdd: rdd.leftOuterJoin(blacklistRDD).filter(lambda x: not x[1][1]).map(lambda x: (x[0], x[1][0]))
)
counts = cleaned.reduceByKey(lambda a, b: a + b)
out = []


def echo(time, rdd):
    blacklist = getWordBlacklist(rdd.context)
    dropped = getDroppedWordsCounter(rdd.context)

    def filterFunc(wc):
        vec.add([1.0, float(wc[1])])
        if wc[0] in blacklist.value:
            dropped.add(wc[1])
            return False
        return True

    kept = "Counts %s" % sorted(rdd.filter(filterFunc).collect())
    out.append(kept + " dropped %d" % dropped.value)
    assert isinstance(time, datetime.datetime), time


counts.foreachRDD(echo)
print(isinstance(counts, DStream), isinstance(blacklistRDD, RDD), isinstance(getWordBlacklist(sc), Broadcast))
ssc.start()
while len(out) < 4:
    time.sleep(0.1)
ssc.stop(stopSparkContext=False)
print("\n".join(out[:4]))
print(vec.value, vec)
sc.stop()
