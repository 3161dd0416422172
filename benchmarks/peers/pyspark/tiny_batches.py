"""Word counts of batches of ten lines on Spark DStreams: what a batch costs beyond its records."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pyspark
from common.program import digest_counts, parameters, report
from common.statistics import latency_metrics
from session import Delays, spark_context, streaming_context

given = parameters()


def main() -> None:
    counts: Counter[str] = Counter()
    done = threading.Event()
    batches = given["warm_up"] + given["batches"]

    def add(rdd: Any) -> None:
        counts.update(dict(rdd.collect()))
        if counts["lazy"] >= 10 * batches:
            done.set()

    delays = Delays()
    context = spark_context()
    ssc = streaming_context(context, given["interval_s"])
    ssc.addStreamingListener(delays)
    lines = ssc.queueStream([context.parallelize(given["lines"], 2) for _ in range(batches)])
    words = lines.flatMap(lambda line: line.split()).map(lambda word: (word, 1))
    words.reduceByKey(lambda a, b: a + b, 2).foreachRDD(add)
    ssc.start()
    done.wait()
    ssc.stop(stopSparkContext=False, stopGraceFully=True)
    report(
        answer=digest_counts({word: count // batches for word, count in counts.items()}),
        version=pyspark.__version__,
        metrics=latency_metrics([ms / 1e3 for ms in delays.processing_ms[given["warm_up"] : batches]]),
    )


main()
