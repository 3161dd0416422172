"""StreamingContext: the synchronous face of a stream, by the names and rules of PySpark."""

from __future__ import annotations

import contextvars
import functools
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from ....context import StreamingContext as EngineStreamingContext
from ....dstream import DStream as EngineStream
from ....errors import AiostreamError
from ....plan.graph import OutputNode, StreamNode
from ....runtime.driver import inside_batch
from ....sources.daemon_thread import DaemonThread
from ....types import ContextState, OnError
from ....windows.intervals import is_due_within
from ..context import SparkContext
from ..errors import (
    IllegalArgumentException,
    PySparkRuntimeError,
    SparkRuntimeException,
    as_spark_errors,
    spark_error,
)
from .arity import datetime_of
from .checkpoints import Checkpoints
from .dstream import DStream
from .generation import Generation, NotGeneratedError
from .inputs import Inputs
from .listener import StreamingListener, call_listener
from .settings import backpressure_of, is_true, scheduler_of
from .termination import Termination

if TYPE_CHECKING:
    from ....observe.events import BatchInfo, Event
    from ....runtime.machine import Batch
    from ..rdd import RDD

__all__ = ["StreamingContext"]

_log = logging.getLogger("aiostream_engine.compat.pyspark")
T = TypeVar("T")


class StreamingContext(Inputs):
    """A stream on a SparkContext, with a batch every ``batchDuration`` seconds; as PySpark.

    Batches fall on multiples of the duration since the epoch, and are labelled by their end. Differs:
    ticks that were missed are made up for by one batch, unless ``spark.aiostream.missedTicks`` is
    ``every``; a duration below a millisecond is refused at once and not by ``start``; the warning that
    DStreams are deprecated is left out; ``jssc`` must be None.
    """

    _activeContext: ClassVar[StreamingContext | None] = None
    _activation: ClassVar[threading.RLock] = threading.RLock()

    def __init__(
        self, sparkContext: SparkContext, batchDuration: float | None = None, jssc: None = None
    ) -> None:
        assert batchDuration is not None or jssc is not None, "give the batch duration in seconds"
        if batchDuration is None or int(batchDuration * 1000) <= 0:
            raise IllegalArgumentException(f"the batch duration is {batchDuration!r}: give seconds above 0")
        if jssc is not None:
            raise PySparkRuntimeError("there is no Java StreamingContext here: jssc must be None")
        self._sc = sparkContext
        conf = sparkContext.getConf()
        interval_s = int(batchDuration * 1000) / 1000
        self._interval_ms = int(batchDuration * 1000)
        self._engine_context = EngineStreamingContext(
            interval_s,
            engine=sparkContext._engine,
            scheduler=scheduler_of(conf, interval_s),
            backpressure=backpressure_of(conf),
            stop_when_finished=False,
        )
        self._termination = Termination()
        self._generation = Generation(self._make_all, self._termination.report)
        self._output_thread = DaemonThread("streaming-outputs")
        self._generator_thread = DaemonThread("streaming-generator")
        self._listener_thread = DaemonThread("streaming-listeners")
        self._checkpointed: list[tuple[str, int, int | None]] = []
        self._checkpoints = Checkpoints(conf.get("spark.streaming.checkpoint.directory"))
        self._outputs: list[OutputNode] = []
        self._queues = 0
        self._stopping: threading.Thread | None = None

    def __reduce__(self) -> NoReturn:
        raise PySparkRuntimeError(
            "It appears that you are attempting to reference a StreamingContext from a function that runs "
            "in a worker: it lives in the driver"
        )

    # -- getting one ---------------------------------------------------------------------------

    @classmethod
    def getOrCreate(cls, checkpointPath: str, setupFunc: Callable[[], StreamingContext]) -> StreamingContext:
        """The context that ``setupFunc()`` makes, going on from ``checkpointPath`` if that holds anything.

        Differs: the directory holds data, not the program, so that ``setupFunc`` is called in any case;
        it gets the active SparkContext if it asks with ``SparkContext.getOrCreate``.
        """
        found = Checkpoints.newest(checkpointPath)
        ssc = setupFunc()
        ssc.checkpoint(checkpointPath)
        ssc._checkpoints.resume(found)
        return ssc

    @classmethod
    def getActive(cls) -> StreamingContext | None:
        """The context that is started and not stopped, None without one; as PySpark."""
        active = StreamingContext._activeContext
        if active is not None and active._engine_context.state is not ContextState.ACTIVE:
            StreamingContext._activeContext = active = None
        return active

    @classmethod
    def getActiveOrCreate(
        cls, checkpointPath: str | None, setupFunc: Callable[[], StreamingContext]
    ) -> StreamingContext:
        """The active context; else :meth:`getOrCreate`, or ``setupFunc()`` without a path; as PySpark."""
        if not callable(setupFunc):
            raise TypeError("setupFunc should be callable.")
        active = cls.getActive()
        if active is not None:
            return active
        return setupFunc() if checkpointPath is None else cls.getOrCreate(checkpointPath, setupFunc)

    @property
    def sparkContext(self) -> SparkContext:
        """The SparkContext that the stream runs on; as PySpark."""
        return self._sc

    # -- building ------------------------------------------------------------------------------

    @property
    def _is_open(self) -> bool:
        return self._engine_context.state is ContextState.INITIALIZED

    def _check_open(self) -> None:
        if not self._is_open:
            when = "starting" if self._engine_context.state is ContextState.ACTIVE else "stopping"
            raise SparkRuntimeException(
                "Adding new inputs, transformations, and output operations "
                f"after {when} a context is not supported"
            )

    def _stream(self, node: StreamNode) -> DStream[Any]:
        self._check_open()
        return self._wrapped(self._engine_context._stream(node))

    def _wrapped(self, stream: EngineStream[Any]) -> DStream[Any]:
        return DStream(stream, self)

    def _step_name(self, name: str) -> str:
        return self._engine_context._step_name(name)

    def _user_build(self, call: Callable[..., Any]) -> Callable[[Sequence[Any], Any], Awaitable[Any]]:
        """``call(time, rdd, …)`` of the user as the build of a stream: in its thread, once a batch."""
        wrap, empty = self._sc._rdd, self._sc._engine.empty_rdd

        def run(time_ms: int, rdds: Sequence[Any]) -> Any:
            result = call(datetime_of(time_ms), *(wrap(empty() if rdd is None else rdd) for rdd in rdds))
            if result is None:
                return None
            if not hasattr(result, "_core"):
                raise TypeError(f"transform must return an RDD or None, not {type(result).__name__}")
            return result._core

        async def build(rdds: Sequence[Any], time: Any) -> Any:
            time_ms = int(time)
            self._generation.check(time_ms)
            try:
                return await _in_thread(self._generator_thread, lambda: run(time_ms, rdds))
            except Exception as error:
                raise self._generation.fail(time_ms, error) from error

        return build

    def _must_checkpoint(self, name: str, slide_ms: int, interval_ms: int | None = None) -> None:
        self._checkpointed.append((name, slide_ms, interval_ms))

    def _add_output(
        self, stream: EngineStream[Any], name: str, run: Callable[[Any, Batch], Awaitable[None]]
    ) -> None:
        self._check_open()
        context = self._engine_context

        async def reported(rdd: Any, batch: Batch) -> None:
            try:
                await run(rdd, batch)
            except NotGeneratedError:
                raise  # reported by who found it
            except Exception as error:
                self._termination.report(error)
                raise

        # Decided at start: a stream that goes on after a restart must not lose a batch.
        stream._output(name, reported, None, OnError.SKIP)
        self._outputs.append(context._outputs[-1])

    async def _make_all(self, batch: Batch) -> None:
        translator = self._engine_context._translator
        assert translator is not None
        for output in self._outputs:
            if translator.is_due(output.parent, batch):
                await translator.rdd(output.parent, batch)

    async def _call_output(self, call: Callable[[], Any]) -> Any:
        return await _in_thread(self._output_thread, call)

    def union(self, *dstreams: DStream[T]) -> DStream[T]:
        """The partitions of all streams, in the listed order; as PySpark."""
        if not dstreams:
            raise ValueError("should have at least one DStream to union")
        if len(dstreams) == 1:
            return dstreams[0]
        if len({stream._slide_ms for stream in dstreams}) > 1:
            raise ValueError("All DStreams should have same slide duration")
        engine = self._sc._engine

        def build(rdds: Sequence[Any], time: Any) -> Any:
            self._all_there(rdds, int(time), "Could not generate RDD from a parent for unifying at time")
            return engine.union(rdds)

        return self._over(dstreams, "union", build)

    def transform(
        self, dstreams: Sequence[DStream[Any]], transformFunc: Callable[..., RDD[T] | None]
    ) -> DStream[T]:
        """``transformFunc(RDDs)`` of each batch, a tuple in the order of the streams; as PySpark."""
        if not dstreams:
            raise IllegalArgumentException("transform needs at least one DStream")
        called = self._user_build(lambda _, *rdds: transformFunc(rdds))

        async def build(rdds: Sequence[Any], time: Any) -> Any:
            self._all_there(rdds, int(time), "Couldn't generate RDD from parent at time")
            return await called(rdds, time)

        return self._over(dstreams, "transform", build)

    def _all_there(self, rdds: Sequence[Any], time_ms: int, text: str) -> None:
        if any(rdd is None for rdd in rdds):
            error = SparkRuntimeException(f"{text} {time_ms} ms")
            raise self._generation.fail(time_ms, error) from error

    def _over(
        self, dstreams: Sequence[DStream[Any]], name: str, build: Callable[[Sequence[Any], Any], Any]
    ) -> DStream[Any]:
        first, *others = dstreams
        return first._made(name, build, [first._partner(other) for other in others], takes_missing=True)

    def remember(self, duration: float) -> None:
        """Keep every stream's RDDs for so many seconds at least, for :meth:`DStream.slice`; as PySpark."""
        with as_spark_errors():
            self._engine_context.remember(int(duration * 1000) / 1000)

    def checkpoint(self, directory: str | None) -> None:
        """Keep state, windows and pending batches in ``directory``; None for none; as PySpark.

        Differs: the directory holds the data of :meth:`getOrCreate` in the engine's format. Without
        ``getOrCreate`` every start begins anew, beside the data of the last one.
        """
        self._checkpoints.directory = directory
        if directory is not None:
            self._sc.setCheckpointDir(directory)

    # -- looking back --------------------------------------------------------------------------

    @property
    def _zero_ms(self) -> int:
        translator = self._engine_context._translator
        return 0 if translator is None else translator.zero_ms

    def _remembered(self, stream: EngineStream[Any], begin: int, end: int) -> list[Any]:
        return self._sc._on_loop(lambda: self._engine_context._slice(stream.node, begin, end))

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Check the graph and begin to cut batches; as PySpark.

        Raises IllegalArgumentException without an output, or when something needs a checkpoint
        directory; SparkRuntimeException when it was stopped or another context runs. A second call of an
        active one does nothing but warn.
        """
        with StreamingContext._activation:
            state = self._engine_context.state
            if state is ContextState.ACTIVE:
                _log.warning("StreamingContext has already been started")
                return
            if state is ContextState.STOPPED:
                raise SparkRuntimeException("StreamingContext has already been stopped")
            self._validate()
            if StreamingContext.getActive() is not None:
                raise SparkRuntimeException(
                    "Only one StreamingContext may be started in this JVM, which is this process: "
                    "stop the one that runs first"
                )
            self._prepare()
            self._sc._run(self._engine_context.start())
            StreamingContext._activeContext = self
        self._checkpoints.started()

    def _validate(self) -> None:
        if not self._outputs:
            raise IllegalArgumentException(
                "requirement failed: No output operations registered, so nothing to execute"
            )
        for name, slide_ms, interval_ms in self._checkpointed:
            if self._checkpoints.directory is None and self._sc.getCheckpointDir() is None:
                raise IllegalArgumentException(
                    "requirement failed: The checkpoint directory has not been set. "
                    f"Please set it by StreamingContext.checkpoint(). It is needed by {name}"
                )
            if interval_ms is not None:
                _check_interval(name, slide_ms, interval_ms)

    def _prepare(self) -> None:
        context = self._engine_context
        if self._checkpoints.resumed:
            for number, policy in context._policies.items():
                context._policies[number] = type(policy)(policy.retry, OnError.FAIL)
        if self._queues and self._checkpoints.directory is not None:
            # Spark writes a checkpoint that it refuses to read (row SRC-17).
            _log.warning("queueStream doesn't support checkpointing: a restart begins anew")
        else:
            context._checkpoint = self._checkpoints.config()
        context._on_stop(self._ended)
        self._sc._before_stop.append(self._stop_with_context)

    def _has_outputs(self, batch: BatchInfo) -> bool:
        """False in a batch in which only windows of longer slides wait: it has no events (row LIS-16)."""
        previous = batch.batch_time - self._interval_ms * (1 + batch.ticks_coalesced)
        return any(
            is_due_within(previous, batch.batch_time, self._zero_ms, output.parent.slide_ms)
            for output in self._outputs
        )

    def _ended(self, failure: BaseException | None) -> None:
        """The stream has stopped, by itself or because it was asked to; called on the loop."""
        if failure is not None and self._termination.error is None:
            known = isinstance(failure, AiostreamError)
            self._termination.report(spark_error(failure) if known else failure)  # type: ignore[arg-type]
        self._termination.stop()
        for thread in (self._output_thread, self._generator_thread):
            thread.close()

    def awaitTermination(self, timeout: float | None = None) -> None:
        """Wait until the stream has stopped, or ``timeout`` seconds; raises the first error; as PySpark.

        What a function of the user raised is raised itself, with its traceback: an exception of a
        callback as it was, one of a worker as ``PythonException`` with the worker's traceback.
        """
        self._termination.wait(timeout)

    def awaitTerminationOrTimeout(self, timeout: float) -> bool:
        """:meth:`awaitTermination`: True when it stopped, False when the time passed first; as PySpark."""
        return self._termination.wait(timeout)

    def stop(self, stopSparkContext: bool = True, stopGraceFully: bool = False) -> None:
        """Stop the stream, gracefully or at once, and the SparkContext unless told otherwise; as PySpark.

        Differs: it may be called from foreachRDD, transform and listeners; there it returns at once and
        the stop goes on behind.
        """
        if inside_batch.get():
            self._stopping = threading.Thread(
                target=self._stop, args=(stopSparkContext, stopGraceFully), name="streaming-stop", daemon=True
            )
            self._stopping.start()
            return
        self._stop(stopSparkContext, stopGraceFully)

    def _stop(self, stop_spark_context: bool, gracefully: bool) -> None:
        if self._sc._is_running:
            with as_spark_errors():
                self._sc._loop.call(self._engine_context.stop(gracefully))
        self._forget()
        if stop_spark_context:
            self._sc.stop()

    def _stop_with_context(self) -> None:
        """The SparkContext is being stopped, or the program ends."""
        if self._engine_context.state is ContextState.ACTIVE:
            graceful = is_true(self._sc._conf, "spark.streaming.stopGracefullyOnShutdown")
            self._sc._loop.call(self._engine_context.stop(graceful))
        self._forget()

    def _forget(self) -> None:
        self._termination.stop()
        self._listener_thread.close()  # the last event has been delivered
        with StreamingContext._activation:
            if StreamingContext._activeContext is self:
                StreamingContext._activeContext = None
        if self._stop_with_context in self._sc._before_stop:
            self._sc._before_stop.remove(self._stop_with_context)

    # -- watching ------------------------------------------------------------------------------

    def addStreamingListener(self, streamingListener: StreamingListener) -> None:
        """Tell ``streamingListener`` of batches, outputs and receivers; as PySpark."""

        async def tell(event: Event) -> None:
            batch: BatchInfo | None = getattr(event, "batch", None)
            if batch is not None and not self._has_outputs(batch):
                return
            await _in_thread(self._listener_thread, lambda: call_listener(streamingListener, event))

        self._sc._on_loop(lambda: self._engine_context.add_listener(tell))


async def _in_thread(thread: DaemonThread, call: Callable[[], T]) -> T:
    """``call`` in a thread, with the context variables of here; an exit of it is an error like others."""
    context = contextvars.copy_context()
    result, failure = await thread.submit(functools.partial(context.run, _caught, call))
    if failure is None:
        return result  # type: ignore[no-any-return]
    if isinstance(failure, Exception) and not isinstance(failure, StopIteration):
        raise failure
    raise PySparkRuntimeError(f"{type(failure).__name__}: {failure}") from failure


def _caught(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return call(), None
    except BaseException as error:
        return None, error


def _check_interval(name: str, slide_ms: int, interval_ms: int) -> None:
    so_far = f"requirement failed: The checkpoint interval for {name} has been set to {interval_ms} ms"
    if interval_ms < slide_ms:
        raise IllegalArgumentException(
            f"{so_far} which is lower than its slide time ({slide_ms} ms). Please set it to at least "
            f"{slide_ms} ms."
        )
    if interval_ms % slide_ms:
        raise IllegalArgumentException(
            f"{so_far} which not a multiple of its slide time ({slide_ms} ms). Please set it to a multiple "
            f"of {slide_ms} ms."
        )
