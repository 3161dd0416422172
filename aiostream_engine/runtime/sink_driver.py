"""Write the partitions of a batch to a sink, in the way that its contract asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Protocol

from ..blocks.formats import read_chunks
from ..executors.base import TaskResult
from ..operators.structure import Terminal, ToBlocks
from ..plan.nodes import Node
from ..sinks.base import (
    BatchCommit,
    BatchMark,
    CommitPointSink,
    IdempotentSink,
    PlainSink,
    Sink,
    SinkContext,
    TransactionalSink,
    WriteKey,
)
from ..types import BatchTime, BlockRef
from .jobs import Materialiser
from .machine import Batch

__all__ = ["SinkDriver"]

_LOOP_BYTES_MAX = 256 * 1024
CHUNK_RECORDS_MAX = 10_000


class _Execution(Protocol):
    """A planned job, to be run partition by partition."""

    @property
    def partitions(self) -> int: ...

    async def run(self, partitions: Sequence[int] | None = None) -> list[TaskResult]: ...


class _Job(Materialiser, Protocol):
    """A job of the runner."""

    async def execution(self, node: Node, terminal: Terminal) -> _Execution: ...


class SinkDriver:
    """One sink of the graph, with the name under which its writes are keyed."""

    def __init__(self, sink: Sink, name: str) -> None:
        self.sink = sink
        self.name = name

    async def open(self) -> None:
        """Open the sink."""
        await self.sink.open(SinkContext(self.name))

    async def aclose(self) -> None:
        """Close the sink."""
        await self.sink.aclose()

    async def write(self, job: _Job, node: Node, batch: Batch) -> None:
        """Compute ``node`` and write it as the batch's output; a transactional sink only stages."""
        staged: list[Any] = []
        try:
            if self.sink.writes_early and self.sink.concurrency_max > 1:
                tokens = await self._each_when_computed(job, node, batch, staged)
            else:
                parts = [result.outputs for result in await job.run_terminal(node, ToBlocks())]
                await batch.frozen()
                keys = self._keys(batch, len(parts))
                tokens = await self._each(keys, parts, staged)
        except Exception:
            if isinstance(self.sink, TransactionalSink) and staged:
                await self.sink.abort(batch.id, staged)
            raise
        if isinstance(self.sink, TransactionalSink):
            batch.tokens[self.name] = tokens

    def _keys(self, batch: Batch, partitions: int) -> list[WriteKey]:
        return [WriteKey(self.name, batch.id, batch.time, index, partitions) for index in range(partitions)]

    # -- deciding ------------------------------------------------------------------------------

    @property
    def commit_point(self) -> str | None:
        """Where the sink remembers which batches are true, None when it does not decide."""
        return self.sink.commit_point if isinstance(self.sink, CommitPointSink) else None

    def has_output(self, batch: Batch) -> bool:
        """True when the batch staged records."""
        return any(token["records"] for token in batch.tokens.get(self.name, ()))

    async def commit_batch(self, batch: Batch, inputs: dict[str, Any]) -> None:
        """Let the sink make a batch true. inputs: what describes the content of each input, by name."""
        assert isinstance(self.sink, CommitPointSink)
        tokens = batch.tokens.get(self.name, ())
        await self.sink.commit_batch(BatchCommit(batch.id, batch.time, inputs), tokens)

    async def committed(self) -> BatchMark | None:
        """The last batch that the sink made true."""
        assert isinstance(self.sink, CommitPointSink)
        return await self.sink.committed()

    async def begin(self, mark: BatchMark) -> None:
        """Let the sink remember something, when it remembers nothing."""
        assert isinstance(self.sink, CommitPointSink)
        await self.sink.begin(mark)

    # -- the end of a batch --------------------------------------------------------------------

    async def publish(self, batch_id: int, time: BatchTime, tokens: list[Any] | None) -> None:
        """Make a committed batch's staged output visible; nothing to do for other sinks."""
        if isinstance(self.sink, TransactionalSink) and tokens is not None:
            await self.sink.commit(batch_id, time, tokens)

    async def abort(self, batch: Batch) -> None:
        """Throw away what a failed batch staged."""
        tokens = batch.tokens.pop(self.name, None)
        if isinstance(self.sink, TransactionalSink) and tokens is not None:
            await self.sink.abort(batch.id, tokens)

    async def _each(
        self, keys: Sequence[WriteKey], parts: Sequence[tuple[BlockRef, ...]], staged: list[Any]
    ) -> list[Any]:
        if self.sink.concurrency_max <= 1:
            return [await self._one(key, refs, staged) for key, refs in zip(keys, parts, strict=True)]
        slots = asyncio.Semaphore(self.sink.concurrency_max)

        async def bounded(key: WriteKey, refs: tuple[BlockRef, ...]) -> Any:
            async with slots:
                return await self._one(key, refs, staged)

        return await _all([bounded(key, refs) for key, refs in zip(keys, parts, strict=True)])

    async def _each_when_computed(self, job: _Job, node: Node, batch: Batch, staged: list[Any]) -> list[Any]:
        """Write each partition as soon as it is there, while the workers compute the next ones."""
        execution = await job.execution(node, ToBlocks())
        await execution.run(())  # what comes before, once
        slots = asyncio.Semaphore(self.sink.concurrency_max)

        async def computed(key: WriteKey) -> Any:
            (result,) = await execution.run((key.partition,))
            async with slots:
                await batch.frozen()
                return await self._one(key, result.outputs, staged)

        return await _all([computed(key) for key in self._keys(batch, execution.partitions)])

    async def _one(self, key: WriteKey, refs: tuple[BlockRef, ...], staged: list[Any]) -> Any:
        if isinstance(self.sink, TransactionalSink):
            token = await self.sink.stage(key, _records(refs))
            staged.append(token)
            return token
        assert isinstance(self.sink, PlainSink | IdempotentSink)
        await self.sink.write(key, _records(refs))
        return None


async def _all(coroutines: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as failures:  # of the tasks: what was raised first
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _records(refs: tuple[BlockRef, ...]) -> AsyncIterator[Sequence[Any]]:
    for ref in refs:
        chunks = await asyncio.to_thread(_read, ref) if ref.size > _LOOP_BYTES_MAX else _read(ref)
        for chunk in chunks:
            for start in range(0, len(chunk), CHUNK_RECORDS_MAX):
                yield chunk if len(chunk) <= CHUNK_RECORDS_MAX else chunk[start : start + CHUNK_RECORDS_MAX]


def _read(ref: BlockRef) -> list[Sequence[Any]]:
    return list(read_chunks(ref))
