"""Real sockets that are cut in real ways, by a small TCP proxy between sender and source."""

from __future__ import annotations

import asyncio
import random
import resource
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from aiostream_engine.blocks.directory import BlockDirectory
from aiostream_engine.blocks.formats import read_chunks
from aiostream_engine.config import QueueLimits, RetryPolicy
from aiostream_engine.sources.base import Source, SourceContext
from aiostream_engine.sources.socket_server import SocketServerSource
from aiostream_engine.sources.socket_text import SocketTextSource
from aiostream_engine.types import BatchTime

pytestmark = [pytest.mark.faults, pytest.mark.both_loops]

DEADLINE_S = 30.0
FAST = RetryPolicy(attempts_max=None, wait_s=0.005, wait_max_s=0.02)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.002)


class TcpProxy:
    """Passes bytes of an upstream server on, until it is told to do harm."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._pairs: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.bytes_until_reset: int | None = None
        self.connections = 0
        self.port = 0

    async def __aenter__(self) -> TcpProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        self.reset_all()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            from_upstream, to_upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            self._pairs.append((writer, to_upstream))
            await self._pump(from_upstream, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            await self.flowing.wait()
            if self.bytes_until_reset is not None and len(data) >= self.bytes_until_reset:
                writer.write(data[: self.bytes_until_reset])
                await writer.drain()
                await asyncio.sleep(0.02)  # let what was passed on arrive before the reset does
                self.bytes_until_reset = None
                self.reset_all()
                return
            if self.bytes_until_reset is not None:
                self.bytes_until_reset -= len(data)
            writer.write(data)
            await writer.drain()
        writer.close()

    def reset_all(self) -> None:
        """Cut all connections by RST on both sides."""
        for pair in self._pairs:
            for writer in pair:
                sock = writer.get_extra_info("socket")
                if sock is not None and not writer.transport.is_closing():
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        self._pairs.clear()


class NumberServer:
    """Sends numbered lines, each connection from where the program says."""

    def __init__(self, make: Callable[[int], bytes], *, pace_s: float = 0.0) -> None:
        self._make = make
        self._pace_s = pace_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.sent = 0
        self.port = 0

    async def __aenter__(self) -> NumberServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.append(writer)
        try:
            while True:
                writer.write(self._make(self.sent))
                self.sent += 1
                await writer.drain()
                await asyncio.sleep(self._pace_s)
        except (ConnectionError, RuntimeError, asyncio.CancelledError):
            pass  # uvloop raises RuntimeError for a closed transport
        finally:
            self._tasks.discard(task)


class Reader:
    """Cuts a source as the runtime does."""

    def __init__(self, directory: BlockDirectory) -> None:
        self.directory = directory
        self.records: list[str] = []
        self.sources: list[Source] = []

    async def start(self, source: Source, **options: Any) -> None:
        self.sources.append(source)
        await source.start(SourceContext(len(self.sources) - 1, self.directory, **options))

    async def cut(self, source: Source) -> None:
        batch = await source.cut(BatchTime(0))
        self.records += [record for ref in batch.blocks for chunk in read_chunks(ref) for record in chunk]
        self.directory.ledger.release(batch.blocks)

    async def read_until(self, source: Source, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await self.cut(source)
                await asyncio.sleep(0.002)


@pytest.fixture
async def reader(directory: BlockDirectory) -> AsyncIterator[Reader]:
    reader = Reader(directory)
    yield reader
    for source in reader.sources:
        await source.aclose()


def line(number: int) -> bytes:
    return f"<{number:08d} {'x' * (number % 90)}>\n".encode()


def is_whole(record: str) -> bool:
    number = record[1:9]
    return number.isdigit() and record == line(int(number)).decode().rstrip("\n")


async def test_resets_in_mid_line_never_glue_lines(reader: Reader) -> None:
    """E9"""
    random_ = random.Random(9)
    async with NumberServer(line) as server, TcpProxy(server.port) as proxy:
        source = SocketTextSource("127.0.0.1", proxy.port, retry=FAST)
        await reader.start(source)
        for restarts in range(1, 16):
            proxy.bytes_until_reset = random_.randrange(1, 3000)
            await reader.read_until(source, lambda n=restarts: source.info().restarts >= n)
            count = len(reader.records)
            await reader.read_until(source, lambda n=count: len(reader.records) > n)
    assert [record for record in reader.records if not is_whole(record)] == []
    numbers = [int(record[1:9]) for record in reader.records]
    assert numbers == sorted(set(numbers)), "lines came twice or out of order"
    # Each reset broke one line at most, and the broken ones were counted.
    assert source.info().records_dropped <= 15
    assert source.counters["records_partial"] >= 1


async def test_a_peer_that_vanishes_without_a_word_is_given_up_and_found_again(reader: Reader) -> None:
    """E8"""
    async with NumberServer(line, pace_s=0.001) as server, TcpProxy(server.port) as proxy:
        source = SocketTextSource("127.0.0.1", proxy.port, retry=FAST, idle_timeout_s=0.3)
        await reader.start(source)
        await reader.read_until(source, lambda: len(reader.records) >= 10)
        proxy.flowing.clear()
        await reader.read_until(source, lambda: source.info().restarts >= 1)
        assert "nothing came" in str(source.info().last_error)
        proxy.flowing.set()
        count = len(reader.records)
        await reader.read_until(source, lambda: len(reader.records) > count)
    assert all(map(is_whole, reader.records))


async def test_a_server_that_is_down_for_a_while_is_found_again(reader: Reader) -> None:
    """E1"""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        source = SocketTextSource("127.0.0.1", port, retry=FAST)
        await reader.start(source)
        await reader.read_until(source, lambda: source.info().restarts >= 5)
    server = await asyncio.start_server(_say_hello, "127.0.0.1", port)
    await reader.read_until(source, lambda: len(reader.records) >= 3)
    server.close()
    await source.stop()
    assert set(reader.records) == {"hello"}


async def _say_hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello\n")
    writer.close()


async def test_a_gibibyte_without_line_end_is_held_by_its_bound(reader: Reader) -> None:
    """E6"""
    piece = b"x" * (1 << 20)
    async with NumberServer(lambda n: piece if n < 1024 else b"\nend of it\n") as server:
        source = SocketTextSource("127.0.0.1", server.port, line_bytes_max=1 << 20)
        await reader.start(source)
        before = _resident_bytes()
        highest = before
        async with asyncio.timeout(DEADLINE_S):
            while "end of it" not in reader.records:
                await reader.cut(source)
                highest = max(highest, _resident_bytes())
                await asyncio.sleep(0.005)
        await source.stop()
    assert source.counters["records_too_long"] == 1
    assert highest - before < 64 << 20


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


async def test_a_fast_sender_is_pushed_back_and_memory_stays_flat(reader: Reader) -> None:
    """E5"""
    chunk = b"".join(map(line, range(20_000)))
    limits = QueueLimits(bytes_max=4 << 20, block_bytes=1 << 20)
    async with NumberServer(lambda _: chunk) as server:
        source = SocketTextSource("127.0.0.1", server.port, limits=limits)
        await reader.start(source)
        for _ in range(20):
            await until(lambda: source.info().queue_fill >= 1)
            await reader.cut(source)
            reader.records.clear()
        figures = reader.directory.ledger.statistics()
        assert figures.bytes_peak <= (4 << 20) + (1 << 20) + (256 << 10)
        assert source.info().bytes_total >= 80 << 20
        await source.stop()


async def test_many_slow_senders_do_not_keep_a_good_one_out(reader: Reader) -> None:
    """E7"""
    source = SocketServerSource(connections_max=200, idle_timeout_s=0.5)
    await reader.start(source)
    slow = [await asyncio.open_connection("127.0.0.1", source.port) for _ in range(200)]
    await until(lambda: source.counters["connections_total"] == 200)
    for _, writer in slow:
        writer.write(b"x")
    await reader.read_until(source, lambda: source.connections == 0)
    assert source.counters["connections_idle"] == 200
    _, good = await asyncio.open_connection("127.0.0.1", source.port)
    good.write(b"served\n")
    await reader.read_until(source, lambda: reader.records == ["served"])
    for writer in [*(writer for _, writer in slow), good]:
        writer.transport.abort()


async def test_a_client_without_descriptors_left_goes_on_when_there_are_some(reader: Reader) -> None:
    """G7"""
    async with NumberServer(line, pace_s=0.001) as server, TcpProxy(server.port) as proxy:
        source = SocketTextSource("127.0.0.1", proxy.port, retry=FAST)
        await reader.start(source)
        await reader.read_until(source, lambda: len(reader.records) >= 5)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        proxy.reset_all()
        # Open descriptors stay open; no new one can be had, whatever was closed.
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            await reader.read_until(source, lambda: "Too many open files" in str(source.info().last_error))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        count = len(reader.records)
        await reader.read_until(source, lambda: len(reader.records) > count)
    assert all(map(is_whole, reader.records))
