"""Stands in for the runtime: starts sources, cuts them, reads and releases their blocks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

from aiostream_engine.blocks.directory import BlockDirectory
from aiostream_engine.blocks.formats import read_chunks
from aiostream_engine.clock import Clock, SystemClock
from aiostream_engine.config import QueueLimits, RetryPolicy
from aiostream_engine.sources.base import BatchInput, Source, SourceContext
from aiostream_engine.types import BatchTime, BlockRef

DEADLINE_S = 20.0

FAST = RetryPolicy(attempts_max=None, wait_s=0.001, wait_max_s=0.01)


def records_of(blocks: tuple[BlockRef, ...]) -> list[Any]:
    return [record for block in blocks for chunk in read_chunks(block) for record in chunk]


class Harness:
    """One or more sources under test, with what they reported."""

    def __init__(self, directory: BlockDirectory) -> None:
        self.directory = directory
        self.events: list[tuple[str, Any]] = []
        self.batches: list[BatchInput] = []
        self._sources: list[Source] = []
        self._ready = asyncio.Event()
        self._time = 0

    async def start(
        self,
        source: Source,
        *,
        clock: Clock | None = None,
        limits: QueueLimits | None = None,
        parallelism: int = 1,
    ) -> None:
        context = SourceContext(
            len(self._sources),
            self.directory,
            limits=limits or QueueLimits(),
            clock=clock or SystemClock(),
            parallelism=parallelism,
            notify=self._ready.set,
            on_started=lambda info: self.events.append(("started", info)),
            on_error=lambda info: self.events.append(("error", info)),
            on_stopped=lambda info: self.events.append(("stopped", info)),
        )
        self._sources.append(source)
        await source.start(context)

    def events_of(self, kind: str) -> list[Any]:
        return [info for what, info in self.events if what == kind]

    async def cut(self, source: Source) -> list[Any]:
        """The records of one batch."""
        self._time += 1000
        batch = await source.cut(BatchTime(self._time))
        self.batches.append(batch)
        try:
            records = records_of(batch.blocks)
        finally:
            self.directory.ledger.release(batch.blocks)
        assert batch.records in (-1, len(records))
        return records

    async def collect(self, source: Source, count: int) -> list[Any]:
        """Cut until ``count`` records came; fails when they do not."""
        records: list[Any] = []
        async with asyncio.timeout(DEADLINE_S):
            while True:
                self._ready.clear()
                records += await self.cut(source)
                if len(records) >= count:
                    return records
                await self._ready_or_soon()

    async def drain(self, source: Source) -> list[Any]:
        """Cut until the source is finished."""
        records: list[Any] = []
        async with asyncio.timeout(DEADLINE_S):
            while not source.finished:
                self._ready.clear()
                records += await self.cut(source)
                if not source.finished:
                    await self._ready_or_soon()
        return records

    async def _ready_or_soon(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await self._ready.wait()

    async def aclose(self) -> None:
        for source in self._sources:
            await source.aclose()


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; fails at the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.002)


class TextServer:
    """A TCP server that says a prepared piece to each client in turn and then does as told.

    An element of ``scripts`` is a list of bytes to send, ``"reset"``, ``"close"`` or ``"hold"``.
    """

    def __init__(self, *scripts: list[Any], port: int = 0) -> None:
        self._scripts = list(scripts)
        self._writers: list[asyncio.StreamWriter] = []
        self.connections = 0
        self.port = port

    async def __aenter__(self) -> TextServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        self._writers.append(writer)
        try:
            for step in script:
                if step == "hold":
                    return
                if step == "close":
                    writer.close()
                elif step == "reset":
                    await asyncio.sleep(0.05)  # what was sent before must not be overtaken by the reset
                    reset(writer)
                else:
                    writer.write(step)
                    await writer.drain()
        except ConnectionError:
            pass


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
