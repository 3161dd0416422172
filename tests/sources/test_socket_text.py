from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aiostream_engine.config import QueueLimits, RetryPolicy
from aiostream_engine.errors import OptionError, SourceError
from aiostream_engine.sources.socket_text import SocketTextSource
from aiostream_engine.testing import ManualClock
from aiostream_engine.types import BatchTime

from .harness import FAST, Harness, TextServer, until


@contextmanager
def free_port() -> Iterator[int]:
    """A port on which nobody listens, kept for this test."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def test_lines_come_in_order_however_they_were_sent(harness: Harness) -> None:
    async with TextServer([b"one\ntw", b"o\nthree\n", "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port)
        await harness.start(source)
        assert await harness.collect(source, 3) == ["one", "two", "three"]


async def test_line_ends_of_both_kinds_nul_bytes_and_empty_lines_are_kept_apart(harness: Harness) -> None:
    """E10"""
    async with TextServer([b"\xef\xbb\xbfa\r\nb\n\nc\x00d\r\n", "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port)
        await harness.start(source)
        assert await harness.collect(source, 4) == ["a", "b", "", "c\x00d"]


async def test_bytes_that_are_not_text_are_replaced_and_the_stream_goes_on(harness: Harness) -> None:
    """E10"""
    async with TextServer([b"a\xffb\nnext\n", "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port)
        await harness.start(source)
        assert await harness.collect(source, 2) == ["a\ufffdb", "next"]


async def test_strict_text_is_handed_over_undecoded(harness: Harness) -> None:
    """E10: so that one bad line can become a dead letter."""
    async with TextServer([b"a\xffb\nnext\n", "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port, errors="strict")
        assert (source.format, source.decode_strictly) == ("bytes-lines", "utf-8")
        await harness.start(source)
        assert await harness.collect(source, 2) == [b"a\xffb", b"next"]


async def test_half_a_line_of_a_broken_connection_is_dropped_and_counted(harness: Harness) -> None:
    """E9"""
    script = [b"whole\nhal", "reset"]
    async with TextServer(script, [b"first\n", "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port, retry=FAST)
        await harness.start(source)
        assert await harness.collect(source, 2) == ["whole", "first"]
        info = source.info()
        assert (info.records_dropped, info.restarts) == (1, 1)
        assert "Reset" in str(info.last_error)


async def test_the_last_line_of_an_orderly_end_needs_no_line_end(harness: Harness) -> None:
    async with TextServer([b"a\nb", "close"], [b"c\n", "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port, retry=FAST)
        await harness.start(source)
        assert await harness.collect(source, 3) == ["a", "b", "c"]
        assert source.info().records_dropped == 0


async def test_an_orderly_end_can_finish_the_source(harness: Harness) -> None:
    """E3"""
    async with TextServer([b"a\nb\n", "close"]) as server:
        source = SocketTextSource("127.0.0.1", server.port, finish_at_eof=True)
        await harness.start(source)
        assert await harness.drain(source) == ["a", "b"]
        assert server.connections == 1
        assert len(harness.events_of("stopped")) == 1


async def test_a_server_that_comes_late_is_waited_for(harness: Harness) -> None:
    """E1, SRC-1"""
    with free_port() as port:
        source = SocketTextSource("127.0.0.1", port, retry=FAST)
        await harness.start(source)
        await until(lambda: len(harness.events_of("error")) >= 3)
        assert not harness.events_of("started")
    async with TextServer([b"late\n", "hold"], port=port):
        assert await harness.collect(source, 1) == ["late"]
        assert source.info().active
        await source.stop()


async def test_a_source_that_gives_up_says_so_out_of_its_cut(harness: Harness) -> None:
    """E2"""
    with free_port() as port:
        retry = RetryPolicy(attempts_max=3, wait_s=0.001)
        source = SocketTextSource("127.0.0.1", port, retry=retry)
        await harness.start(source)
        await until(lambda: source.pending)
        with pytest.raises(SourceError, match="gave up after 3 failed attempts"):
            await source.cut(BatchTime(1000))
        assert len(harness.events_of("error")) == 3
        assert not source.finished


async def test_a_server_that_only_hangs_up_is_not_asked_in_a_hot_loop(harness: Harness) -> None:
    """E2: a connection that gave nothing does not reset the back-off."""
    clock = ManualClock()
    async with TextServer(["close"]) as server:
        source = SocketTextSource("127.0.0.1", server.port, retry=RetryPolicy(None, 1.0, 8.0, jitter=0))
        await harness.start(source, clock=clock)
        waits = []
        for expected in (1, 2, 3, 4):
            await until(lambda n=expected: len(harness.events_of("error")) == n and clock.sleepers)
            before, slept = clock.monotonic(), 0.0
            while len(harness.events_of("error")) == expected and server.connections == expected:
                await clock.advance(0.25)
                await asyncio.sleep(0.01)
                slept = clock.monotonic() - before
            waits.append(slept)
        assert waits[0] < waits[1] < waits[2] < waits[3]


async def test_a_line_over_the_bound_is_dropped_and_the_next_one_is_read(harness: Harness) -> None:
    """E6"""
    async with TextServer([b"x" * 3_000_000 + b"\nshort\n", "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port, line_bytes_max=1_000_000)
        await harness.start(source)
        assert await harness.collect(source, 1) == ["short"]
        assert source.info().records_dropped == 1
        assert source.counters["records_too_long"] == 1


async def test_a_full_queue_stops_reading_and_a_cut_goes_on_without_loss(harness: Harness) -> None:
    """E5"""
    lines = 400_000
    payload = b"".join(b"%09d\n" % number for number in range(lines))
    async with TextServer([payload, "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port)
        limits = QueueLimits(bytes_max=200_000, block_bytes=50_000)
        await harness.start(source, limits=limits)
        await until(lambda: source.info().queue_fill >= 1)
        total = source.info().bytes_total
        for _ in range(50):
            await asyncio.sleep(0)
        assert source.info().bytes_total == total, "it was read on although the queue is full"
        assert source.info().queue_bytes < 200_000 + 64 * 1024
        records = await harness.collect(source, lines)
        assert records == [f"{number:09d}" for number in range(lines)]
        assert harness.directory.ledger.statistics().bytes_peak < 1_000_000


async def test_the_bound_on_records_holds_too(harness: Harness) -> None:
    """E5"""
    async with TextServer([b"\n" * 300_000, "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port)
        await harness.start(source, limits=QueueLimits(records_max=1000))
        await until(lambda: source.info().queue_fill >= 1)
        assert source.info().queue_records <= 1000 + 64 * 1024
        assert len(await harness.collect(source, 300_000)) == 300_000


async def test_a_rate_is_kept_on_average(harness: Harness) -> None:
    """BP-1"""
    clock = ManualClock()
    line = b"x" * 63 + b"\n"
    async with TextServer([line, line, line * 5000, "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port)
        source.set_rate(100.0)
        await harness.start(source, clock=clock)
        await until(lambda: source.info().records_total > 0)
        for _ in range(100):
            await clock.advance(0.1)
            await asyncio.sleep(0.001)
        # Ten seconds at a hundred a second, and at most one read more.
        assert source.info().records_total <= 1000 + 50
        assert source.info().rate_limit == 100.0
        source.set_rate(None)
        await until(lambda: source.info().records_total == 5002)


async def test_silence_beyond_the_idle_timeout_breaks_the_connection(harness: Harness) -> None:
    """E8"""
    clock = ManualClock()
    async with TextServer([b"a\nhalf", "hold"], [b"b\n", "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port, retry=FAST, idle_timeout_s=30.0)
        await harness.start(source, clock=clock)
        assert await harness.collect(source, 1) == ["a"]
        async with asyncio.timeout(20):
            while server.connections < 2:
                await clock.advance(5.0)
                await asyncio.sleep(0.002)
        assert await harness.collect(source, 1) == ["b"]
        assert source.info().records_dropped == 1


async def test_time_in_back_pressure_is_not_idle(harness: Harness) -> None:
    """E8, E5"""
    clock = ManualClock()
    async with TextServer([b"a\n" * 100_000, "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port, idle_timeout_s=30.0)
        await harness.start(source, clock=clock, limits=QueueLimits(bytes_max=1000))
        await until(lambda: source.info().queue_fill >= 1)
        await clock.advance(1000.0)
        assert server.connections == 1
        assert len(await harness.collect(source, 100_000)) == 100_000


async def test_a_stall_of_this_side_is_not_taken_for_silence_of_the_other(harness: Harness) -> None:
    """D2, D3"""
    clock = ManualClock()
    async with TextServer([b"a\n", "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port, idle_timeout_s=5.0)
        await harness.start(source, clock=clock)
        assert await harness.collect(source, 1) == ["a"]
        (writer,) = server._writers
        # What is sent now lies in the kernel when the clock is found far ahead.
        writer.write(b"b\n")
        await clock.jump(60.0)
        assert await harness.collect(source, 1) == ["b"]
        assert server.connections == 1
        assert source.info().restarts == 0


async def test_keepalive_is_set_on_the_socket(harness: Harness) -> None:
    """E8"""
    async with TextServer([b"a\n", "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port, keepalive_s=7)
        await harness.start(source)
        await harness.collect(source, 1)
        (connection,) = source._connections
        assert connection._transport is not None
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7


async def test_stop_keeps_what_was_received_for_the_last_batch(harness: Harness) -> None:
    async with TextServer([b"a\nb\nhal", "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port)
        await harness.start(source)
        await until(lambda: source.info().records_total == 2)
        await source.stop()
        assert not source.finished
        assert await harness.cut(source) == ["a", "b"]
        assert source.finished
        await source.stop()
        assert len(harness.events_of("stopped")) == 1


async def test_stop_during_full_back_pressure_ends(harness: Harness) -> None:
    """G8"""
    async with TextServer([b"a\n" * 100_000, "hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port)
        await harness.start(source, limits=QueueLimits(bytes_max=1000))
        await until(lambda: source.info().queue_fill >= 1)
        async with asyncio.timeout(10):
            await source.stop()


async def test_stop_while_it_tries_to_connect_ends(harness: Harness) -> None:
    """E4"""
    with free_port() as port:
        source = SocketTextSource("127.0.0.1", port, retry=RetryPolicy(None, 3600.0, 3600.0))
        await harness.start(source)
        await until(lambda: harness.events_of("error"))
        async with asyncio.timeout(10):
            await source.stop()
        assert source.finished


async def test_one_receiver_in_trouble_does_not_touch_another(harness: Harness) -> None:
    """E1"""
    async with TextServer([b"a\n", "hold"]) as server:
        with free_port() as port:
            bad = SocketTextSource("127.0.0.1", port, retry=RetryPolicy(attempts_max=1))
            good = SocketTextSource("127.0.0.1", server.port)
            await harness.start(bad)
            await harness.start(good)
            await until(lambda: bad.pending)
            assert await harness.collect(good, 1) == ["a"]
            assert (good.info().active, bad.info().active) == (True, False)


async def test_large_blocks_lie_in_shared_memory_and_small_ones_in_their_reference(harness: Harness) -> None:
    async with TextServer([b"x" * 99 + b"\n", "hold"], ["hold"]) as server:
        source = SocketTextSource("127.0.0.1", server.port)
        await harness.start(source)
        await harness.collect(source, 1)
        assert harness.batches[-1].blocks[0].data is not None
    async with TextServer([(b"x" * 99 + b"\n") * 10_000, "hold"]) as server:
        large = SocketTextSource("127.0.0.1", server.port)
        await harness.start(large)
        await until(lambda: large.info().records_total == 10_000)
        await harness.cut(large)
        (block,) = harness.batches[-1].blocks
        assert (block.data, block.length, block.records) == (None, 1_000_000, 10_000)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"port": 0}, "port"),
        ({"port": 70000}, "port"),
        ({"host": ""}, "host"),
        ({"encoding": "utf-16"}, "line end"),
        ({"encoding": "nonsense"}, "nonsense"),
        ({"errors": "nonsense"}, "nonsense"),
        ({"line_bytes_max": 0}, "line_bytes_max"),
        ({"connect_timeout_s": 0}, "connect_timeout_s"),
        ({"idle_timeout_s": -1}, "idle_timeout_s"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        SocketTextSource(**{"host": "127.0.0.1", "port": 9999, **options})  # type: ignore[arg-type]
