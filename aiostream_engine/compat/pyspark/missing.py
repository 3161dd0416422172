"""What PySpark has and the layer has not, with the reason that a program which calls it gets."""

from __future__ import annotations

from typing import NoReturn

from .errors import PySparkNotImplementedError

__all__ = ["MISSING", "SQL", "NotInThisLayerError", "refuse"]

SQL = (
    "{name} is not there: this is aiostream_engine's PySpark layer, which has streaming and RDDs. "
    "DataFrames and SQL need an engine of their own; a SQL lane is planned. Until then, inside of "
    "foreachRDD: `rows = rdd.collect()` and hand them to pandas, DuckDB or sqlite3; or express the query "
    "by reduceByKey, join and filter on the DStream; or run this script with real PySpark"
)
_HADOOP = "Hadoop's input and output formats are Java classes, and there is no JVM here"
_SQL = "there is no Spark SQL here; collect() the records or use them as Python objects"
_RESOURCES = "resource profiles describe the executors of a cluster, and this layer runs on one machine"
_PROFILE = "Spark's profiler is not here; profile a worker with your own tool"
_JOBS = "jobs are not numbered here; cancel by stopping the context, or by Ctrl-C in the waiting thread"

MISSING: dict[str, str] = {
    "RDD.barrier": "tasks of a stage are not scheduled all at once",
    "RDD.getResourceProfile": _RESOURCES,
    "RDD.withResources": _RESOURCES,
    "RDD.saveAsHadoopDataset": _HADOOP,
    "RDD.saveAsHadoopFile": _HADOOP,
    "RDD.saveAsNewAPIHadoopDataset": _HADOOP,
    "RDD.saveAsNewAPIHadoopFile": _HADOOP,
    "RDD.saveAsSequenceFile": _HADOOP,
    "RDD.toDF": _SQL,
    "SparkContext.cancelAllJobs": _JOBS,
    "SparkContext.cancelJobGroup": _JOBS,
    "SparkContext.cancelJobsWithTag": _JOBS,
    "SparkContext.dump_profiles": _PROFILE,
    "SparkContext.show_profiles": _PROFILE,
    "SparkContext.hadoopFile": _HADOOP,
    "SparkContext.hadoopRDD": _HADOOP,
    "SparkContext.newAPIHadoopFile": _HADOOP,
    "SparkContext.newAPIHadoopRDD": _HADOOP,
    "SparkContext.sequenceFile": _HADOOP,
    "SparkContext.statusTracker": _JOBS,
}


# What programs that reach behind the API look for.
_HANDLES = {"_gateway", "_jconf", "_jdstream", "_jrdd", "_jsc", "_jssc", "_jvm"}


class NotInThisLayerError(PySparkNotImplementedError, AttributeError):
    """A name of PySpark that the layer leaves out; the text says why. An AttributeError too."""


def refuse(owner: str, name: str) -> NoReturn:
    """Raise for an attribute that is not there: with the reason, if it is one of PySpark's."""
    reason = "there is no JVM here" if name in _HANDLES else MISSING.get(f"{owner}.{name}")
    if reason is None:
        raise AttributeError(f"{owner!r} object has no attribute {name!r}")
    raise NotInThisLayerError(f"{owner}.{name} is not in this layer: {reason}")
