"""``import pyspark`` gives this layer: for the runner, for tests and for notebooks."""

from __future__ import annotations

from collections.abc import Callable

from ..alias import Alias
from .missing import SQL

__all__ = ["install_as_pyspark"]

_ML = (
    "{name} is not there: this is aiostream_engine's PySpark layer, which has streaming and RDDs. "
    "Train in foreachRDD with a library of your choice (partial_fit and the like) and apply the model with "
    "map or transform; or run this script with real PySpark"
)
_MISSING = {
    "pyspark.sql": SQL.format(name="this module of pyspark.sql"),
    "pyspark.pandas": SQL.format(name="pyspark.pandas"),
    "pyspark.ml": _ML.format(name="pyspark.ml"),
    "pyspark.mllib": _ML.format(name="pyspark.mllib"),
    "pyspark.streaming.kinesis": (
        "pyspark.streaming.kinesis is not there: aiostream_engine has no Kinesis source yet. Write one as a "
        "receiver (StreamingContext.receiver_stream of aiostream_engine, with a Kinesis client of your "
        "choice), or run this script with real PySpark"
    ),
}
_aliases = (
    Alias("pyspark", __package__, _MISSING),
    # Programs name its exceptions; of the rest of py4j nothing would work without a JVM.
    Alias("py4j", "aiostream_engine.compat.py4j", in_workers=False),
)


def install_as_pyspark() -> Callable[[], None]:
    """Let ``import pyspark`` and ``from pyspark.streaming import …`` give this layer from now on.

    ``py4j.protocol`` is there for its exceptions. Gives a function that undoes it. Real PySpark, if it is
    installed or even imported, is put aside and stays untouched. Workers that start from now on know the
    name as well. A second call changes nothing.
    ``python -m aiostream_engine pyspark script.py`` does this for one script.
    """
    for alias in _aliases:
        alias.install()
    return _uninstall


def _uninstall() -> None:
    for alias in _aliases:
        alias.remove()
