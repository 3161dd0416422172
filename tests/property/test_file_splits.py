"""Wherever a file is cut, each line is read once, whole and in order."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from aiostream_engine.blocks.formats import count_lines, read_chunks
from aiostream_engine.types import BlockRef
from tests.property.engines import Engine

# Line ends of every kind, characters of several bytes, long lines, no last line end.
content = st.lists(
    st.sampled_from(["\n", "\r\n", "\r", "a", "bc ", "€", "\x85", "x" * 40, ""]), max_size=40
).map("".join)


def lines_of(text: str) -> list[str]:
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def part(path: Path, start: int, stop: int) -> BlockRef:
    return BlockRef("file-lines", None, str(path), start, stop - start, -1, ("utf-8", "strict", None))


@given(text=content, cuts=st.lists(st.integers(0, 400), max_size=6))
def test_parts_cut_anywhere_share_no_line_and_miss_none(tmp_path: Path, text: str, cuts: list[int]) -> None:
    path = tmp_path / "file.txt"
    data = text.encode()
    path.write_bytes(data)
    ends = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    refs = [part(path, start, stop) for start, stop in itertools.pairwise(ends)]
    found = [line for ref in refs for chunk in read_chunks(ref) for line in chunk]
    assert found == lines_of(text)
    assert sum(map(count_lines, refs)) == len(found)


@given(text=content, partitions=st.integers(1, 30), packed=st.booleans())
def test_a_file_gives_the_same_lines_in_any_number_of_partitions(
    engine: Engine, tmp_path: Path, text: str, partitions: int, packed: bool
) -> None:
    path = tmp_path / ("file.txt.gz" if packed else "file.txt")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    rdd = engine.context.text_file(str(path), partitions)
    assert engine.collect(rdd) == lines_of(text)
    assert engine.run(rdd.count()) == len(lines_of(text))


@given(records=st.integers(0, 60), size=st.integers(1, 9), partitions=st.integers(1, 10))
def test_records_of_fixed_length_are_cut_between_them(
    engine: Engine, tmp_path: Path, records: int, size: int, partitions: int
) -> None:
    path = tmp_path / "binary"
    data = bytes(n % 251 for n in range(records * size))
    path.write_bytes(data)
    expected = [data[at : at + size] for at in range(0, len(data), size)]
    assert engine.collect(engine.context.binary_records(str(path), size, partitions)) == expected
