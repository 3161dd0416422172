"""A TCP server of text lines at a rate: each client has a pace of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from ..sinks.threads import ThreadSlots
from .corpus import LINE_BYTES_MAX, PIECE_BYTES, Corpus

__all__ = ["Drip", "Feeder", "FeederStatistics", "Pacer", "StandardInputFeeder"]

CLIENTS_MAX = 256
LINES_PER_WRITE_MAX = 8192
PAUSE_LEAST_S = 0.005
DEBT_MAX_S = 1.0
PIECES_QUEUED_MAX = 64


@dataclass(frozen=True, slots=True)
class Drip:
    """Send at most ``bytes_max`` bytes at a time, ``pause_s`` seconds apart: lines arrive in pieces."""

    bytes_max: int
    pause_s: float


@dataclass(slots=True)
class FeederStatistics:
    """Figures of a feeder since its start."""

    clients: int = 0
    clients_total: int = 0
    clients_dropped: int = 0
    lines: int = 0
    bytes: int = 0


class Pacer:
    """Grants lines at ``rate`` a second, None for as fast as they go.

    Time lost beyond a second (a client that did not read) is not made up for in a burst.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._loop = asyncio.get_running_loop()
        self._begin = self._loop.time()
        self._granted = 0

    async def grant(self, wanted: int) -> int:
        """Wait until at least one line is due; gives how many of ``wanted`` are."""
        if self._rate is None:
            return min(wanted, LINES_PER_WRITE_MAX)
        while True:
            elapsed = self._loop.time() - self._begin
            due = int(elapsed * self._rate) - self._granted
            if due >= 1:
                break
            next_due_s = (self._granted + 1) / self._rate - elapsed
            await asyncio.sleep(max(next_due_s, PAUSE_LEAST_S))
        debt_s = elapsed - self._granted / self._rate
        if debt_s > DEBT_MAX_S:
            self._begin += debt_s - DEBT_MAX_S
            due = max(1, int(DEBT_MAX_S * self._rate))
        granted = min(due, wanted, LINES_PER_WRITE_MAX)
        self._granted += granted
        return granted


class Feeder:
    """Serves the lines of a corpus to every client from the beginning.

    rate: lines per second and client, None for no limit. loop: begin again at the end; otherwise
    the connection is closed there. A client that does not read waits alone. What clients send is
    ignored, and so is their half-close, as of ``nc``.
    """

    def __init__(
        self, corpus: Corpus | None, *, rate: float | None, loop: bool = False, drip: Drip | None = None
    ) -> None:
        self._corpus = corpus
        self._rate = rate
        self._loop = loop
        self._drip = drip
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[Any]] = set()
        self.statistics = FeederStatistics()

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; gives the address, with the port that was chosen for port 0. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=64 * 1024)
        name = self._server.sockets[0].getsockname()
        return name[0], name[1]

    async def aclose(self) -> None:
        """Close the listener and all connections."""
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients, timeout=5.0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= CLIENTS_MAX:
            writer.transport.abort()
            self.statistics.clients_dropped += 1
            return
        self._clients.add(task)
        self.statistics.clients_total += 1
        self.statistics.clients = len(self._clients)
        try:
            await self._feed(writer)
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.CancelledError):  # the client left, or we do: nobody waits for this task
            writer.transport.abort()
        finally:
            self._clients.discard(task)
            self.statistics.clients = len(self._clients)

    async def _feed(self, writer: asyncio.StreamWriter) -> None:
        pacer = Pacer(self._rate)
        async for lines in self._pieces():
            position = 0
            while position < len(lines):
                granted = await pacer.grant(len(lines) - position)
                await self._send(writer, lines[position : position + granted])
                position += granted

    async def _pieces(self) -> AsyncIterator[list[bytes]]:
        assert self._corpus is not None
        pieces: Iterator[list[bytes]] = self._corpus.pieces(loop=self._loop)
        while (lines := await asyncio.to_thread(next, pieces, None)) is not None:
            yield lines

    async def _send(self, writer: asyncio.StreamWriter, lines: list[bytes]) -> None:
        data = b"".join(lines)
        step = len(data) if self._drip is None else self._drip.bytes_max
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
            await writer.drain()
            if self._drip is not None:
                await asyncio.sleep(self._drip.pause_s)
        self.statistics.lines += len(lines)
        self.statistics.bytes += len(data)


class StandardInputFeeder(Feeder):
    """Serves standard input, once, to the clients of the moment; reading begins with the first.

    The rate is that of the input. A client that falls ``PIECES_QUEUED_MAX`` pieces behind is
    dropped, so that it stalls no other.
    """

    def __init__(self, *, rate: float | None, drip: Drip | None = None) -> None:
        super().__init__(None, rate=None, drip=drip)
        self._input_rate = rate
        self._queues: dict[asyncio.Task[Any], asyncio.Queue[list[bytes] | None]] = {}
        self._someone = asyncio.Event()
        self._ended = False

    async def broadcast(self) -> None:
        """Read to the end of the input, then wait until all clients have everything."""
        pacer = Pacer(self._input_rate)
        async for lines in self._input_lines():
            position = 0
            while position < len(lines):
                await self._someone.wait()
                granted = await pacer.grant(len(lines) - position)
                self._hand_out(lines[position : position + granted])
                position += granted
        self._ended = True
        for queue in self._queues.values():
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(None)
        if self._clients:
            await asyncio.wait(self._clients)

    async def _input_lines(self) -> AsyncIterator[list[bytes]]:
        threads = ThreadSlots(1, "stdin")  # a daemon: a read that never returns must not hold up the exit
        rest = b""
        await self._someone.wait()
        while data := await threads.run(os.read, sys.stdin.fileno(), PIECE_BYTES):
            head, end, tail = data.rpartition(b"\n")
            if end:
                yield (rest + head + end).splitlines(keepends=True)
                rest = b""
            rest += tail
            if len(rest) > LINE_BYTES_MAX:
                yield [rest]
                rest = b""
        if rest:
            yield [rest + b"\n"]

    def _hand_out(self, lines: list[bytes]) -> None:
        for task, queue in tuple(self._queues.items()):
            try:
                queue.put_nowait(lines)
            except asyncio.QueueFull:
                del self._queues[task]
                self.statistics.clients_dropped += 1
                task.cancel()
        if not self._queues:
            self._someone.clear()

    async def _pieces(self) -> AsyncIterator[list[bytes]]:
        task = asyncio.current_task()
        assert task is not None
        queue: asyncio.Queue[list[bytes] | None] = asyncio.Queue(PIECES_QUEUED_MAX)
        self._queues[task] = queue
        self._someone.set()
        try:
            while not (self._ended and queue.empty()):
                lines = await queue.get()
                if lines is None:
                    return
                yield lines
        finally:
            self._queues.pop(task, None)
