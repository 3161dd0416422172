"""Output operations of a DStream: without one nothing runs (row OUT-1)."""

from __future__ import annotations

import asyncio
import inspect
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TextIO

from .config import RetryPolicy
from .errors import OptionError
from .operators.function import describe_callable, is_coroutine_function
from .operators.structure import error_policy
from .plan.graph import StreamNode
from .rdd_actions import as_fn
from .runtime.machine import Batch
from .runtime.sink_driver import SinkDriver
from .sinks.base import Encoding, Sink
from .sinks.dead_letters import dead_letter_entry
from .sinks.stdout import printable
from .types import BatchTime, OnError

if TYPE_CHECKING:
    from .context import StreamingContext
    from .dstream import DStream
    from .rdd import RDD

__all__ = ["BatchIterator", "Outputs", "StreamBatch", "call_with_time"]


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """One batch as an async iterator gives it; its RDD can be used until the next one is asked for."""

    time: BatchTime
    rdd: RDD[Any]

    async def collect(self) -> list[Any]:
        """All records of the batch."""
        return await self.rdd.collect()


def call_with_time(function: Callable[..., Any], option: str, rdds: int = 1) -> Callable[..., Any]:
    """``function(rdd)`` or ``function(rdd, time)``, told apart by its signature, as ``(rdd, time)``.

    rdds: how many RDDs lead the arguments.
    """
    if not callable(function):
        raise OptionError(f"{option} needs a function, not {type(function).__name__}")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some built-ins have no signature
        return lambda *arguments: function(*arguments[:rdds])
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if len(required) > rdds + 1 or not (len(positional) >= rdds or several):
        names = ", ".join(["rdd"] if rdds == 1 else ["rdd", "other_rdd"])
        raise OptionError(f"{option}: {describe_callable(function)} must take ({names}) or ({names}, time)")
    if len(required) == rdds + 1 or (several and not positional):
        return function
    return lambda *arguments: function(*arguments[:rdds])


class Outputs:
    """Mixed into :class:`~aiostream_engine.dstream.DStream`.

    Outputs of a batch run one after the other, in order of definition (row OUT-2). An output that
    raises is tried again by ``retry``, then decided by ``on_error``: ``fail`` (default) stops the
    stream; ``skip`` goes on without this batch's output and **loses data**.
    """

    context: StreamingContext
    node: StreamNode

    if TYPE_CHECKING:

        def map_partitions(self, *args: Any, **options: Any) -> Any: ...

    def foreach_rdd(
        self,
        f: Callable[..., Any],
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        on_error: OnError | str = OnError.FAIL,
    ) -> None:
        """``f(rdd)`` or ``f(rdd, time)`` for each batch, in the driver (row OUT-4).

        An ``async def`` function is awaited. A plain one runs in a thread, so that it may block, and
        cannot await the RDD's actions; what blocks for ever holds up a stop until its deadline, and the
        thread until the program ends. One that gave a coroutine, such as ``lambda rdd: rdd.collect()``, is
        called on the loop from then on. It is called for empty batches too.
        """
        call = call_with_time(f, "foreach_rdd")
        if inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f):
            raise OptionError(
                f"foreach_rdd: {describe_callable(f)} contains yield, so its body would never run"
            )
        on_loop = is_coroutine_function(f)

        async def run(rdd: RDD[Any], batch: Batch) -> None:
            nonlocal on_loop
            if on_loop:
                result = call(rdd, batch.time)
            else:
                result = await asyncio.to_thread(_called, call, rdd, batch.time)
                on_loop = inspect.iscoroutine(result)
            if inspect.isawaitable(result):
                await result

        self._output(name or f"foreach_rdd({describe_callable(f)})", run, retry, on_error)

    def foreach_partition(
        self, f: Callable[[Iterator[Any]], Any], *, name: str | None = None, retry: RetryPolicy | None = None
    ) -> None:
        """``f(iterator)`` in the workers for each partition of each batch: open connections there."""
        fn = as_fn(f, name or "foreach_partition")

        async def run(rdd: RDD[Any], _: Batch) -> None:
            await rdd.foreach_partition(fn)

        self._output(name or f"foreach_partition({describe_callable(f)})", run, retry)

    def foreach_async(
        self, f: Callable[[Any], Awaitable[Any]], *, name: str | None = None, **options: Any
    ) -> None:
        """``await f(record)`` for each record, with bounded concurrency; options as in ``AsyncStep.of``."""
        from .runtime.async_steps import AsyncStep

        step = AsyncStep.of("foreach", f, name=name, **options)
        if step.gives_dead_letters:
            raise OptionError(f"step {step.name!r}: an output has no dead letters to read: use map_async()")

        async def run(rdd: RDD[Any], _: Batch) -> None:
            await rdd.foreach_async(step).count()

        self._output(step.name, run)

    def pprint(self, n: int = 10, *, file: TextIO | None = None) -> None:
        """Print the batch time and its first ``n`` records, then ``...`` if there are more (row OUT-3)."""

        async def run(rdd: RDD[Any], batch: Batch) -> None:
            records = await rdd.take(n + 1)
            rule = "-" * 43
            lines = [rule, f"Time: {batch.time}", rule, *map(printable, records[:n])]
            if len(records) > n:
                lines.append("...")
            text = "\n".join(lines) + "\n\n"
            await asyncio.to_thread(_print, text, file or sys.stdout)

        self._output("pprint", run)

    def save_as_text_files(self, prefix: str, suffix: str | None = None) -> None:
        """A directory ``prefix-<epoch ms>[.suffix]`` for each batch, also an empty one (row OUT-5).

        A repeated batch overwrites its directory.
        """

        async def run(rdd: RDD[Any], batch: Batch) -> None:
            await rdd.save_as_text_file(_directory(prefix, suffix, batch), overwrite=True)

        self._output(f"save_as_text_files({prefix})", run)

    def save_as_pickle_files(self, prefix: str, suffix: str | None = None) -> None:
        """Like :meth:`save_as_text_files`, with pickled lists of records."""

        async def run(rdd: RDD[Any], batch: Batch) -> None:
            await rdd.save_as_pickle_file(_directory(prefix, suffix, batch), overwrite=True)

        self._output(f"save_as_pickle_files({prefix})", run)

    def to(self, sink: Sink, *, name: str | None = None, retry: RetryPolicy | None = None) -> None:
        """Write each batch to ``sink``; the promise depends on the sink's class and is printed at start."""
        if not isinstance(sink, Sink):
            raise OptionError(
                f"to() needs a Sink, not {type(sink).__name__}; for a function use foreach_rdd()"
            )
        driver = SinkDriver(sink, name or sink.name)
        packing: list[Any] = [None, None]  # what packs at present, and its function

        async def run(rdd: RDD[Any], batch: Batch) -> None:
            packer = sink.packer()
            if packer is not None:
                if packer is not packing[0]:
                    packing[:] = packer, as_fn(packer, f"pack for {driver.name}")
                rdd = rdd.map_partitions(packing[1], name=f"pack for {driver.name}")
            async with rdd.context.runner.job(batch.time) as job:
                await driver.write(job, rdd.node, batch)

        self._encoded(sink.encoding, driver.name)._output(name or f"to({sink.name})", run, retry, sink=driver)

    def _encoded(self, encoding: Encoding | None, sink: str) -> DStream[Any]:
        """The stream as a sink wants it, with its dead letters sent on."""
        if encoding is None:
            return self  # type: ignore[return-value]
        step = f"encode for {sink}"
        encoded: DStream[Any] = self.map(encoding.encode, name=step, on_error=encoding.on_error)  # type: ignore[attr-defined]
        if encoding.dead_letters is not None:
            letters = encoded.dead_letters().map(dead_letter_entry, name=f"entries of {sink}")
            letters.to(encoding.dead_letters, name=f"{sink} dead letters")
        return encoded

    def batches(self) -> BatchIterator:
        """The batches as an async iterator, a sink with back-pressure; to be called before start.

        The stream waits while the consumer works on a batch: that batch is committed when the next one
        is asked for. A consumer that left its loop holds the stream until the iterator is closed
        (``aclose()``, ``async with``) or dropped, or until the same task awaits ``stop()`` or
        ``await_termination()``. It ends when the stream stops, and raises what made the stream fail;
        a call of ``anext`` may be cancelled and repeated, and raises LifecycleError before start.
        """
        handover = _Handover(self.context)
        self._output("batches", handover.run)
        self.context._on_stop(handover.end)
        self.context._on_wait(handover.close_when_left)
        return BatchIterator(handover)

    def _output(
        self,
        name: str,
        run: Callable[[Any, Batch], Awaitable[None]],
        retry: RetryPolicy | None = None,
        on_error: OnError | str = OnError.FAIL,
        sink: SinkDriver | None = None,
    ) -> None:
        error_policy(on_error, 0)  # refuses what is none
        decision = OnError(on_error)
        if decision is OnError.DEAD_LETTER:
            raise OptionError(f"output {name!r}: on_error 'dead-letter' is for records; use 'fail' or 'skip'")
        self.context._add_output(self.node, name, run, retry, decision, sink)


def _called(call: Callable[..., Any], rdd: Any, time: BatchTime) -> Any:
    try:
        return call(rdd, time)
    except StopIteration as error:  # cannot be handed to a future: the output would never end
        raise RuntimeError("the function raised StopIteration") from error


def _print(text: str, file: TextIO) -> None:
    file.write(text)
    file.flush()


def _directory(prefix: str, suffix: str | None, batch: Batch) -> str:
    return f"{prefix}-{int(batch.time)}" + (f".{suffix}" if suffix else "")


@dataclass(slots=True)
class _Offer:
    batch: StreamBatch
    done: asyncio.Event


class _Handover:
    """Hands one batch at a time to a consumer and holds the stream until it is done with it."""

    def __init__(self, context: StreamingContext) -> None:
        self._context = context
        self._failure: BaseException | None = None
        self._turn = asyncio.Lock()
        self._arrived = asyncio.Event()
        self._offered: _Offer | None = None
        self._held: _Offer | None = None
        self._consumer: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def run(self, rdd: RDD[Any], batch: Batch) -> None:
        """The output operation: returns when the consumer is done with the batch."""
        async with self._turn:
            if self._closed:
                return
            self._loop = asyncio.get_running_loop()
            self._offered = offer = _Offer(StreamBatch(batch.time, rdd), asyncio.Event())
            self._arrived.set()
            try:
                await offer.done.wait()
            finally:
                if self._offered is offer:
                    self._offered = None

    async def next(self) -> StreamBatch:
        """The next batch; the one before is done with."""
        self._context._check_started("batches()")
        self._let_go()
        self._consumer = asyncio.current_task()
        while self._offered is None:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        self._held, self._offered = self._offered, None
        return self._held.batch

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.done.set()
            self._held = None

    def end(self, failure: BaseException | None) -> None:
        """The stream has stopped."""
        if not self._closed:
            self._failure = failure
        self.close()

    def close(self) -> None:
        """No batch will come, or be taken, any more."""
        self._closed = True
        self._let_go()
        if self._offered is not None:
            self._offered.done.set()
        self._arrived.set()

    def close_when_left(self, waiting: asyncio.Task[Any] | None) -> None:
        """``waiting`` waits for the end of the stream: if it is the consumer, it takes nothing any more."""
        if self._consumer is not None and (self._consumer is waiting or self._consumer.done()):
            self.close()

    def close_from_anywhere(self) -> None:
        """Close, from any thread; nobody can ask for a batch any more."""
        if self._loop is None:
            self._closed = True
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.close)


class BatchIterator(AsyncIterator[StreamBatch]):
    """What :meth:`Outputs.batches` gives; also an async context manager that closes it."""

    def __init__(self, handover: _Handover) -> None:
        self._handover = handover
        weakref.finalize(self, handover.close_from_anywhere).atexit = False

    async def __anext__(self) -> StreamBatch:
        return await self._handover.next()

    async def aclose(self) -> None:
        """End this output; the stream goes on without it."""
        self._handover.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
