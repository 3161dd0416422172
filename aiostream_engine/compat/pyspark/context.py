"""SparkContext: the synchronous face of an engine context, in a thread of its own."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, ClassVar, NoReturn, TypeVar, cast

from ...blocks.directory import BlockDirectory
from ...config import PoolConfig
from ...engine import EngineContext
from ...executors.process.pool import ProcessExecutor
from .accumulators import Accumulator, AccumulatorParam, param_for
from .broadcast import Broadcast
from .conf import SparkConf
from .context_data import ContextData
from .context_files import PACKED, ContextFiles
from .context_properties import ContextProperties
from .errors import PySparkRuntimeError, SparkRuntimeException, as_spark_errors
from .files import ROOT_VARIABLE, SparkFiles
from .loop import EngineLoop
from .master import cores_of
from .missing import refuse
from .rdd import RDD
from .taskcontext import TaskContext

__all__ = ["SparkContext"]

T = TypeVar("T")
U = TypeVar("U")

VERSION = "4.3.0"
_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_OUTPUT_LINES_PER_S_MAX = 1_000_000


class SparkContext(ContextData, ContextFiles, ContextProperties):
    """The connection to the engine; as PySpark: one active context a process, used from any thread.

    Differs: ``local`` and ``local[n]`` start that many worker processes and no JVM; other masters
    are refused. ``sparkHome``, ``batchSize`` beyond its part in slicing, ``serializer``, ``gateway``,
    ``jsc`` and the profiler classes have no effect.
    """

    PACKAGE_EXTENSIONS: ClassVar[Sequence[str]] = PACKED
    _active_spark_context: ClassVar[SparkContext | None] = None
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(
        self,
        master: str | None = None,
        appName: str | None = None,
        sparkHome: str | None = None,
        pyFiles: list[str] | None = None,
        environment: dict[str, Any] | None = None,
        batchSize: int = 0,
        serializer: Any = None,
        conf: SparkConf | None = None,
        gateway: Any = None,
        jsc: Any = None,
        profiler_cls: Any = None,
        udf_profiler_cls: Any = None,
        memory_profiler_cls: Any = None,
    ) -> None:
        self._assert_on_driver()
        self._callsite = _callsite()
        self._stopped = False
        self._before_stop: list[Callable[[], None]] = []  # of streams, which need the engine to end
        self._loop = EngineLoop(on_exit=self.stop)
        self._make_only_one()
        try:
            self._conf = _configured(conf, master, appName, sparkHome, environment)
            self._batchSize = batchSize
            self._start(environment or {})
            for path in [
                *(pyFiles or []),
                *filter(None, self._conf.get("spark.submit.pyFiles", "").split(",")),
            ]:
                self.addPyFile(path)
        except BaseException:
            self.stop()
            raise

    def _start(self, environment: dict[str, Any]) -> None:
        self.master = cast("str", self._conf.get("spark.master"))
        self.appName = cast("str", self._conf.get("spark.app.name"))
        self.sparkHome = self._conf.get("spark.home")
        self.environment = _worker_environment(self._conf, environment)
        cores = cores_of(self.master)
        self._start_time = int(time.time() * 1000)
        self._conf.setIfMissing("spark.app.id", f"local-{self._start_time}")
        self._conf.set("spark.app.startTime", str(self._start_time))
        self._conf.setIfMissing("spark.executor.id", "driver").setIfMissing(
            "spark.submit.deployMode", "client"
        )
        self._parallelism = int(self._conf.get("spark.default.parallelism", str(cores)))
        self._properties = threading.local()
        self._checkpoint_directory: str | None = None
        self._files: dict[str, str] = {}
        self._archives: list[str] = []
        self._engine = EngineContext(
            f"local[{cores}]", parallelism=self._parallelism, executor=self._executor(cores)
        )
        with as_spark_errors():
            self._loop.call(self._engine.start())

    def _executor(self, cores: int) -> Callable[[BlockDirectory], ProcessExecutor]:
        pool = PoolConfig(output_lines_per_s_max=_OUTPUT_LINES_PER_S_MAX)

        def make(directory: BlockDirectory) -> ProcessExecutor:
            # Before the workers start, which take over the search path.
            self._make_file_directories(directory)
            environment = {name: str(value) for name, value in self.environment.items()}
            environment[ROOT_VARIABLE] = self._file_directory
            return ProcessExecutor(cores, directory, pool, environment=environment, on_output=_print_line)

        return make

    def _make_file_directories(self, directory: BlockDirectory) -> None:
        """Where added files go: with the blocks, which are removed however the program ends."""
        self._file_directory = os.path.join(directory.spill_path, "files")
        self._package_directory = os.path.join(directory.spill_path, "packages")
        os.mkdir(self._file_directory)
        os.mkdir(self._package_directory)
        SparkFiles._root_directory = self._file_directory
        sys.path[1:1] = [self._file_directory, self._package_directory]

    @classmethod
    def _assert_on_driver(cls) -> None:
        if TaskContext.get() is not None:
            raise PySparkRuntimeError(errorClass="CONTEXT_ONLY_VALID_ON_DRIVER", messageParameters={})

    def _make_only_one(self) -> None:
        with SparkContext._lock:
            other = SparkContext._active_spark_context
            if other is not None:
                raise ValueError(
                    "Cannot run multiple SparkContexts at once; existing "
                    f"SparkContext(app={other.appName}, master={other.master}) created by {other._callsite} "
                )
            SparkContext._active_spark_context = self

    @classmethod
    def getOrCreate(cls, conf: SparkConf | None = None) -> SparkContext:
        """The active context, or a new one; as PySpark."""
        with SparkContext._lock:
            return SparkContext._active_spark_context or SparkContext(conf=conf or SparkConf())

    def __reduce__(self) -> NoReturn:
        raise PySparkRuntimeError(errorClass="CONTEXT_ONLY_VALID_ON_DRIVER", messageParameters={})

    def __repr__(self) -> str:
        return f"<SparkContext master={self.master} appName={self.appName}>"

    def __enter__(self) -> SparkContext:
        return self

    def __exit__(
        self,
        type: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the workers and the event loop, and free everything; may be called twice; as PySpark."""
        with SparkContext._lock:
            if SparkContext._active_spark_context is self:
                SparkContext._active_spark_context = None
            if self._stopped:
                return
            self._stopped = True
        if hasattr(self, "_engine") and self._loop.running:
            for callback in tuple(self._before_stop):
                callback()
            self._loop.call(self._engine.aclose())
        self._loop.stop()
        if hasattr(self, "_file_directory"):
            mine = (self._file_directory, self._package_directory)
            sys.path[:] = [entry for entry in sys.path if entry not in mine]
            if SparkFiles._root_directory == self._file_directory:
                SparkFiles._root_directory = None

    # -- the engine behind it ------------------------------------------------------------------

    @property
    def _is_running(self) -> bool:
        return not self._stopped

    def _check(self) -> None:
        if self._stopped:
            raise SparkRuntimeException(
                f"Cannot call methods on a stopped SparkContext: it was created by {self._callsite}"
            )

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine of the engine, its errors under their PySpark names."""
        if self._stopped:
            coroutine.close()
            self._check()
        with as_spark_errors():
            return self._loop.call(coroutine)

    def _on_loop(self, function: Callable[[], T]) -> T:
        """The result of a function that must run where the engine does."""
        self._check()
        with as_spark_errors():
            return self._loop.run(function)

    # -- what it is ----------------------------------------------------------------------------

    @property
    def version(self) -> str:
        """The version of PySpark whose API this is; the package has its own."""
        return VERSION

    @property
    def applicationId(self) -> str:
        """``local-`` and the start time; as PySpark."""
        return cast("str", self._conf.get("spark.app.id"))

    @property
    def uiWebUrl(self) -> str | None:
        """Differs: always None, as there is no Spark UI."""
        return None

    @property
    def startTime(self) -> int:
        """Epoch milliseconds of the start; as PySpark."""
        return self._start_time

    @property
    def defaultParallelism(self) -> int:
        """``spark.default.parallelism``, or the number of workers; as PySpark."""
        self._check()
        return self._parallelism

    @property
    def defaultMinPartitions(self) -> int:
        """:attr:`defaultParallelism`, at most 2; as PySpark."""
        return min(self.defaultParallelism, 2)

    @property
    def resources(self) -> dict[str, Any]:
        """Differs: always empty, as there are no resources such as GPUs."""
        return {}

    def sparkUser(self) -> str:
        """Name of the user that runs the program; as PySpark."""
        import getpass

        return getpass.getuser()

    def getConf(self) -> SparkConf:
        """A copy of the configuration; as PySpark."""
        return SparkConf(loadDefaults=False).setAll(self._conf.getAll())

    def setLogLevel(self, logLevel: str) -> None:
        """Set the level of logs. Differs: of the loggers named ``aiostream_engine``, of no other."""
        from .logs import set_level

        set_level(logLevel)

    @classmethod
    def setSystemProperty(cls, key: str, value: str) -> None:
        """Remember a property. Differs: only :meth:`getSystemProperty` reads it; there is no Java."""
        _system_properties[key] = value

    @classmethod
    def getSystemProperty(cls, key: str) -> str | None:
        """A property. Differs: only what :meth:`setSystemProperty` set; there is no Java."""
        return _system_properties.get(key)

    # -- shared values -------------------------------------------------------------------------

    def broadcast(self, value: T) -> Broadcast[T]:
        """A read-only value that each worker loads once; as PySpark."""
        self._check()
        return Broadcast(self, value)

    def accumulator(self, value: T, accum_param: AccumulatorParam[T] | None = None) -> Accumulator[T]:
        """A sum that tasks add to; as PySpark."""
        self._check()
        param = param_for(value) if accum_param is None else accum_param
        accumulator = Accumulator(-1, value, param)
        accumulator._share(self._engine)
        return accumulator

    # -- jobs ----------------------------------------------------------------------------------

    def runJob(
        self,
        rdd: RDD[T],
        partitionFunc: Callable[[Iterable[T]], Iterable[U]],
        partitions: Sequence[int] | None = None,
        allowLocal: bool = False,
    ) -> list[U]:
        """``partitionFunc`` of some partitions, its results one after the other; as PySpark."""
        return rdd.mapPartitions(partitionFunc)._collect_partitions(partitions)

    def __getattr__(self, name: str) -> Any:
        refuse("SparkContext", name)


_system_properties: dict[str, str] = {}


def _configured(
    conf: SparkConf | None,
    master: str | None,
    name: str | None,
    home: str | None,
    environment: dict[str, Any] | None,
) -> SparkConf:
    made = SparkConf()
    made.setAll(conf.getAll() if conf is not None else [])
    for setting, value in (("spark.master", master), ("spark.app.name", name), ("spark.home", home)):
        if value:
            made.set(setting, value)
    for variable, value in (environment or {}).items():
        made.setExecutorEnv(variable, value)
    if not made.contains("spark.master"):
        raise PySparkRuntimeError(errorClass="MASTER_URL_NOT_SET", messageParameters={})
    if not made.contains("spark.app.name"):
        raise PySparkRuntimeError(errorClass="APPLICATION_NAME_NOT_SET", messageParameters={})
    return made


def _worker_environment(conf: SparkConf, environment: dict[str, Any]) -> dict[str, Any]:
    lead = "spark.executorEnv."
    asked = {key.removeprefix(lead): value for key, value in conf.getAll() if key.startswith(lead)}
    return {**environment, **asked, "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0")}


def _print_line(line: str) -> None:
    """Where a task's prints go: to the driver's standard error, as PySpark's do through the JVM."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed or replaced by the host
        print(line, file=sys.stderr, flush=True)


def _callsite() -> str:
    """Where the user made the context."""
    for frame in reversed(traceback.extract_stack()):
        if not os.path.abspath(frame.filename).startswith(_PACKAGE):
            return f"{frame.name} at {frame.filename}:{frame.lineno}"
    return "an unknown caller"
