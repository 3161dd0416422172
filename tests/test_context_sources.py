"""The promises of the methods of a context that make streams of sources."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine import DeadLetter, DStream, StreamingContext
from aiostream_engine.sources.files import FileSource
from aiostream_engine.sources.socket_frames import SocketFramesSource

DEADLINE_S = 30.0


@contextlib.asynccontextmanager
async def serving(data: bytes) -> AsyncIterator[tuple[str, int]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[:2]


async def records(ssc: StreamingContext, *streams: DStream[Any]) -> list[list[Any]]:
    """What each stream gives until all sources are finished."""
    seen: list[list[Any]] = [[] for _ in streams]
    for stream, given in zip(streams, seen, strict=True):

        async def take(rdd: Any, given: list[Any] = given) -> None:
            given.extend(await rdd.collect())

        stream.foreach_rdd(take)
    async with asyncio.timeout(DEADLINE_S):
        await ssc.run()
    return seen


def context() -> StreamingContext:
    return StreamingContext(0.05, "local")


def lines_of(path: str) -> list[tuple[str, str]]:
    return [(Path(path).name, line) for line in Path(path).read_text().split()]


def upper(data: bytes) -> str:
    return data.decode().upper()


async def test_a_file_stream_gives_what_the_reader_makes_of_each_file(tmp_path: Path):
    (tmp_path / "a").write_text("one two")
    async with context() as ssc:
        (seen,) = await records(ssc, ssc.file_stream(str(tmp_path), lines_of, follow=False))
    assert seen == [("a", "one"), ("a", "two")]


async def test_a_file_source_object_runs_its_reader_too(tmp_path: Path):
    (tmp_path / "a").write_text("one two")
    source = FileSource(tmp_path, kind="path", reader=lines_of, follow=False)
    async with context() as ssc:
        (seen,) = await records(ssc, ssc.from_source(source))
    assert seen == [("a", "one"), ("a", "two")]


async def test_text_files_are_decoded_strictly_when_asked_for(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"good\nb\xffd\nagain\n")
    async with context() as ssc:
        lines = ssc.text_file_stream(str(tmp_path), errors="strict", on_error="dead-letter", follow=False)
        seen, letters = await records(ssc, lines, lines.dead_letters())
    assert seen == ["good", "again"]
    assert [letter.record for letter in letters] == [b"b\xffd"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
async def test_socket_text_is_decoded_strictly_when_asked_for(encoding: str):
    async with context() as ssc, serving(b"good\nb\xffd\nagain\n") as (host, port):
        lines = ssc.socket_text_stream(
            host, port, name="text", encoding=encoding, errors="strict", on_error="skip", finish_at_eof=True
        )
        (seen,) = await records(ssc, lines)
    assert seen == ["good", "again"]
    # The figures can still be read when all is over.
    assert ssc.engine.statistics().counters == {"skipped:decode text": 1}


async def test_undecodable_text_becomes_replacement_characters_by_default():
    async with context() as ssc, serving(b"b\xffd\n") as (host, port):
        (seen,) = await records(ssc, ssc.socket_text_stream(host, port, finish_at_eof=True))
    assert seen == ["b\ufffdd"]


def frames(*payloads: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(payload)) + payload for payload in payloads)


async def test_frames_go_through_the_converter_of_the_stream():
    async with context() as ssc, serving(frames(b"a", b"", b"bc")) as (host, port):
        (seen,) = await records(ssc, ssc.socket_stream(host, port, upper, finish_at_eof=True))
    assert seen == ["A", "", "BC"]


async def test_frames_go_through_the_converter_of_the_source():
    async with context() as ssc, serving(frames(b"a", b"bc")) as (host, port):
        source = SocketFramesSource(host, port, converter=upper, finish_at_eof=True)
        (seen,) = await records(ssc, ssc.from_source(source))
    assert seen == ["A", "BC"]


async def test_raw_frames_stay_bytes():
    async with context() as ssc, serving(frames(b"a", b"bc")) as (host, port):
        (seen,) = await records(ssc, ssc.raw_socket_stream(host, port, finish_at_eof=True))
    assert seen == [b"a", b"bc"]


async def test_a_frame_that_its_converter_refuses_can_become_a_dead_letter():
    async with context() as ssc, serving(frames(b"1", b"x", b"2")) as (host, port):
        numbers = ssc.socket_stream(host, port, int, on_error="dead-letter", finish_at_eof=True)
        seen, letters = await records(ssc, numbers, numbers.dead_letters())
    assert seen == [1, 2]
    assert isinstance(letters[0], DeadLetter)
    assert letters[0].record == b"x"
