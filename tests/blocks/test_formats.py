from __future__ import annotations

import gzip
import itertools
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiostream_engine.blocks import formats
from aiostream_engine.blocks.formats import count_lines, encode_records, read_chunks
from aiostream_engine.errors import CorruptionError
from aiostream_engine.types import BlockRef

TEXT = ("utf-8", "replace")


def records(ref: BlockRef) -> list[Any]:
    return [record for chunk in read_chunks(ref) for record in chunk]


def file_ref(path: Path, format: str, args: tuple[Any, ...], offset: int = 0, length: int = -1) -> BlockRef:
    length = path.stat().st_size - offset if length < 0 else length
    return BlockRef(format, None, str(path), offset, length, -1, args)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few bytes, so that every line is cut somewhere."""
    monkeypatch.setattr(formats, "CHUNK_BYTES", 7)


def test_lines_end_with_both_kinds_of_line_end() -> None:
    """E10"""
    assert records(BlockRef("lines", b"a\r\nb\n\nc", args=TEXT)) == ["a", "b", "", "c"]
    assert records(BlockRef("lines", b"", args=TEXT)) == []
    assert records(BlockRef("lines", b"\n", args=TEXT)) == [""]


def test_only_line_ends_end_lines() -> None:
    """E10: str.splitlines would cut at eight other characters, too."""
    text = "a\x0bb\x0cc\x1cd\x85e\u2028f\rg\x00h"
    assert records(BlockRef("lines", text.encode() + b"\n", args=TEXT)) == [text]


def test_bytes_lines_are_not_decoded() -> None:
    assert records(BlockRef("bytes-lines", b"a\xff\r\nb\n")) == [b"a\xff", b"b"]


def test_a_byte_order_mark_is_taken_off_the_beginning_of_files_only(tmp_path: Path) -> None:
    """E10: a received block may begin anywhere in its stream."""
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n")
    assert records(file_ref(path, "file-lines", (*TEXT, None))) == ["a", "\ufeffb"]
    assert records(file_ref(path, "file-lines", (*TEXT, None), offset=5)) == ["\ufeffb"]
    assert records(file_ref(path, "file-bytes-lines", (*TEXT, None))) == [b"a", b"\xef\xbb\xbfb"]
    assert records(BlockRef("lines", b"\xef\xbb\xbfa\n", args=TEXT)) == ["\ufeffa"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    lines=st.lists(st.text(st.sampled_from("abé€\U0001f600"), max_size=12), max_size=20),
    ends_with_line_end=st.booleans(),
    cuts=st.lists(st.integers(0, 300), max_size=6),
)
@pytest.mark.usefixtures("small_chunks")
def test_parts_of_a_file_share_no_line_and_miss_none(
    tmp_path: Path, lines: list[str], ends_with_line_end: bool, cuts: list[int]
) -> None:
    path = tmp_path / "file"
    text = "\n".join(lines) + ("\n" if ends_with_line_end else "")
    path.write_bytes(text.encode())
    size = path.stat().st_size
    bounds = sorted({0, size, *(cut for cut in cuts if cut < size)})
    parts = [
        record
        for start, stop in itertools.pairwise(bounds)
        for record in records(file_ref(path, "file-lines", (*TEXT, None), start, stop - start))
    ]
    expected = text.split("\n")
    if not expected[-1]:
        expected.pop()
    assert parts == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(data=st.binary(max_size=100))
@pytest.mark.usefixtures("small_chunks")
def test_all_ways_to_read_lines_agree(tmp_path: Path, data: bytes) -> None:
    plain, zipped = tmp_path / "plain", tmp_path / "zipped.gz"
    plain.write_bytes(data)
    zipped.write_bytes(gzip.compress(data))
    blocks = [
        BlockRef("lines", data, args=("latin-1", "strict")),
        file_ref(plain, "file-lines", ("latin-1", "strict", None)),
        file_ref(zipped, "file-lines", ("latin-1", "strict", "gzip")),
    ]
    first, second, third = (records(block) for block in blocks)
    assert first == second == third
    assert [count_lines(block) for block in blocks] == [len(first)] * 3


def test_a_line_far_longer_than_a_chunk_is_read_in_linear_time(tmp_path: Path) -> None:
    """E6: 64 MiB without line end, in a fraction of what copying at each chunk would take."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * (64 << 20) + b"\nend\n")
    long, end = records(file_ref(path, "file-lines", (*TEXT, None)))
    assert (len(long), end) == (64 << 20, "end")


def test_a_part_that_lies_within_a_line_has_no_records(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100 + b"\nend\n")
    assert records(file_ref(path, "file-lines", (*TEXT, None), 10, 20)) == []


@pytest.mark.parametrize(
    ("format", "args"),
    [("file-lines", (*TEXT, None)), ("file-bytes-lines", (*TEXT, None)), ("file-fixed", (2,))],
)
def test_a_file_that_became_shorter_is_not_taken_for_whole(
    tmp_path: Path, format: str, args: tuple[Any, ...]
) -> None:
    """E12"""
    path = tmp_path / "file"
    path.write_bytes(b"a\nb\n")
    ref = file_ref(path, format, args)
    path.write_bytes(b"a\n")
    with pytest.raises(CorruptionError, match="2 bytes shorter"):
        records(ref)


def test_a_file_that_is_gone_is_told_by_its_name(tmp_path: Path) -> None:
    ref = BlockRef("file-lines", None, str(tmp_path / "gone"), 0, 4, -1, (*TEXT, None))
    with pytest.raises(FileNotFoundError, match="gone"):
        records(ref)


@pytest.mark.parametrize("format", ["file-lines", "file-whole", "file-fixed"])
@pytest.mark.parametrize("damage", ["cut", "flip", "none"])
def test_a_damaged_gzip_file_is_told_by_its_name(tmp_path: Path, format: str, damage: str) -> None:
    """E11"""
    path = tmp_path / "file.gz"
    data = gzip.compress(random.Random(1).randbytes(100_000))
    path.write_bytes(
        {"cut": data[:-1000], "flip": data[:50_000] + b"\0\0\0\0" + data[50_004:], "none": b"no gzip at all"}[
            damage
        ]
    )
    args = {
        "file-lines": ("latin-1", "strict", "gzip"),
        "file-whole": (None, "", "gzip"),
        "file-fixed": (1, "gzip"),
    }
    with pytest.raises(CorruptionError, match=r"file\.gz"):
        records(file_ref(path, format, args[format]))


@pytest.mark.parametrize("format", ["file-lines", "file-whole"])
def test_a_gzip_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    """E11"""
    monkeypatch.setattr(formats, "DECOMPRESSED_RATIO_MAX", 100)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(32 << 20)))
    with pytest.raises(CorruptionError, match="inflates"):
        records(file_ref(path, format, ("latin-1", "strict", "gzip")))


def test_an_honest_gzip_file_of_zeros_is_read(tmp_path: Path) -> None:
    """E11: the bound is above what gzip can do, which is what plain repetition gives."""
    path = tmp_path / "zeros.gz"
    path.write_bytes(gzip.compress(b"0\n" * 1_000_000))
    assert len(records(file_ref(path, "file-lines", (*TEXT, "gzip")))) == 1_000_000


def test_records_of_one_length_are_cut_apart(tmp_path: Path) -> None:
    data = bytes(range(250)) * 12
    expected = [data[at : at + 3] for at in range(0, 3000, 3)]
    path = tmp_path / "file"
    path.write_bytes(data)
    assert records(BlockRef("fixed", data, args=(3,))) == expected
    assert records(file_ref(path, "file-fixed", (3,))) == expected
    assert records(file_ref(path, "file-fixed", (3,), 300, 30)) == expected[100:110]


def test_a_broken_last_record_is_refused(tmp_path: Path) -> None:
    """SRC-6"""
    with pytest.raises(CorruptionError, match="record_bytes=3"):
        records(BlockRef("fixed", b"abcd", args=(3,)))


def test_frames_are_cut_apart() -> None:
    payloads = [b"", b"a", b"x" * 1000]
    data = b"".join(struct.pack(">I", len(payload)) + payload for payload in payloads)
    assert records(BlockRef("frames", data)) == payloads


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\x05abc", b"\xff\xff\xff\xff"])
def test_a_broken_frame_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptionError, match="within a frame"):
        records(BlockRef("frames", data))


def test_python_objects_come_back() -> None:
    items = [1, "a", None, (1, 2), {"a": [1]}]
    assert records(BlockRef("pickle", encode_records(items))) == items


def test_a_range_needs_no_bytes() -> None:
    assert records(BlockRef("range", args=(2, 10, 3))) == [2, 5, 8]


def test_whole_files_are_pairs(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes("é\n".encode())
    assert records(file_ref(path, "file-whole", ("utf-8", "strict", None))) == [(str(path), "é\n")]
    assert records(file_ref(path, "file-whole", (None, "strict", None))) == [(str(path), b"\xc3\xa9\n")]
    assert records(file_ref(path, "file-path", ())) == [str(path)]


def test_a_new_format_can_be_added() -> None:
    formats.register_format("test-twice", lambda ref: iter([[ref.data, ref.data]]))
    try:
        assert records(BlockRef("test-twice", b"x")) == [b"x", b"x"]
    finally:
        del formats._DECODERS["test-twice"]


def test_pickled_lists_in_one_file_come_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(encode_records([1, 2]) + encode_records([]) + encode_records(["a"]))
    assert records(file_ref(path, "file-pickles", ())) == [1, 2, "a"]
