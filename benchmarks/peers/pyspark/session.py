"""A quiet local Spark: two cores, loopback only, no web page, Python of this environment."""

from __future__ import annotations

import glob
import os
import sys
from typing import Any

os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
for _home in sorted(glob.glob("/usr/lib/jvm/java-17-*")):
    os.environ["JAVA_HOME"] = _home

from common.program import parameters  # noqa: E402
from pyspark import SparkConf, SparkContext  # noqa: E402
from pyspark.streaming import StreamingContext, StreamingListener  # noqa: E402


def spark_context(cores: int = 2) -> SparkContext:
    """A context on ``local[cores]`` that logs errors only."""
    conf = SparkConf().setMaster(f"local[{cores}]").setAppName("benchmark")
    conf.set("spark.ui.enabled", "false").set("spark.ui.showConsoleProgress", "false")
    conf.set("spark.driver.host", "127.0.0.1").set("spark.driver.bindAddress", "127.0.0.1")
    conf.set("spark.driver.memory", "4g")
    conf.set("spark.local.dir", parameters()["scratch"])
    context = SparkContext(conf=conf)
    context.setLogLevel("OFF")
    return context


class Delays(StreamingListener):
    """Processing and scheduling delay of each completed batch, in milliseconds."""

    def __init__(self) -> None:
        self.processing_ms: list[int] = []
        self.scheduling_ms: list[int] = []
        self.processing_s_of: dict[int, float] = {}  # by batch time in milliseconds

    def onBatchCompleted(self, batchCompleted: Any) -> None:
        info = batchCompleted.batchInfo()
        self.processing_ms.append(int(info.processingDelay()))
        self.scheduling_ms.append(int(info.schedulingDelay()))
        self.processing_s_of[int(info.batchTime().milliseconds())] = int(info.processingDelay()) / 1e3


def streaming_context(context: SparkContext, interval_s: float) -> StreamingContext:
    """A DStream context; Spark takes intervals below a second as a fraction."""
    return StreamingContext(context, interval_s)
