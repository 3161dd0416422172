"""One PySpark program for both engines: a word count or a keyed state, timed by its own listener.

It knows nothing of which engine runs it. Its only argument is the JSON object of the benchmark.
"""

from __future__ import annotations

import operator
import threading
import time
from typing import Any

from common.program import digest_counts, parameters, report
from common.statistics import latency_metrics
from pyspark import SparkConf, SparkContext, __version__
from pyspark.streaming import StreamingContext, StreamingListener

given = parameters()
WARM_UP = 5
FIRST_BATCH_TIMEOUT_S = 60


class Delays(StreamingListener):  # type: ignore[misc]
    """Scheduling and processing delay of every batch, in milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, int, int]] = []
        self.changed = threading.Condition()

    def onBatchCompleted(self, batchCompleted: Any) -> None:
        info = batchCompleted.batchInfo()
        with self.changed:
            time_ms = info.batchTime().milliseconds()
            self.batches.append((time_ms, info.schedulingDelay(), info.processingDelay()))
            self.changed.notify_all()


class Results:
    """What the last batch gave, and when the first was there."""

    def __init__(self) -> None:
        self.first_s = 0.0
        self.batches = 0
        self.last: Any = None

    def take(self, rdd: Any) -> None:
        self.last = dict(rdd.collect()) if given["work"] == "words" else rdd.count()
        self.batches += 1
        self.first_s = self.first_s or time.time()


def words(context: Any, ssc: Any) -> Any:
    path = given["file"]
    lines = context.textFile(path, 2) if path else context.parallelize(given["lines"], 2)
    stream = ssc.queueStream([lines], default=lines)
    return stream.flatMap(lambda line: line.split()).map(lambda word: (word, 1)).reduceByKey(operator.add, 2)


def add_up(values: Any, total: Any) -> Any:
    return sum(values) + (total or 0)


def state(context: Any, ssc: Any) -> Any:
    everything = context.range(given["keys"], numSlices=2).map(lambda key: (key, 1))
    step = given["keys"] // given["touched"]
    some = context.parallelize([(key, 1) for key in range(0, given["keys"], step)], 2)
    return ssc.queueStream([everything], default=some).updateStateByKey(add_up, 2)


def wait(delays: Delays) -> None:
    """Until enough batches were seen, or the time since the first is over."""
    with delays.changed:
        if not delays.changed.wait_for(lambda: delays.batches, FIRST_BATCH_TIMEOUT_S):
            raise TimeoutError(f"no batch within {FIRST_BATCH_TIMEOUT_S} s")
        until = time.monotonic() + given["seconds"]
        while (left := until - time.monotonic()) > 0 and len(delays.batches) < WARM_UP + given["batches"]:
            delays.changed.wait(left)


def figures(delays: Delays, results: Results) -> dict[str, float]:
    with delays.changed:
        batches = delays.batches[WARM_UP:] or delays.batches[-1:]
    interval_ms = given["interval_s"] * 1e3
    span = max(1, round((batches[-1][0] - batches[0][0]) / interval_ms) + 1)
    kept_up = len(batches) >= 0.95 * span and batches[-1][1] <= max(interval_ms, 5)
    processing = [ms / 1e3 for _, _, ms in batches]
    return {
        **latency_metrics(processing),
        "sustained": float(kept_up),
        "share_of_ticks": len(batches) / span,
        "last_scheduling_delay_ms": float(batches[-1][1]),
        "first_batch_s": results.first_s - given["started"],
        "batches": float(len(batches)),
    }


def main() -> None:
    conf = SparkConf().set("spark.ui.enabled", "false").set("spark.ui.showConsoleProgress", "false")
    context = SparkContext("local[2]", "same script", conf=conf)
    context.setLogLevel("ERROR")
    context.setCheckpointDir(given["scratch"])
    ssc = StreamingContext(context, given["interval_s"])
    delays, results = Delays(), Results()
    ssc.addStreamingListener(delays)
    make = words if given["work"] == "words" else state
    make(context, ssc).foreachRDD(lambda rdd: results.take(rdd))  # PySpark counts the self of a method
    ssc.start()
    wait(delays)
    metrics = figures(delays, results)
    ssc.stop(stopSparkContext=False)
    answer = digest_counts(results.last) if given["work"] == "words" else results.last
    report(answer=answer, version=__version__, metrics=metrics)
    context.stop()


if __name__ == "__main__":
    main()
