"""A large keyed state of which each batch touches a little, on Spark DStreams."""

from __future__ import annotations

from typing import Any

import pyspark
import state_outputs
from common.program import parameters, report
from common.statistics import latency_metrics
from session import Delays, spark_context, streaming_context

given = parameters()


def updated(values: list[int], count: int | None) -> int:
    return sum(values) + (count or 0)


def batches(context: Any) -> list[Any]:
    keys, touched = given["keys"], given["touched"]
    step = keys // touched
    everything = context.range(keys, numSlices=2).map(lambda key: (key, 1))
    some = [
        context.parallelize([(key, 1) for key in range(number, keys, step)][:touched], 2)
        for number in range(given["batches"])
    ]
    return [everything, *some]


def main() -> None:
    delays = Delays()
    state_outputs.result["last"] = given["batches"]
    context = spark_context()
    ssc = streaming_context(context, given["interval_s"])
    ssc.checkpoint(given["scratch"] + "/checkpoint")  # Spark demands it
    ssc.addStreamingListener(delays)
    ssc.queueStream(batches(context)).updateStateByKey(updated, 2).foreachRDD(state_outputs.take)
    ssc.start()
    state_outputs.done.wait()
    seconds = [ms / 1e3 for ms in delays.processing_ms]
    report(
        answer=state_outputs.result["sum"],
        version=pyspark.__version__,
        metrics={**latency_metrics(seconds[1 : given["batches"]]), "load_s": seconds[0]},
    )


main()
