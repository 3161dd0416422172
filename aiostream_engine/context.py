"""StreamingContext: builds the stream graph, and its life from start to stop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Self

from .clock import Clock, SystemClock
from .config import (
    BackpressureConfig,
    CheckpointConfig,
    CircuitBreakerConfig,
    PoolConfig,
    QueueLimits,
    RetryPolicy,
    SchedulerConfig,
    StateConfig,
)
from .context_sources import SourceMethods
from .dstream import DStream
from .durable.files import Files
from .engine import EngineContext, batch_of_task, pack
from .errors import GraphError, LifecycleError, OptionError, UnpicklableError
from .observe.bus import EventBus
from .observe.events import Event, InputInfo, StreamingStarted, StreamingStopped
from .observe.health import Health, health_of
from .observe.redaction import redact
from .observe.statistics import StatisticsSnapshot, StreamStatistics
from .operators.function import Fn
from .plan.explain import stream_graph
from .plan.graph import InputStream, OutputNode, SideStream, StreamNode, walk_streams
from .planner.explain import explain
from .rdd import RDD
from .runtime.breaker import CircuitBreaker
from .runtime.checkpointing import CheckpointSession
from .runtime.commit import CommitProtocol
from .runtime.driver import OutputPolicy, StreamDriver, inside_batch
from .runtime.dry_run import dry_lineages
from .runtime.guarantees import guarantees_of
from .runtime.inputs import Inputs
from .runtime.sink_driver import SinkDriver
from .runtime.ticker import DataTrigger, Ticker
from .runtime.translator import Translator, has_state
from .sources.base import Source
from .types import BatchTime, ContextState, OnError
from .windows.intervals import milliseconds

__all__ = ["StreamingContext"]

_log = logging.getLogger("aiostream_engine")


class StreamingContext(SourceMethods):
    """A stream program: sources, streams and outputs, and the batches that run through them.

    Parameters
    ----------
    interval: seconds from batch to batch; ticks fall on epoch multiples of it (row CTX-22).
    master: ``local`` (in this process), ``local[k]`` or ``local[*]`` (worker processes).
    engine: an :class:`EngineContext` to run on, which the caller starts and closes; by default the
        stream has its own, made from ``master``, ``pool`` and ``state``.
    state: whether keyed state lies in memory or, with a cache, on disk.
    scheduler: trigger, batches in flight, missed ticks.
    queue: bounds of each source's queue. backpressure: rate control of receivers.
    circuit_breaker: which share of its records a step may give up before the stream stops.
    checkpoint: a directory, or its configuration: then the stream survives the loss of its driver.
    stop_when_finished: end by itself when every source has ended and all is processed.
    clock: time; tests hand in a manual one.

    It is an async context manager: leaving the block stops the stream at once; for a clean end call
    ``await ssc.stop()`` before, or let :meth:`run` do it. Contexts are independent of each other, and
    a stopped one cannot be started again: build a new one.
    """

    def __init__(
        self,
        interval: float = 1.0,
        master: str = "local[*]",
        *,
        engine: EngineContext | None = None,
        scheduler: SchedulerConfig | None = None,
        queue: QueueLimits | None = None,
        backpressure: BackpressureConfig | None = None,
        pool: PoolConfig | None = None,
        circuit_breaker: CircuitBreakerConfig | None = None,
        checkpoint: CheckpointConfig | str | None = None,
        state: StateConfig | None = None,
        parallelism: int | None = None,
        stop_when_finished: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self.interval_ms = milliseconds("interval", interval)
        self.scheduler = scheduler or SchedulerConfig()
        self.clock: Clock = clock or (engine.clock if engine else SystemClock())
        self._owns_engine = engine is None
        if engine is not None and state is not None:
            raise OptionError("state= belongs to the engine: give it to the EngineContext")
        self.engine = engine or EngineContext(
            master, pool=pool, state=state, parallelism=parallelism, clock=self.clock, on_event=self._emit
        )
        self._number = self.engine.new_stream()
        self._queue = queue or QueueLimits()
        self._circuit_breaker = circuit_breaker or CircuitBreakerConfig()
        self._backpressure = backpressure or BackpressureConfig()
        self._stop_when_finished = stop_when_finished
        self._checkpoint = CheckpointConfig(checkpoint) if isinstance(checkpoint, str) else checkpoint
        self._checkpoint_files: Files | None = None  # for tests: see testing.fault_files
        self._session: CheckpointSession | None = None
        self._state = ContextState.INITIALIZED
        self._remember_ms = 0
        self._inputs: list[InputStream] = []
        self._outputs: list[OutputNode] = []
        self._policies: dict[int, OutputPolicy] = {}
        self._cached: set[int] = set()
        self._functions: list[Fn] = []
        self._letters: dict[int, StreamNode] = {}
        self._names: dict[str, int] = {}
        self._stop_callbacks: list[Callable[[BaseException | None], None]] = []
        self._wait_callbacks: list[Callable[[asyncio.Task[Any] | None], None]] = []
        self._statistics = StreamStatistics()
        self._bus = EventBus(direct=[self._statistics.observe])
        self._running_inputs: Inputs | None = None
        self._translator: Translator | None = None
        self._driver: StreamDriver | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = asyncio.Event()  # set when start() is over, however it went
        self._stopping: asyncio.Task[bool] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self._failure: BaseException | None = None

    @classmethod
    def get_or_create(
        cls, checkpoint: CheckpointConfig | str, build: Callable[[], StreamingContext]
    ) -> StreamingContext:
        """The context that ``build()`` makes, going on from ``checkpoint`` if that holds anything.

        Spark's ``getOrCreate`` (row CTX-21) revives the program from the directory and skips the function.
        Here the directory holds data only, so the function always runs, and the program may change.
        Raises OptionError when the context has another directory already, or is no context.
        """
        config = CheckpointConfig(checkpoint) if isinstance(checkpoint, str) else checkpoint
        ssc = build()
        if not isinstance(ssc, StreamingContext):
            raise OptionError(f"build() must return a StreamingContext, not {type(ssc).__name__}")
        if ssc._checkpoint not in (None, config):
            raise OptionError(
                f"build() gave its context another checkpoint directory than {config.directory}"
            )
        ssc._check_open()
        ssc._checkpoint = config
        return ssc

    def __reduce__(self) -> NoReturn:
        raise UnpicklableError(
            "a StreamingContext lives in the driver: a function that runs in a worker cannot use it"
        )

    # -- building (used by DStream) ------------------------------------------------------------

    def _check_open(self) -> None:
        if self._state is not ContextState.INITIALIZED:
            raise GraphError(
                f"the stream is {self._state.value}: inputs, steps and outputs must be added before start()"
            )

    def _stream(self, node: StreamNode) -> DStream[Any]:
        self._check_open()
        return DStream(self, node)

    def from_source(
        self, source: Source, *, name: str | None = None, on_error: OnError | str = OnError.FAIL
    ) -> DStream[Any]:
        """A stream of a source object, your own or one of :mod:`aiostream_engine.sources`.

        on_error: what happens to a record that the source's decoding, reader or converter refuses.
        """
        if not isinstance(source, Source):
            raise OptionError(f"from_source needs a Source, not {type(source).__name__}")
        if any(node.source is source for node in self._inputs):
            raise GraphError(f"source {source.name!r} is used already: make one source for each input")
        self._check_open()
        number = len(self._inputs)
        node = InputStream(
            name=self._step_name(name or source.name),
            slide_ms=self.interval_ms,
            source=source,
            stream_id=number,
        )
        self._inputs.append(node)
        return self._readable(DStream(self, node), source, on_error)

    def _step_name(self, name: str) -> str:
        """``name``, made unique in the graph by a number."""
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"

    def _state_id(self, step: str) -> str:
        # Streams that share an engine share its workers, where states are known by their ids.
        owner = f" (stream {self._number})" if self._number > 1 else ""
        return self._step_name(f"state of {step}{owner}")

    def _check_later(self, functions: Sequence[Fn]) -> None:
        self._functions.extend(functions)

    def _expect_dead_letters(self, node: StreamNode) -> None:
        self._letters[node.id] = node

    def _has_dead_letters(self, node: StreamNode) -> bool:
        return node.id in self._letters

    def _persist(self, node: StreamNode) -> None:
        self._check_open()
        self._cached.add(node.id)

    def _on_stop(self, callback: Callable[[BaseException | None], None]) -> None:
        """Call back when the stream has stopped, with its failure."""
        self._stop_callbacks.append(callback)

    def _on_wait(self, callback: Callable[[asyncio.Task[Any] | None], None]) -> None:
        """Call back with each task that waits for the end of the stream."""
        self._wait_callbacks.append(callback)

    def _tell_of_waiting(self) -> None:
        for callback in self._wait_callbacks:
            callback(asyncio.current_task())

    def _add_output(
        self,
        parent: StreamNode,
        name: str,
        run: Callable[[RDD[Any], Any], Any],
        retry: RetryPolicy | None,
        on_error: OnError,
        sink: SinkDriver | None,
    ) -> None:
        self._check_open()
        number = len(self._outputs)
        self._outputs.append(
            OutputNode(id=number, name=self._step_name(name), parent=parent, run=run, sink=sink)
        )
        self._policies[number] = OutputPolicy(retry, on_error)

    def union(self, *streams: DStream[Any]) -> DStream[Any]:
        """The partitions of all streams, in the listed order (row TR-6)."""
        if not streams:
            raise OptionError("union needs at least one stream")
        return streams[0].union(*streams[1:]) if len(streams) > 1 else streams[0]

    def transform(
        self, streams: Sequence[DStream[Any]], f: Callable[..., Any], *, name: str | None = None
    ) -> DStream[Any]:
        """``f(RDDs)`` or ``f(RDDs, time)`` of a list of streams: any RDD operations (row TR-12)."""
        from .dstream_outputs import call_with_time

        if not streams:
            raise OptionError("transform needs at least one stream")
        call = call_with_time(f, "transform")
        return streams[0]._transform(
            lambda rdds, time: call(list(rdds), time), name or "transform", others=streams[1:], opaque=True
        )

    def remember(self, duration_s: float) -> None:
        """Keep every stream's RDDs for so many seconds at least, for :meth:`DStream.slice` (row CTX-18)."""
        self._check_open()
        if self._remember_ms:
            raise LifecycleError(f"remember() was set already, to {self._remember_ms / 1000:g} s")
        self._remember_ms = milliseconds("duration_s", duration_s)

    def _slice(self, node: StreamNode, begin: int, end: int) -> list[tuple[BatchTime, RDD[Any]]]:
        if self._translator is None:
            raise LifecycleError("slice() needs a stream that was started")
        return self._translator.remembered(node, begin, end)

    # -- life ----------------------------------------------------------------------------------

    @property
    def state(self) -> ContextState:
        """INITIALIZED, ACTIVE or STOPPED; there is no way back."""
        return self._state

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise LifecycleError("this stream belongs to another event loop: use it where it was started")

    async def __aenter__(self) -> Self:
        self._check_loop()
        if self._owns_engine:
            await self.engine.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop(graceful=False)

    async def start(self) -> None:
        """Freeze the graph, check it, start workers, sinks and sources, and begin to cut batches.

        Raises GraphError without an output, UnpicklableError naming step and variable before any source
        is opened, LifecycleError after stop. When it fails, everything is closed and the context is
        stopped. Starting an active context does nothing but warn (row CTX-5).
        """
        self._check_loop()
        if self._state is ContextState.ACTIVE:
            _log.warning("start() of a stream that is active: nothing to do")
            return
        if self._state is ContextState.STOPPED:
            raise LifecycleError(
                "this stream is stopped and cannot be started again: build a new StreamingContext"
            )
        self._validate()
        self._state = ContextState.ACTIVE
        try:
            if self._owns_engine:
                await self.engine.start()
            await self._start_running()
        except BaseException:
            self._started.set()
            await self.stop(graceful=False)
            raise
        self._started.set()

    def _validate(self) -> None:
        if not self._outputs:
            raise GraphError(
                "no output operation: add pprint(), foreach_rdd(), to(sink) or another before start()"
            )
        if not self._inputs:
            raise GraphError("no input: add a source before start()")
        nodes = list(walk_streams([output.parent for output in self._outputs]))
        consumed = {node.parents[0].id for node in nodes if isinstance(node, SideStream)}
        for node in nodes:
            if node.id in self._letters and node.id not in consumed:
                raise GraphError(
                    f"step {node.name!r} has on_error='dead-letter' but nothing reads them: "
                    "use the stream's dead_letters(), or on_error='skip' to drop such records knowingly"
                )
        for fn in self._functions:
            _ = fn.id  # pickles: a bad one is refused here, before any source is opened

    async def _start_running(self) -> None:
        nodes = list(walk_streams([*self._inputs, *(output.parent for output in self._outputs)]))
        placed = {node.state_id: node.state for node in nodes if has_state(node) and node.state is not None}
        await self.engine._place_states(placed)
        if self._checkpoint is not None:  # before the sinks, which only the owner of the directory may touch
            self._session = await CheckpointSession.open(self._checkpoint, self._checkpoint_files)
            self._session.check(nodes, self._outputs)
        for output in self._outputs:
            if output.sink is not None:
                await output.sink.open()
        if self._session is not None:
            await self._session.resolve(self._outputs)
        trigger = self._trigger(self._session)
        self._running_inputs = inputs = self._make_inputs(trigger)
        self._driver = driver = self._make_driver(trigger, inputs)
        self._start_bus()
        if self._session is not None:
            await self._session.restore(nodes, self.engine, driver, trigger.zero_ms, self.interval_ms)
        await inputs.start()
        lines = guarantees_of(self._inputs, self._outputs, durable=self._session is not None)
        for line in lines:
            _log.info("%s", line)
        self._emit(StreamingStarted(int(self.clock.time() * 1000), tuple(lines)))
        driver.start()
        self._watcher = asyncio.get_running_loop().create_task(self._watch(driver), name="aiostream-watch")

    def _start_bus(self) -> None:
        """Deliver events as a part of the stream: a listener that calls stop() must not wait for its end."""
        context = contextvars.copy_context()
        context.run(inside_batch.set, True)
        context.run(self._bus.start)

    def _make_inputs(self, trigger: Ticker | DataTrigger) -> Inputs:
        return Inputs(
            self._inputs,
            self.engine.directory,
            self.clock,
            self._queue,
            self._backpressure,
            self.engine.default_parallelism,
            self.interval_ms / 1000,
            trigger.notify if isinstance(trigger, DataTrigger) else lambda: None,
            self._emit,
        )

    def _make_driver(self, trigger: Ticker | DataTrigger, inputs: Inputs) -> StreamDriver:
        self._translator = translator = Translator(
            self.engine,
            self._outputs,
            self._inputs,
            self.interval_ms,
            self._remember_ms,
            self._cached,
            pack,
            lambda batch: driver.previous_done(batch),
        )
        protocol = CommitProtocol(
            inputs,
            self._outputs,
            translator,
            self.engine.runner.states,
            self._session.writer if self._session else None,
            trigger.zero_ms,
            self.interval_ms,
        )
        driver = StreamDriver(
            inputs,
            self._outputs,
            self._policies,
            translator,
            protocol,
            trigger,
            self.scheduler,
            self.interval_ms,
            self.clock,
            batch_of_task.set,
            self._emit,
            contextvars.copy_context(),
            self._stop_when_finished,
            CircuitBreaker(self._circuit_breaker),
        )
        return driver

    def _trigger(self, session: CheckpointSession | None) -> Ticker | DataTrigger:
        zero_ms = session.recovered.zero_ms if session else None
        after_ms = session.last_time if session else None
        if after_ms is None:  # begun, and ended before its first batch was
            after_ms = zero_ms
        if self.scheduler.trigger == "data":
            return DataTrigger(
                self.clock,
                self.interval_ms,
                gap_min_s=self.scheduler.gap_min_s,
                zero_ms=zero_ms,
                after_ms=after_ms,
            )
        ticker = Ticker(
            self.clock,
            self.interval_ms,
            zero_ms=zero_ms,
            after_ms=after_ms,
            fire_missed=self.scheduler.missed_ticks == "every",
        )
        if ticker.missed_before:
            _log.info(
                "each of the %d ticks missed since batch %s gets a batch", ticker.missed_before, after_ms
            )
        return ticker

    async def _watch(self, driver: StreamDriver) -> None:
        """Stop when the stream ended by itself, by a failure or because all sources are finished."""
        await driver.ended.wait()
        if self._stopping is None:
            self._failure = driver.failure
            self._begin_stop(graceful=driver.failure is None, timeout_s=self.scheduler.stop_timeout_s)

    async def stop(self, graceful: bool = True, timeout_s: float | None = None) -> bool:
        """Stop the stream; True when everything taken was processed and committed.

        graceful: stop the sources, process what they gave, then end; within ``timeout_s`` seconds
        in all (``scheduler.stop_timeout_s`` by default), after which it ends at once and gives False.
        May be called in any state, again, and from inside of a batch or a listener, where it returns
        False at once and the stop goes on behind. Cancelling the call does not cancel the stop.
        """
        self._check_loop()
        if timeout_s is not None and not timeout_s >= 0:
            raise OptionError(f"timeout_s is {timeout_s!r}: it must be at least 0")
        if self._stopping is None:
            self._begin_stop(graceful, self.scheduler.stop_timeout_s if timeout_s is None else timeout_s)
        elif not graceful and self._driver is not None and not self._stopping.done():
            self._hurry.set()
        assert self._stopping is not None
        if inside_batch.get():
            return False
        self._tell_of_waiting()
        return await asyncio.shield(self._stopping)

    def _begin_stop(self, graceful: bool, timeout_s: float) -> None:
        self._hurry = asyncio.Event()
        self._stopping = asyncio.get_running_loop().create_task(
            self._stop(graceful, timeout_s), name="aiostream-stop", context=contextvars.Context()
        )

    async def _stop(self, graceful: bool, timeout_s: float) -> bool:
        drained = False
        try:
            if self._state is ContextState.ACTIVE:
                await self._started.wait()
            if self._driver is not None:
                drained = graceful and await self._drain(self._driver, timeout_s)
                await self._driver.aclose()
                self._failure = self._failure or self._driver.failure
            elif self._running_inputs is not None:
                await self._running_inputs.aclose()
            for output in self._outputs:
                if output.sink is not None:
                    await _quietly(output.sink.aclose(), f"sink {output.name}")
            if self._session is not None:
                await _quietly(self._session.aclose(), "the checkpoint directory")
        finally:
            await self._end()
        return drained and self._failure is None

    async def _drain(self, driver: StreamDriver, timeout_s: float) -> bool:
        drain = asyncio.ensure_future(driver.drain())
        hurry = asyncio.ensure_future(self._hurry.wait())
        done, _ = await asyncio.wait({drain, hurry}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if drain in done:
            error = None if drain.cancelled() else drain.exception()
            if isinstance(error, Exception):
                self._failure = self._failure or driver.failure or error
            return error is None and not drain.cancelled()
        drain.cancel()
        await asyncio.wait({drain})
        _log.warning(
            "stop was not complete after %g s: %d batches in flight are given up",
            timeout_s,
            driver.batches_in_flight(),
        )
        return False

    async def _end(self) -> None:
        was_active, self._state = self._state is ContextState.ACTIVE, ContextState.STOPPED
        for callback in self._stop_callbacks:
            callback(self._failure)
        if was_active:
            failure = None if self._failure is None else redact(str(self._failure))
            self._emit(StreamingStopped(int(self.clock.time() * 1000), failure))
        try:
            if self._owns_engine:
                await self.engine.aclose()
        finally:
            await self._bus.aclose()
            if self._watcher is not None and self._watcher is not asyncio.current_task():
                self._watcher.cancel()
            self._stopped.set()

    async def await_termination(self, timeout_s: float | None = None) -> bool:
        """Wait until the stream has stopped: True then, False when ``timeout_s`` seconds passed first.

        Raises what made the stream fail, at every call (row CTX-15), and LifecycleError before start.
        """
        self._check_loop()
        self._check_started("await_termination")
        if timeout_s is None:
            self._tell_of_waiting()
        try:
            async with asyncio.timeout(timeout_s):
                await self._stopped.wait()
        except TimeoutError:
            return False
        if self._failure is not None:
            raise self._failure
        return True

    async def run(self, duration_s: float | None = None) -> None:
        """Start, wait for the end or for ``duration_s`` seconds, and stop gracefully."""
        await self.start()
        if not await self.await_termination(duration_s):
            await self.stop()
            await self.await_termination()

    def _check_started(self, what: str) -> None:
        if self._state is ContextState.INITIALIZED and self._stopping is None:
            raise LifecycleError(f"{what}: the stream was not started: await start() first")

    # -- watching ------------------------------------------------------------------------------

    def _emit(self, event: Event) -> None:
        self._bus.emit(event)

    def add_listener(self, listener: Any) -> None:
        """Deliver events to a StreamingListener, or to a function of one event; at any time."""
        self._bus.add(listener)

    def remove_listener(self, listener: Any) -> bool:
        """Deliver nothing more; False when it was not there."""
        return self._bus.remove(listener)

    def statistics(self) -> StatisticsSnapshot:
        """Rates, delays, totals and queue fills of this moment."""
        return self._statistics.snapshot(self._running_inputs.infos() if self._running_inputs else ())

    def health(self) -> Health:
        """Whether the stream lives, takes data and keeps up: for liveness and readiness probes."""
        return health_of(
            self._state,
            running=self._watcher is not None and self._driver is not None and not self._driver.recovering,
            stopping=self._stopping is not None,
            failure=self._failure,
            statistics=self.statistics(),
            interval_s=self.interval_ms / 1000,
            problem=self._session.writer.problem if self._session is not None else None,
        )

    def batch_inputs(self) -> tuple[InputInfo, ...]:
        """What each input gave to the batch that the calling code belongs to, with its metadata.

        For functions of ``transform``, ``foreach_rdd`` and other outputs, at any point of the graph: the
        offset ranges of a Kafka stream, the names of files (row KAF-5). Listeners find the same in their
        events. Raises LifecycleError outside of a batch.
        """
        time = self.engine.current_batch
        inputs = None if time is None or self._driver is None else self._driver.inputs_of(time)
        if inputs is None:
            raise LifecycleError("batch_inputs() is for code that runs as a part of a batch")
        return inputs

    def explain(self, stage: str | None = None) -> str:
        """The stream graph as text, with the promise of each source -> output pair. Runs nothing.

        stage: the plan of each output's batch instead, after a named stage of planning: ``logical``,
        ``physical``, ``optimised`` or ``code``. What a ``transform`` does is not looked into.
        """
        if stage is not None:
            plans = dry_lineages(self.engine, self._outputs)
            return "\n\n".join(
                f"output {name}\n{explain(node, self.engine.programs, stage)}" for name, node in plans
            )
        graph = stream_graph(self._outputs, self._inputs)
        durable = self._checkpoint is not None
        return "\n".join([graph, *guarantees_of(self._inputs, self._outputs, durable=durable)])


async def _quietly(coroutine: Any, what: str) -> None:
    try:
        await coroutine
    except Exception as error:
        _log.warning("%s did not close well: %r", what, error)
