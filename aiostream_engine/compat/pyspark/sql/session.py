"""SparkSession: how many programs get their SparkContext, and no more than that."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, ClassVar, NoReturn

from ..conf import SparkConf
from ..context import SparkContext
from ..missing import SQL, NotInThisLayerError

__all__ = ["RuntimeConfig", "SparkSession"]


class RuntimeConfig:
    """The configuration of a session; as PySpark. Differs: nothing but the getters reads what is set."""

    def __init__(self, conf: SparkConf) -> None:
        self._conf = dict(conf.getAll())

    def set(self, key: str, value: str | int | bool) -> None:
        """Set a key."""
        self._conf[key] = str(value).lower() if isinstance(value, bool) else str(value)

    def get(self, key: str, default: str | None = None) -> str | None:
        """The value of a key, or the default."""
        return self._conf.get(key, default)

    def unset(self, key: str) -> None:
        """Forget a key."""
        self._conf.pop(key, None)

    @property
    def getAll(self) -> Mapping[str, str]:
        """All keys and values; a property, as PySpark's."""
        return dict(self._conf)

    def isModifiable(self, key: str) -> bool:
        """False: the engine has been started with what it reads."""
        return False


class SparkSession:
    """What ``SparkSession.builder.getOrCreate()`` gives: a SparkContext, and no SQL.

    Programs of streams and RDDs that begin with a session run; anything else of it raises
    :class:`~aiostream_engine.compat.pyspark.missing.NotInThisLayerError`, which tells what to do instead.
    One session a process.
    """

    _active: ClassVar[SparkSession | None] = None
    _lock: ClassVar[threading.RLock] = threading.RLock()

    class Builder:
        """Collects a configuration; as PySpark."""

        def __init__(self) -> None:
            self._options: dict[str, str] = {}

        def config(
            self,
            key: str | None = None,
            value: Any = None,
            conf: SparkConf | None = None,
            *,
            map: Mapping[str, Any] | None = None,
        ) -> SparkSession.Builder:
            """Set one key, those of a SparkConf, or those of a mapping."""
            given = dict(conf.getAll()) if conf is not None else dict(map or {})
            if key is not None:
                given[key] = value
            for name, setting in given.items():
                self._options[name] = str(setting).lower() if isinstance(setting, bool) else str(setting)
            return self

        def master(self, master: str) -> SparkSession.Builder:
            """Set where to run: ``local``, ``local[n]`` or ``local[*]``."""
            return self.config("spark.master", master)

        def appName(self, name: str) -> SparkSession.Builder:
            """Set the name of the program."""
            return self.config("spark.app.name", name)

        def enableHiveSupport(self) -> SparkSession.Builder:
            """Has no effect: there is no SQL here."""
            return self

        def getOrCreate(self) -> SparkSession:
            """The session of this process, on the active SparkContext or on a new one."""
            with SparkSession._lock:
                session = SparkSession.getActiveSession()
                if session is None:
                    conf = SparkConf().setAll(self._options.items())
                    conf.setIfMissing("spark.app.name", "pyspark-shell")
                    session = SparkSession(SparkContext.getOrCreate(conf))
                for key, value in self._options.items():
                    session.conf.set(key, value)
                return session

    class _NewBuilder:
        def __get__(self, instance: object, owner: type) -> SparkSession.Builder:
            return SparkSession.Builder()

    builder: ClassVar[_NewBuilder] = _NewBuilder()

    def __init__(self, sparkContext: SparkContext) -> None:
        self._sc = sparkContext
        self.conf = RuntimeConfig(sparkContext.getConf())
        SparkSession._active = self

    @classmethod
    def getActiveSession(cls) -> SparkSession | None:
        """The session, None before there is one and after it was stopped."""
        active = SparkSession._active
        return active if active is not None and active._sc._is_running else None

    @property
    def sparkContext(self) -> SparkContext:
        """The context that the session runs on."""
        return self._sc

    @property
    def version(self) -> str:
        """The version of PySpark whose API this is."""
        return self._sc.version

    def stop(self) -> None:
        """Stop the SparkContext."""
        self._sc.stop()
        SparkSession._active = None

    def __enter__(self) -> SparkSession:
        return self

    def __exit__(
        self,
        type: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(f"'SparkSession' object has no attribute {name!r}")
        raise NotInThisLayerError(SQL.format(name=f"SparkSession.{name}"))
