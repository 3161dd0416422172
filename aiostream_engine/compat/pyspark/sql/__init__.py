"""``pyspark.sql``: SparkSession as the door to a SparkContext; of SQL itself there is nothing."""

from __future__ import annotations

from typing import NoReturn

from ..missing import SQL
from .session import SparkSession

__all__ = ["SparkSession"]


def __getattr__(name: str) -> NoReturn:
    """Tell what to do instead, where ``from pyspark.sql import …`` would only say that it cannot."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    raise ImportError(SQL.format(name=f"pyspark.sql.{name}"), name=__name__)
