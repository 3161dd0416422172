"""The driver is killed while Spark's updateStateByKey keeps a million keys of state."""

from __future__ import annotations

from typing import Any

import pyspark
from common.driver_kill import TOUCHED, measure
from common.program import parameters, report
from common.stream_process import tell
from pyspark import SparkContext
from pyspark.streaming import StreamingContext
from session import spark_context, streaming_context

given = parameters()
WANTED = frozenset(TOUCHED)
CHECKPOINT = given["disk"] + "/checkpoint"


def updated(values: list[int], count: int | None) -> int:
    return sum(values) + (count or 0)


def take(rdd: Any) -> None:
    counts = dict(rdd.filter(lambda pair: pair[0] in WANTED).collect())
    if counts:
        tell("counts", counts)
    tell("settled")


def build() -> StreamingContext:
    ssc = streaming_context(spark_context(), given["interval_s"])
    ssc.checkpoint(CHECKPOINT)
    pairs = ssc.textFileStream(given["scratch"] + "/in").map(lambda line: (line, 1))
    pairs.updateStateByKey(updated, 2).foreachRDD(take)
    return ssc


def stream() -> None:
    SparkContext._ensure_initialized()  # the virtual machine is a part of importing
    tell("imported")
    ssc = StreamingContext.getOrCreate(CHECKPOINT, build)
    ssc.start()
    tell("ready")
    ssc.awaitTermination()


if given.get("role") == "stream":
    stream()
else:
    metrics, answer = measure(given)
    report(answer=answer, version=pyspark.__version__, metrics=metrics)
