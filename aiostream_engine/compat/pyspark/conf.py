"""SparkConf: the configuration of a SparkContext."""

from __future__ import annotations

from collections.abc import Iterable
from typing import overload

from .errors import PySparkRuntimeError

__all__ = ["DEFAULTS", "SparkConf"]

# What ``loadDefaults=True`` starts from; the runner puts its ``--conf`` options here.
DEFAULTS: dict[str, str] = {}


class SparkConf:
    """Keys and values of a configuration; as PySpark.

    Differs: a plain dict, with no Java system properties under it. Keys that the layer does not know
    are kept and have no effect.
    """

    def __init__(self, loadDefaults: bool = True) -> None:
        self._conf: dict[str, str] = dict(DEFAULTS) if loadDefaults else {}

    def set(self, key: str, value: str) -> SparkConf:
        """Set a key; as PySpark."""
        self._conf[key] = str(value)
        return self

    def setIfMissing(self, key: str, value: str) -> SparkConf:
        """Set a key that is not set; as PySpark."""
        if key not in self._conf:
            self.set(key, value)
        return self

    def setMaster(self, value: str) -> SparkConf:
        """Set where to run; as PySpark."""
        return self.set("spark.master", value)

    def setAppName(self, value: str) -> SparkConf:
        """Set the application's name; as PySpark."""
        return self.set("spark.app.name", value)

    def setSparkHome(self, value: str) -> SparkConf:
        """Set Spark's home. Differs: has no effect."""
        return self.set("spark.home", value)

    def setExecutorEnv(
        self,
        key: str | None = None,
        value: str | None = None,
        pairs: list[tuple[str, str]] | None = None,
    ) -> SparkConf:
        """Set environment variables of the workers; as PySpark."""
        if (key is None) == (pairs is None):
            raise PySparkRuntimeError(errorClass="KEY_VALUE_PAIR_REQUIRED", messageParameters={})
        for name, text in pairs if pairs is not None else [(str(key), str(value))]:
            self.set(f"spark.executorEnv.{name}", text)
        return self

    def setAll(self, pairs: Iterable[tuple[str, str]]) -> SparkConf:
        """Set several keys; as PySpark."""
        for key, value in pairs:
            self.set(key, value)
        return self

    @overload
    def get(self, key: str, defaultValue: None = ...) -> str | None: ...

    @overload
    def get(self, key: str, defaultValue: str) -> str: ...

    def get(self, key: str, defaultValue: str | None = None) -> str | None:
        """The value of a key, or the default; as PySpark."""
        return self._conf.get(key, defaultValue)

    def getAll(self) -> list[tuple[str, str]]:
        """All pairs; as PySpark."""
        return list(self._conf.items())

    def contains(self, key: str) -> bool:
        """True when the key is set; as PySpark."""
        return key in self._conf

    def toDebugString(self) -> str:
        """One ``key=value`` line a key; as PySpark."""
        return "\n".join(f"{key}={value}" for key, value in sorted(self._conf.items()))
