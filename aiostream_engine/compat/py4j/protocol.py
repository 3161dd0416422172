"""``py4j.protocol``: the exceptions that programs name in ``except``."""

from __future__ import annotations

from ..pyspark.errors import Py4JJavaError

__all__ = ["Py4JError", "Py4JJavaError", "Py4JNetworkError"]


class Py4JError(Exception):
    """As py4j; never raised here."""


class Py4JNetworkError(Py4JError):
    """As py4j; never raised here."""
