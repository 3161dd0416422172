from __future__ import annotations

import random
import struct

import pytest

from aiostream_engine.errors import OptionError
from aiostream_engine.sources.framing import FixedFramer, FrameError, LengthFramer, LineFramer


class Collected:
    def __init__(self) -> None:
        self.data = b""
        self.records = 0
        self.dropped = 0

    def emit(self, data: bytes | bytearray | memoryview, records: int) -> None:
        self.data += bytes(data)
        self.records += records

    def drop(self, records: int) -> None:
        self.dropped += records


def feed(framer: LineFramer | LengthFramer | FixedFramer, data: bytes, cuts: list[int]) -> None:
    scratch = bytearray(4096)
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        piece = data[start:stop]
        scratch[: len(piece)] = piece
        framer.feed(scratch, len(piece))


def random_cuts(data: bytes, seed: int) -> list[int]:
    random_ = random.Random(seed)
    return sorted(random_.randrange(len(data) + 1) for _ in range(random_.randrange(20)))


def lines_within(data: bytes, bound: int) -> tuple[bytes, int]:
    lines = data.split(b"\n")[:-1]
    kept = [line for line in lines if len(line) <= bound]
    return b"".join(line + b"\n" for line in kept), len(lines) - len(kept)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("bound", [1, 5, 17, 1000])
def test_lines_and_dropped_ones_do_not_depend_on_how_the_stream_is_cut(seed: int, bound: int) -> None:
    """E6"""
    random_ = random.Random(seed)
    data = b"".join(b"x" * random_.choice([0, 1, 4, 5, 6, 16, 17, 18, 40]) + b"\n" for _ in range(60))
    collected = Collected()
    framer = LineFramer(collected.emit, collected.drop, bound)
    feed(framer, data, random_cuts(data, seed))
    expected, dropped = lines_within(data, bound)
    assert collected.data == expected
    assert collected.records == expected.count(b"\n")
    assert collected.dropped == dropped


def test_a_line_without_end_is_held_no_longer_than_its_bound() -> None:
    """E6"""
    collected = Collected()
    framer = LineFramer(collected.emit, collected.drop, 10_000)
    scratch = bytearray(b"x" * 4096)
    for _ in range(1000):
        framer.feed(scratch, 4096)
        assert framer.unfinished_bytes <= 10_000
    feed(framer, b"end\nnext\n", [])
    assert (collected.data, collected.dropped) == (b"next\n", 1)


@pytest.mark.parametrize("cuts", [[], [1], [2], [3], [1, 2, 3, 4]])
def test_a_byte_order_mark_is_taken_off_the_beginning_alone(cuts: list[int]) -> None:
    """E10"""
    collected = Collected()
    framer = LineFramer(collected.emit, collected.drop, 100, skip_bom=True)
    feed(framer, b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", cuts)
    assert collected.data == b"a\n\xef\xbb\xbfb\n"


def test_the_last_line_needs_no_line_end() -> None:
    collected = Collected()
    framer = LineFramer(collected.emit, collected.drop, 100)
    feed(framer, b"a\nb", [])
    assert framer.end()
    assert (collected.data, collected.records) == (b"a\nb\n", 2)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    ("length_format", "includes"), [(">I", False), ("<H", False), (">Q", True), (">I", True), ("!B", False)]
)
def test_frames_come_out_whole_with_any_length_field(seed: int, length_format: str, includes: bool) -> None:
    random_ = random.Random(seed)
    payloads = [random_.randbytes(random_.choice([0, 1, 7, 100, 200])) for _ in range(50)]
    field = struct.Struct(length_format)
    own = field.size if includes else 0
    data = b"".join(field.pack(len(payload) + own) + payload for payload in payloads)
    collected = Collected()
    framer = LengthFramer(collected.emit, 300, length_format=length_format, length_includes_header=includes)
    feed(framer, data, random_cuts(data, seed))
    assert collected.data == b"".join(struct.pack(">I", len(payload)) + payload for payload in payloads)
    assert collected.records == 50
    assert framer.end()


@pytest.mark.parametrize("cuts", [[], [2], [4]])
def test_a_frame_that_is_too_long_is_refused_at_its_length_field(cuts: list[int]) -> None:
    collected = Collected()
    framer = LengthFramer(collected.emit, 1000)
    with pytest.raises(FrameError, match="frame_bytes_max"):
        feed(framer, struct.pack(">I", 2**31) + b"x", cuts)
    assert framer.unfinished_bytes <= 4


def test_a_length_below_its_own_field_is_refused() -> None:
    framer = LengthFramer(Collected().emit, 1000, length_includes_header=True)
    with pytest.raises(FrameError):
        feed(framer, struct.pack(">I", 3), [])


def test_an_unfinished_frame_at_the_end_is_told() -> None:
    framer = LengthFramer(Collected().emit, 1000)
    feed(framer, struct.pack(">I", 5) + b"abc", [])
    assert not framer.end()


@pytest.mark.parametrize("seed", range(20))
def test_records_of_one_length_come_out_whole(seed: int) -> None:
    data = random.Random(seed).randbytes(7 * 100)
    collected = Collected()
    framer = FixedFramer(collected.emit, 7)
    feed(framer, data + b"abc", random_cuts(data, seed))
    assert (collected.data, collected.records) == (data, 100)
    assert framer.unfinished_bytes == 3
    assert not framer.end()


@pytest.mark.parametrize("wrong", ["I", ">i", ">II", "", "@I"])
def test_a_length_format_that_is_not_one_unsigned_number_is_refused(wrong: str) -> None:
    with pytest.raises(OptionError, match="length_format"):
        LengthFramer(Collected().emit, 10, length_format=wrong)
