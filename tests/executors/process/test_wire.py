from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiostream_engine.executors.base import TaskFailure, TaskResult
from aiostream_engine.executors.process.wire import (
    Frame,
    FrameBuffer,
    Kind,
    Reply,
    WireError,
    decode_reply,
    encode_frame,
)
from aiostream_engine.types import BlockRef

LIMIT = 10_000_000


def feed(buffer: FrameBuffer, stream: bytes, sizes: Any) -> list[Frame]:
    frames = []
    position = 0
    while position < len(stream):
        target = buffer.writable()
        size = min(len(target), len(stream) - position, next(sizes))
        target[:size] = stream[position : position + size]
        frames += list(buffer.advance(size))
        position += size
    return frames


@given(
    payload_sizes=st.lists(st.sampled_from([0, 1, 50, 5_000, 131_047, 131_048, 200_000]), max_size=8),
    seed=st.integers(),
)
def test_frames_arrive_whole_and_in_order_however_the_stream_is_cut(
    payload_sizes: list[int], seed: int
) -> None:
    draw = random.Random(seed)
    payloads = [draw.randbytes(size) for size in payload_sizes]
    stream = b"".join(
        part for number, payload in enumerate(payloads) for part in encode_frame(Kind.TASK, number, payload)
    )
    sizes = iter(
        lambda: draw.choice([1, 7, 24, 25, 26, 4_000, 70_000, 300_000]) if len(stream) < 9_000 else 70_001, 0
    )
    frames = feed(FrameBuffer(LIMIT), stream, sizes)
    assert [(frame.kind, frame.number, bytes(frame.payload)) for frame in frames] == [
        (Kind.TASK, number, payload) for number, payload in enumerate(payloads)
    ]


def read_all(stream: bytes, limit: int = LIMIT) -> list[Frame]:
    return feed(FrameBuffer(limit), stream, iter(lambda: 1 << 30, 0))


def test_foreign_bytes_are_told_from_frames() -> None:
    """A12"""
    with pytest.raises(WireError, match="foreign bytes"):
        read_all(b"printed by a C library, not sent by the engine")


@pytest.mark.parametrize("size", [100, 500_000])
def test_a_damaged_payload_is_detected(size: int) -> None:
    """A22"""
    header, payload = encode_frame(Kind.RESULT, 1, bytes(size))
    with pytest.raises(WireError, match="checksum"):
        read_all(header + payload[:-1] + b"x")


def test_a_frame_over_the_limit_is_refused_before_memory_is_taken_for_it() -> None:
    """A21"""
    header, _ = encode_frame(Kind.RESULT, 1, bytes(2_000))
    with pytest.raises(WireError, match="limit of 1000 bytes"):
        read_all(header, limit=1000)


def test_half_a_frame_gives_nothing() -> None:
    """A22"""
    header, payload = encode_frame(Kind.RESULT, 1, bytes(300_000))
    assert read_all(header + payload[:-1]) == []


def reply(result: Any) -> bytes:
    return pickle.dumps(Reply(result, 5), protocol=5)


def test_a_reply_of_the_engines_own_types_is_decoded() -> None:
    result = TaskResult(
        1,
        TaskFailure("user", "s", "E", "m"),
        (BlockRef("lines", b"x", args=("utf-8", 1)),),
        counters={"skipped": 2},
    )
    assert decode_reply(reply(result)) == Reply(result, 5)


class Foreign:
    pass


@pytest.mark.parametrize(
    "payload",
    [
        reply(TaskResult(1, counters={"x": Foreign()})),  # type: ignore[dict-item]
        reply("not a result"),
        pickle.dumps([1, 2]),
        pickle.dumps(print),
        b"",
        b"\x80\x05garbage",
    ],
)
def test_a_reply_with_anything_else_is_refused_without_running_it(payload: bytes) -> None:
    """A17, J8"""
    with pytest.raises(pickle.UnpicklingError):
        decode_reply(payload)
