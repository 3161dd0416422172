from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from aiostream_engine.config import QueueLimits
from aiostream_engine.errors import OptionError, SourceError
from aiostream_engine.sources.socket_server import SocketServerSource
from aiostream_engine.testing import ManualClock

from .harness import Harness, reset, until


async def send(port: int, data: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_lines_of_many_senders_are_interleaved_never_glued(harness: Harness) -> None:
    source = SocketServerSource()
    await harness.start(source)
    assert source.port != 0
    await asyncio.gather(
        *(send(source.port, b"".join(b"%d-%d\n" % (who, n) for n in range(500))) for who in range(20))
    )
    records = await harness.collect(source, 10_000)
    for who in range(20):
        assert [r for r in records if r.startswith(f"{who}-")] == [f"{who}-{n}" for n in range(500)]


async def test_half_a_line_of_one_sender_waits_for_its_end_alone(harness: Harness) -> None:
    """E9"""
    source = SocketServerSource()
    await harness.start(source)
    _, slow = await asyncio.open_connection("127.0.0.1", source.port)
    slow.write(b"slow be")
    await slow.drain()
    await send(source.port, b"quick\n")
    assert await harness.collect(source, 1) == ["quick"]
    slow.write(b"gins\n")
    await slow.drain()
    assert await harness.collect(source, 1) == ["slow begins"]
    slow.close()
    await slow.wait_closed()


async def test_half_a_line_of_a_sender_that_breaks_off_is_dropped_and_counted(harness: Harness) -> None:
    """E9"""
    source = SocketServerSource()
    await harness.start(source)
    _, writer = await asyncio.open_connection("127.0.0.1", source.port)
    writer.write(b"whole\nhal")
    await writer.drain()
    await until(lambda: source.info().records_total == 1)
    reset(writer)
    await until(lambda: source.connections == 0)
    await send(source.port, b"next\n")
    assert await harness.collect(source, 2) == ["whole", "next"]
    assert source.info().records_dropped == 1


async def test_it_listens_on_loopback_unless_told(harness: Harness) -> None:
    """J1"""
    source = SocketServerSource()
    await harness.start(source)
    with socket.socket() as probe:
        probe.connect(("127.0.0.1", source.port))
    other = _address_of_this_host()
    if other is not None:
        with socket.socket() as probe, pytest.raises(OSError):  # noqa: PT011 - refused or unreachable
            probe.settimeout(5)
            probe.connect((other, source.port))


def _address_of_this_host() -> str | None:
    """An address of another interface; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = probe.getsockname()[0]
        return None if address.startswith("127.") else address


async def test_one_sender_over_the_cap_is_closed_and_counted(harness: Harness) -> None:
    """E7"""
    source = SocketServerSource(connections_max=2)
    await harness.start(source)
    writers = []
    for _ in range(2):
        _, writer = await asyncio.open_connection("127.0.0.1", source.port)
        writers.append(writer)
    await until(lambda: source.connections == 2)
    reader, third = await asyncio.open_connection("127.0.0.1", source.port)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    await until(lambda: source.counters["connections_refused"] == 1 and source.connections == 2)
    writers[0].write(b"still served\n")
    assert await harness.collect(source, 1) == ["still served"]
    for writer in [*writers, third]:
        writer.transport.abort()
    await until(lambda: source.connections == 0)
    await send(source.port, b"the slot is free again\n")
    assert await harness.collect(source, 1) == ["the slot is free again"]


async def test_a_sender_that_trickles_bytes_without_a_line_is_closed(harness: Harness) -> None:
    """E7"""
    clock = ManualClock()
    source = SocketServerSource(idle_timeout_s=60.0)
    await harness.start(source, clock=clock)
    reader, slow = await asyncio.open_connection("127.0.0.1", source.port)
    _, steady = await asyncio.open_connection("127.0.0.1", source.port)
    await until(lambda: source.connections == 2)
    number = 0
    while not source.counters["connections_idle"]:
        slow.write(b"x")
        steady.write(b"line\n")
        number += 1
        await until(lambda n=number: source.info().records_total == n)
        await clock.advance(10.0)
        await asyncio.sleep(0.01)
    assert 6 <= number <= 8
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            assert await reader.read(100) == b""
    await until(lambda: source.connections == 1)
    for writer in (slow, steady):
        writer.transport.abort()


async def test_no_sender_is_read_while_the_queue_is_full(harness: Harness) -> None:
    """E5"""
    source = SocketServerSource()
    await harness.start(source, limits=QueueLimits(bytes_max=10_000))
    senders = [asyncio.create_task(send(source.port, b"0123456789\n" * 50_000)) for _ in range(4)]
    await until(lambda: source.info().queue_fill >= 1)
    late = asyncio.create_task(send(source.port, b"late-sender\n" * 50_000))
    await asyncio.sleep(0.05)
    assert source.info().queue_bytes <= 10_000 + 6 * 64 * 1024
    assert len(await harness.collect(source, 250_000)) == 250_000
    await asyncio.gather(*senders, late)


async def test_a_port_that_is_taken_fails_the_start(harness: Harness) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        source = SocketServerSource(port=taken.getsockname()[1])
        with pytest.raises(SourceError, match="cannot listen"):
            await harness.start(source)


async def test_after_stop_nobody_can_connect_and_what_was_sent_is_kept(harness: Harness) -> None:
    source = SocketServerSource()
    await harness.start(source)
    _, writer = await asyncio.open_connection("127.0.0.1", source.port)
    writer.write(b"a\nhalf")
    await until(lambda: source.info().records_total == 1)
    await source.stop()
    with pytest.raises(OSError):  # noqa: PT011 - any kind of refusal
        await asyncio.open_connection("127.0.0.1", source.port)
    assert await harness.cut(source) == ["a"]
    assert source.finished
    writer.transport.abort()


@pytest.mark.parametrize("options", [{"port": -1}, {"connections_max": 0}, {"idle_timeout_s": 0}])
def test_bad_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        SocketServerSource(**options)  # type: ignore[arg-type]
