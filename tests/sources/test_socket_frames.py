from __future__ import annotations

import pickle
import struct

import pytest

from aiostream_engine.errors import OptionError
from aiostream_engine.sources.socket_frames import SocketFramesSource

from .harness import FAST, Harness, TextServer, until


def frame(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


async def test_payloads_come_out_as_bytes_in_order(harness: Harness) -> None:
    payloads = [b"", b"a\nb", b"x" * 200_000, b"\x00\xff"]
    async with TextServer([b"".join(map(frame, payloads)), "hold"]) as server:
        source = SocketFramesSource("127.0.0.1", server.port)
        assert source.format == "frames"
        await harness.start(source)
        assert await harness.collect(source, 4) == payloads


async def test_another_length_field_gives_the_same_blocks(harness: Harness) -> None:
    async with TextServer([struct.pack("<H", 5) + b"abc" + struct.pack("<H", 2), "hold"]) as server:
        source = SocketFramesSource("127.0.0.1", server.port, length_format="<H", length_includes_header=True)
        await harness.start(source)
        assert await harness.collect(source, 2) == [b"abc", b""]


async def test_records_of_one_length_need_no_length_field(harness: Harness) -> None:
    async with TextServer([b"aaabb", b"bcc", "hold"]) as server:
        source = SocketFramesSource("127.0.0.1", server.port, record_bytes=3)
        await harness.start(source)
        assert await harness.collect(source, 2) == [b"aaa", b"bbb"]


async def test_an_absurd_length_breaks_the_connection_before_room_is_made(harness: Harness) -> None:
    """E6, E11"""
    async with TextServer(
        [frame(b"ok") + b"GET / HTTP/1.1\r\n", "hold"], [frame(b"again"), "hold"]
    ) as server:
        source = SocketFramesSource("127.0.0.1", server.port, frame_bytes_max=1000, retry=FAST)
        await harness.start(source)
        assert await harness.collect(source, 2) == [b"ok", b"again"]
        assert "frame_bytes_max" in str(source.info().last_error)


async def test_half_a_frame_is_dropped_and_counted_even_after_an_orderly_end(harness: Harness) -> None:
    """E9"""
    async with TextServer(
        [frame(b"ok") + frame(b"cut short")[:7], "close"], [frame(b"next"), "hold"]
    ) as server:
        source = SocketFramesSource("127.0.0.1", server.port, retry=FAST)
        await harness.start(source)
        assert await harness.collect(source, 2) == [b"ok", b"next"]
        assert source.info().records_dropped == 1


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('unpickled')",))


async def test_a_pickle_from_the_network_stays_bytes(harness: Harness) -> None:
    """J8"""
    payload = pickle.dumps(_Bomb())
    async with TextServer([frame(payload), "hold"]) as server:
        source = SocketFramesSource("127.0.0.1", server.port)
        await harness.start(source)
        await until(lambda: source.info().records_total == 1)
        assert await harness.collect(source, 1) == [payload]


def test_the_converter_is_left_to_the_engine() -> None:
    source = SocketFramesSource("127.0.0.1", 9999, converter=int)
    assert source.converter is int


@pytest.mark.parametrize(
    "options",
    [{"record_bytes": 0}, {"frame_bytes_max": 0}, {"length_format": "x"}, {"converter": 3}],
)
def test_bad_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        SocketFramesSource("127.0.0.1", 9999, **options)  # type: ignore[arg-type]
