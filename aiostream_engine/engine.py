"""EngineContext: the connection to the execution resources; makes RDDs and shared values."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import itertools
import logging
import operator
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, Unpack, cast
from weakref import WeakValueDictionary, finalize

from .blocks.directory import BlockDirectory, LedgerStatistics
from .blocks.formats import RECORDS_PER_PIECE, encode_records
from .blocks.placement import lies_in_memory
from .clock import Clock, SystemClock
from .config import MIB, Master, PoolConfig, StateConfig
from .errors import ConfigurationError, GraphError, LifecycleError, OptionError, UnpicklableError
from .executors.base import Executor, ExecutorStatistics
from .executors.shared import Accumulator, Broadcast, broadcast_payload
from .observe.events import Event
from .operators.partitioners import RoundRobin
from .plan.nodes import Aligned, Node, Source, Union
from .planner.programs import PlanCacheStatistics, ProgramCache
from .planner.rules import RULES, Rule
from .rdd import RDD
from .runtime.jobs import JobRunner
from .runtime.state_registry import StateStatistics
from .types import INLINE_BYTES_MAX, BlockRef

if TYPE_CHECKING:
    from .kafka.serde import Deserializer
    from .kafka.settings import ConnectionOptions, KafkaSettings
    from .sources.kafka.lane import FetchLimits, LaneKind
    from .sources.kafka.record_form import Projection
    from .sources.kafka.source import Isolation

__all__ = ["EngineContext", "EngineStatistics", "batch_of_task"]

_log = logging.getLogger("aiostream_engine")

# Set while a batch is translated and its outputs run; tasks that user code starts inherit it.
batch_of_task: ContextVar[int | None] = ContextVar("aiostream_engine_batch", default=None)

T = TypeVar("T")

_SPLIT_BYTES = 32 * MIB


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """Figures of this moment."""

    executor: ExecutorStatistics
    blocks: LedgerStatistics
    plans: PlanCacheStatistics
    states: tuple[StateStatistics, ...]
    counters: dict[str, int]


class EngineContext:
    """Runs RDDs on ``master``; an async context manager.

    Parameters
    ----------
    master: ``local`` (in this process), ``local[k]`` or ``local[*]`` (k worker processes).
    parallelism: default number of partitions; by default the number of workers.
    pool: limits of the worker processes.
    state: whether keyed state lies in memory or, with a cache, on disk.
    memory_bytes_max: beyond this many bytes of blocks in shared memory, new ones go to disk.
    spill_directory: where; the system's temporary directory by default.
    rules: the planner's rules; ``()`` switches optimisation off.
    executor: another place to run tasks, instead of the one that ``master`` names.
    on_event: gets events such as a lost worker; must be quick and not raise.

    Contexts are independent of each other. Building RDDs needs no running context; actions do.
    """

    def __init__(
        self,
        master: str = "local[*]",
        *,
        parallelism: int | None = None,
        pool: PoolConfig | None = None,
        state: StateConfig | None = None,
        memory_bytes_max: int = 2048 * MIB,
        spill_directory: str | None = None,
        rules: Sequence[Rule] = RULES,
        executor: Callable[[BlockDirectory], Executor] | None = None,
        clock: Clock | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self.master = Master.parse(master)
        if parallelism is not None and parallelism < 1:
            raise OptionError(f"parallelism is {parallelism}: it must be at least 1")
        self.default_parallelism = parallelism or self.master.parallelism
        self.clock: Clock = clock or SystemClock()
        self._pool = pool or PoolConfig()
        self._state = state or StateConfig()
        self._memory_bytes_max = memory_bytes_max
        self._spill_directory = spill_directory
        self._programs = ProgramCache(rules)
        self._make_executor = executor or self._default_executor
        self._on_event = on_event
        self._runner: JobRunner | None = None
        self._directory: BlockDirectory | None = None
        self._closed = False
        self._final: EngineStatistics | None = None
        # Weak, so that one accumulator a batch does not add up; who reads it holds it.
        self._accumulators: WeakValueDictionary[int, Accumulator[Any]] = WeakValueDictionary()
        self._counters: dict[str, int] = {}
        self._random = random.Random()
        self._streams = 0

    def __reduce__(self) -> NoReturn:
        raise UnpicklableError(
            "a context cannot be used inside of a function that runs in a worker: it lives in the driver"
        )

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> Self:
        """Start the workers. Raises WorkerStartError; a second call does nothing."""
        if self._closed:
            raise LifecycleError("this context is closed: make a new one")
        if self._runner is not None:
            return self
        self._directory = BlockDirectory(self._spill_directory)
        executor = self._make_executor(self._directory)
        try:
            await executor.start()
        except BaseException:
            await executor.aclose()
            await asyncio.to_thread(self._directory.close)
            self._directory = None
            raise
        self._runner = JobRunner(
            executor,
            self._directory,
            self._programs,
            self._merge_accumulators,
            self._merge_counters,
            self._memory_bytes_max,
        )
        self._runner.states.config = self._state
        await self._warn_of_memory(self._state)
        return self

    async def _place_states(self, configs: Mapping[str, StateConfig]) -> None:
        """Say where single states lie, by their ids; before they are used."""
        self.runner.states.configs.update(configs)
        for config in configs.values():
            await self._warn_of_memory(config)

    async def _warn_of_memory(self, config: StateConfig) -> None:
        path = self.runner.directory.spill_path
        if config.on_disk and await asyncio.to_thread(lies_in_memory, path):
            _log.warning(
                "state is to lie on disk, but %s is in memory: set TMPDIR or spill_directory to a disk", path
            )

    async def aclose(self) -> None:
        """Stop the workers and free all blocks; may be called twice."""
        self._closed = True
        if self._runner is not None:
            self._final = self.statistics()
        runner, self._runner = self._runner, None
        directory, self._directory = self._directory, None
        try:
            if runner is not None:
                await runner.executor.aclose()
        finally:
            if directory is not None:
                await asyncio.to_thread(directory.close)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def _default_executor(self, directory: BlockDirectory) -> Executor:
        if self.master.workers == 0:
            from .executors.inline import InlineExecutor

            return InlineExecutor(directory)
        from .executors.process.pool import ProcessExecutor

        return ProcessExecutor(self.master.workers, directory, self._pool, on_event=self._on_event)

    @property
    def runner(self) -> JobRunner:
        """What runs actions. Raises LifecycleError when the context is not active."""
        if self._runner is None:
            raise LifecycleError(f"this context is not active: {self._why_inactive()}")
        return self._runner

    def _why_inactive(self) -> str:
        return "it is closed" if self._closed else "start it first, by `async with` or `await start()`"

    @property
    def directory(self) -> BlockDirectory:
        """Where blocks are. Raises LifecycleError when the context is not active."""
        if self._directory is None:
            raise LifecycleError(f"this context is not active: {self._why_inactive()}")
        return self._directory

    @property
    def current_batch(self) -> int | None:
        """Label of the batch that the running code belongs to, None outside of a stream."""
        return batch_of_task.get()

    @property
    def programs(self) -> ProgramCache:
        """The plan cache."""
        return self._programs

    def statistics(self) -> EngineStatistics:
        """Figures of this moment; after the close, of its moment. Raises LifecycleError before the start."""
        if self._final is not None:
            return self._final
        runner = self.runner
        return EngineStatistics(
            runner.executor.statistics(),
            self.directory.ledger.statistics(),
            self._programs.statistics(),
            tuple(runner.states.statistics()),
            dict(self._counters),
        )

    # -- datasets from memory --------------------------------------------------------------------

    def parallelize(self, records: Iterable[T], partitions: int | None = None) -> RDD[T]:
        """``records``, cut evenly into partitions. They are pickled now: later changes are not seen."""
        if isinstance(records, range):
            whole = self.range(records.start, records.stop, records.step, partitions)
            return cast("RDD[T]", whole)
        return RDD(self, self.source_of(list(records), partitions, "parallelize"))

    def source_of(self, records: list[Any], partitions: int | None, name: str) -> Source:
        """``records`` as the blocks of a plan node."""
        count = _checked_partitions(partitions or self.default_parallelism)
        bounds = [len(records) * index // count for index in range(count + 1)]
        parts = tuple((self._block(records[a:b]),) if b > a else () for a, b in itertools.pairwise(bounds))
        return Source(name=name, parts=parts, partitions=count)

    def _block(self, records: list[Any]) -> BlockRef:
        starts = range(0, len(records), RECORDS_PER_PIECE)
        try:
            pieces = [encode_records(records[at : at + RECORDS_PER_PIECE]) for at in starts]
        except Exception as error:
            raise UnpicklableError(f"records for parallelize cannot be pickled: {error}") from error
        sizes = tuple(map(len, pieces)) if len(pieces) > 1 else ()
        payload = b"".join(pieces)
        if len(payload) <= INLINE_BYTES_MAX or self._directory is None:
            return BlockRef("pickle", payload, records=len(records), args=sizes)
        path, _ = self._directory.writer.write([payload])
        ref = BlockRef("pickle", None, path, 0, len(payload), len(records), sizes)
        self._directory.ledger.retain([ref])
        return ref

    def from_node(self, node: Node) -> RDD[Any]:
        """An RDD of a plan node."""
        return RDD(self, node)

    def range(
        self, start: int, stop: int | None = None, step: int = 1, partitions: int | None = None
    ) -> RDD[int]:
        """The integers of Python's ``range``, made in the workers."""
        whole = range(start) if stop is None else range(start, stop, step)
        count = _checked_partitions(partitions or self.default_parallelism)
        bounds = [len(whole) * index // count for index in range(count + 1)]
        cuts = [whole[a:b] for a, b in itertools.pairwise(bounds)]
        parts = tuple(
            (BlockRef("range", b"", records=len(cut), args=(cut.start, cut.stop, cut.step)),) for cut in cuts
        )
        return RDD(self, Source(name="range", format="range", parts=parts, partitions=count))

    def empty_rdd(self) -> RDD[Any]:
        """An RDD of no partitions."""
        return RDD(self, Source(name="empty", parts=(), partitions=0))

    def union(self, rdds: Sequence[RDD[T]]) -> RDD[T]:
        """The partitions of all, in order; where all lie alike by key, side by side without a shuffle."""
        for rdd in rdds:
            if rdd.context is not self:
                raise GraphError("union needs RDDs of one context")
        nodes = [rdd.node for rdd in rdds]
        if len(nodes) == 1:
            return rdds[0]
        first = nodes[0].partitioner if nodes else None
        by_key = first is not None and not isinstance(first, RoundRobin)
        if by_key and all(node.partitioner == first for node in nodes):
            aligned = Aligned(
                name="union", parents=tuple(nodes), partitions=nodes[0].partitions, partitioner=first
            )
            return RDD(self, aligned)
        total = sum(node.partitions for node in nodes)
        return RDD(self, Union(name="union", parents=tuple(nodes), partitions=total))

    # -- datasets from files ---------------------------------------------------------------------

    def text_file(
        self,
        path: str,
        partitions: int | None = None,
        *,
        encoding: str = "utf-8",
        errors: str = "replace",
    ) -> RDD[str]:
        """The lines of a file, directory or glob; ``.gz`` files are inflated. Read in the workers."""
        return self._files("text_file", path, "file-lines", (encoding, errors), partitions)

    def whole_text_files(self, path: str, *, encoding: str = "utf-8", errors: str = "replace") -> RDD[Any]:
        """(path, content) of each file."""
        files = _expand(path)
        refs = [_file_ref(file, "file-whole", (encoding, errors)) for file in files]
        return self._packed("whole_text_files", "file-whole", refs, None)

    def binary_records(self, path: str, record_bytes: int, partitions: int | None = None) -> RDD[bytes]:
        """Records of ``record_bytes`` bytes each. A file of another size multiple is an error at run time."""
        if record_bytes < 1:
            raise OptionError(f"record_bytes is {record_bytes}: it must be at least 1")
        refs: list[BlockRef] = []
        for file in _expand(path):
            size = os.path.getsize(file)
            step = max(record_bytes, self._split_bytes(size, partitions) // record_bytes * record_bytes)
            refs.extend(
                BlockRef("file-fixed", None, file, offset, min(step, size - offset), -1, (record_bytes,))
                for offset in range(0, size, step)
            )
        return self._packed("binary_records", "file-fixed", refs, partitions)

    def pickle_file(self, path: str, partitions: int | None = None) -> RDD[Any]:
        """What ``save_as_pickle_file`` wrote. Unpickling runs code: only for files that you trust."""
        refs = [_file_ref(file, "file-pickles", ()) for file in _expand(path)]
        return self._packed("pickle_file", "file-pickles", refs, partitions)

    def _files(
        self, name: str, path: str, format: str, args: tuple[Any, ...], partitions: int | None
    ) -> RDD[Any]:
        refs = []
        for file in _expand(path):
            ref = _file_ref(file, format, args)
            if ref.args[-1] is not None:
                refs.append(ref)
                continue
            step = self._split_bytes(ref.length, partitions)
            refs.extend(
                ref._replace(offset=offset, length=min(step, ref.length - offset))
                for offset in range(0, ref.length, step)
            )
        return self._packed(name, format, refs, partitions, args)

    def _split_bytes(self, size: int, partitions: int | None) -> int:
        """Parts small enough that all workers have one, and never too large for memory."""
        wanted = partitions or self.default_parallelism
        return max(1, min(_SPLIT_BYTES, -(-size // wanted)))

    def _packed(
        self,
        name: str,
        format: str,
        refs: list[BlockRef],
        partitions: int | None,
        format_args: tuple[Any, ...] = (),
    ) -> RDD[Any]:
        parts = pack(refs, partitions or self.default_parallelism)
        return RDD(
            self,
            Source(name=name, format=format, format_args=format_args, parts=parts, partitions=len(parts)),
        )

    # -- datasets from Kafka ---------------------------------------------------------------------

    async def kafka_rdd(
        self,
        bootstrap: str | Mapping[str, Any] | KafkaSettings,
        ranges: Iterable[tuple[str, int, int, int]],
        *,
        projection: Projection = "record",
        key: str | Deserializer = "bytes",
        value: str | Deserializer = "bytes",
        isolation: Isolation = "read_committed",
        min_partitions: int | None = None,
        fetch: FetchLimits | None = None,
        lane: LaneKind = "auto",
        **connection: Unpack[ConnectionOptions],
    ) -> RDD[Any]:
        """Records of given (topic, partition, start, stop), a partition for each (row KAF-12).

        They are fetched now and held until the RDD and all made of it are gone, or the context closes.

        Parameters
        ----------
        bootstrap: ``host:port`` of brokers, with commas between, settings, or a mapping with Kafka's names.
        ranges: half-open ranges of offsets.
        projection: what a record is: ``record`` a :class:`~aiostream_engine.kafka.record.KafkaRecord`,
            ``pair`` (key, value), ``value`` alone; or a function of a KafkaRecord.
        key, value: how these are decoded, in the workers: ``bytes``, ``str``, ``json``, ``msgpack``, an
            object of :mod:`aiostream_engine.kafka.serde`, or a function of bytes. Null stays None.
        isolation: ``read_committed`` leaves out what transactions did not commit.
        min_partitions: at least so many RDD partitions, by splitting large ranges.
        fetch: bytes that one fetch brings, and milliseconds that a broker may wait for them.
        lane: ``raw``, ``client`` or ``auto``, as of ``kafka_stream``.
        connection: security and time limits, by the names of
            :class:`~aiostream_engine.kafka.settings.KafkaSettings`.

        Raises SourceError when a range is not in the log, or Kafka cannot be reached.
        """
        from .sources.kafka.dataset import fetch_dataset

        options = {
            "projection": projection,
            "key": key,
            "value": value,
            "isolation": isolation,
            "min_partitions": min_partitions,
            "fetch": fetch,
            "lane": lane,
            **connection,
        }
        content, source = await fetch_dataset(bootstrap, ranges, self.directory, options)
        blocks = iter(content.blocks)
        parts = tuple(tuple(itertools.islice(blocks, size)) for size in content.part_sizes)
        node = Source(name=source.name, format=source.format, parts=parts, partitions=len(parts))
        release, loop = self.directory.ledger.release, asyncio.get_running_loop()
        finalize(node, _call_on_loop, loop, release, content.blocks).atexit = False
        rdd: RDD[Any] = RDD(self, node)
        return rdd if source.converter is None else rdd.map(source.converter)

    # -- shared values ---------------------------------------------------------------------------

    def broadcast(self, value: T) -> Broadcast[T]:
        """A read-only value that each worker loads once. The context must be active."""
        payload = broadcast_payload(value)
        path, _ = self.directory.writer.write([payload])
        ref = BlockRef("pickle", None, path, 0, len(payload), 1)
        self.directory.ledger.retain([ref])

        def drop(number: int, destroy: bool) -> None:
            if self._runner is not None and self._directory is not None:
                self._runner.drop_broadcast(number)
                if destroy:
                    self._directory.ledger.release([ref])

        return Broadcast(value, ref, drop)

    def accumulator(
        self, zero: T, add: Callable[[T, Any], T] = operator.add, *, name: str = ""
    ) -> Accumulator[T]:
        """A sum that tasks add to; ``add`` must be associative and commutative and accept ``zero``."""
        accumulator = Accumulator(zero, add, name)
        self._accumulators[accumulator.id] = accumulator
        return accumulator

    def _merge_accumulators(self, partials: dict[int, Any]) -> None:
        for number, partial in partials.items():
            accumulator = self._accumulators.get(number)
            if accumulator is not None:
                accumulator.merge(partial)

    def _merge_counters(self, counters: dict[str, int]) -> None:
        for name, count in counters.items():
            self._counters[name] = self._counters.get(name, 0) + count

    def new_stream(self) -> int:
        """Number of a stream that will run on this engine, from 1."""
        self._streams += 1
        return self._streams

    def new_seed(self) -> int:
        """A seed for a random step; fixed by :meth:`seed`."""
        return self._random.randrange(2**31)

    def seed(self, value: int) -> None:
        """Make the seeds of random steps reproducible."""
        self._random.seed(value)


def _call_on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[T], object], argument: T) -> None:
    """Garbage may be collected in any thread."""
    with contextlib.suppress(RuntimeError):  # the loop is closed, and the blocks are gone with the engine
        loop.call_soon_threadsafe(call, argument)


def pack(
    refs: Sequence[BlockRef], partitions: int, bytes_max: int = _SPLIT_BYTES
) -> tuple[tuple[BlockRef, ...], ...]:
    """Blocks in order as partitions of like size: about ``partitions``, more where those were too large."""
    total = sum(ref.size for ref in refs)
    target = min(bytes_max, max(1, -(-total // max(1, partitions))))
    parts: list[tuple[BlockRef, ...]] = []
    current: list[BlockRef] = []
    filled = 0
    for ref in refs:
        if current and filled + ref.size // 2 >= target * (
            1 if len(parts) < partitions - 1 or total > bytes_max else 2
        ):
            parts.append(tuple(current))
            current, filled = [], 0
        current.append(ref)
        filled += ref.size
    if current:
        parts.append(tuple(current))
    return tuple(parts)


def _file_ref(path: str, format: str, args: tuple[Any, ...]) -> BlockRef:
    compression = "gzip" if path.endswith(".gz") else None
    extra = (compression,) if format in ("file-lines", "file-whole") else ()
    return BlockRef(format, None, path, 0, os.path.getsize(path), -1, (*args, *extra))


def _expand(path: str) -> list[str]:
    """Files named by a file, directory or glob, sorted; hidden ones and ``_SUCCESS`` are left out."""
    names = sorted(glob.glob(path)) if glob.has_magic(path) else [path]
    files: list[str] = []
    for name in names:
        if os.path.isdir(name):
            inside = sorted(os.listdir(name))
            files.extend(
                os.path.join(name, entry)
                for entry in inside
                if not entry.startswith((".", "_")) and os.path.isfile(os.path.join(name, entry))
            )
        elif os.path.exists(name):
            files.append(name)
    if not files:
        raise ConfigurationError(
            f"{path!r} names no file: check the path, or that the directory is not empty"
        )
    return [os.path.abspath(file) for file in files]


def _checked_partitions(count: int) -> int:
    if count < 1:
        raise OptionError(f"partitions is {count}: it must be at least 1")
    return count
