from __future__ import annotations

import asyncio
import contextlib

import pytest

from aiostream_engine.cli.corpus import Corpus
from aiostream_engine.cli.feeder import Drip, Feeder, Pacer

LINES = [f"line {number}\n".encode() for number in range(2000)]


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "text").write_bytes(b"".join(LINES))
    return Corpus([tmp_path / "text"])


@contextlib.asynccontextmanager
async def serving(feeder):
    address = await feeder.start("127.0.0.1", 0)
    try:
        async with asyncio.timeout(30):
            yield address
    finally:
        await feeder.aclose()


@contextlib.asynccontextmanager
async def client(address):
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_client_gets_all_lines_and_then_the_end(corpus):
    feeder = Feeder(corpus, rate=None)
    async with serving(feeder) as address, client(address) as (reader, _):
        assert await reader.read(-1) == b"".join(LINES)
    assert feeder.statistics.lines == len(LINES)


async def test_every_client_begins_at_the_beginning(corpus):
    feeder = Feeder(corpus, rate=None)
    async with serving(feeder) as address, client(address) as (first, _), client(address) as (second, _):
        assert await first.read(-1) == await second.read(-1)


async def test_a_loop_goes_on_after_the_end(corpus):
    async with serving(Feeder(corpus, rate=None, loop=True)) as address, client(address) as (reader, _):
        for line in [*LINES, *LINES]:
            assert await reader.readline() == line


async def test_a_client_that_sends_nothing_more_is_still_served(corpus):
    async with serving(Feeder(corpus, rate=None)) as address, client(address) as (reader, writer):
        writer.write(b"ignored\n")
        writer.write_eof()
        assert await reader.read(-1) == b"".join(LINES)


async def test_a_client_that_does_not_read_stalls_no_other(corpus):
    feeder = Feeder(corpus, rate=None, loop=True)
    async with serving(feeder) as address, client(address), client(address) as (reader, _):
        for _ in range(20):
            for line in LINES:
                assert await reader.readline() == line


async def test_a_client_that_leaves_is_forgotten(corpus):
    feeder = Feeder(corpus, rate=None, loop=True)
    async with serving(feeder) as address:
        async with client(address) as (reader, writer):
            await reader.readline()
            writer.transport.abort()
        while feeder.statistics.clients:
            await asyncio.sleep(0.01)


async def test_dripped_lines_arrive_in_pieces_and_whole(tmp_path):
    (tmp_path / "text").write_bytes(b"abcdefgh\nij\n")
    feeder = Feeder(Corpus([tmp_path / "text"]), rate=None, drip=Drip(3, 0.02))
    pieces = []
    async with serving(feeder) as address, client(address) as (reader, _):
        while piece := await reader.read(100):
            pieces.append(piece)
    assert b"".join(pieces) == b"abcdefgh\nij\n"
    assert len(pieces) > 1


class TimedPacer(Pacer):
    """A pacer over a clock that the test moves."""

    def __init__(self, rate):
        self.now = 100.0
        super().__init__(rate)
        self._loop = self  # type: ignore[assignment]
        self._begin = self.now

    def time(self):
        return self.now


async def test_lines_are_granted_at_the_rate():
    pacer = TimedPacer(64)
    pacer.now += 0.25
    assert await pacer.grant(1000) == 16
    pacer.now += 0.125
    assert await pacer.grant(3) == 3
    assert await pacer.grant(1000) == 5


async def test_lost_time_is_made_up_for_by_a_second_at_most():
    pacer = TimedPacer(64)
    pacer.now += 4096
    assert await pacer.grant(1_000_000) == 64
    pacer.now += 0.25
    assert await pacer.grant(1_000_000) == 16


async def test_without_a_rate_all_is_granted():
    assert await TimedPacer(None).grant(50) == 50


async def test_over_time_a_client_gets_the_rate_and_not_more(corpus):
    loop = asyncio.get_running_loop()
    async with serving(Feeder(corpus, rate=1000)) as address, client(address) as (reader, _):
        begin = loop.time()
        for _ in range(300):
            await reader.readline()
        assert loop.time() - begin >= 0.25
