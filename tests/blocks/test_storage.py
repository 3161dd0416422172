from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine.blocks.storage import BlockWriter, read_bytes
from aiostream_engine.errors import BlocksReleasedError, StorageError
from aiostream_engine.types import BlockRef


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    memory.mkdir()
    disk.mkdir()
    return memory, disk


def writer_in(places: tuple[Path, Path]) -> BlockWriter:
    return BlockWriter(str(places[0]), str(places[1]), "w")


def test_parts_lie_one_after_the_other(places: tuple[Path, Path]) -> None:
    path, offsets = writer_in(places).write([b"abc", b"", memoryview(b"defg")])
    assert offsets == [0, 3, 3]
    assert Path(path).read_bytes() == b"abcdefg"
    assert Path(path).parent == places[0]


def test_no_two_blocks_share_a_name(places: tuple[Path, Path]) -> None:
    writer = writer_in(places)
    assert len({writer.write([b"x"])[0] for _ in range(100)}) == 100


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
@pytest.mark.parametrize("offset", [0, 1, 5000])
def test_what_is_written_is_read_back(places: tuple[Path, Path], size: int, offset: int) -> None:
    """Small blocks are read, large ones are mapped."""
    data = os.urandom(size)
    path, offsets = writer_in(places).write([b"x" * offset, data, b"behind"])
    ref = BlockRef("lines", None, path, offsets[1], size)
    assert bytes(read_bytes(ref)) == data


def test_an_inline_block_is_read_as_it_is() -> None:
    assert read_bytes(BlockRef("lines", b"abc")) == b"abc"


def test_a_mapped_block_stays_readable_after_its_release(places: tuple[Path, Path]) -> None:
    path, _ = writer_in(places).write([b"x" * 300_000])
    data = read_bytes(BlockRef("lines", None, path, 0, 300_000))
    os.unlink(path)
    assert bytes(data[-3:]) == b"xxx"


def test_a_released_block_says_that_its_batch_is_finished(places: tuple[Path, Path]) -> None:
    with pytest.raises(BlocksReleasedError, match="remember"):
        read_bytes(BlockRef("lines", None, str(places[0] / "gone"), 0, 10))


def test_a_block_can_be_sent_to_disk_at_once(places: tuple[Path, Path]) -> None:
    path, _ = writer_in(places).write([b"abc"], spill=True)
    assert Path(path).parent == places[1]


def _fail_in(monkeypatch: pytest.MonkeyPatch, places: list[Path], error: int) -> None:
    write = os.write

    def failing(fd: int, data: Any) -> int:
        if Path(os.readlink(f"/proc/self/fd/{fd}")).parent in places:
            raise OSError(error, os.strerror(error))
        return write(fd, data)

    monkeypatch.setattr(os, "write", failing)


def test_a_block_goes_to_disk_when_memory_is_full(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_in(monkeypatch, [places[0]], errno.ENOSPC)
    path, _ = writer_in(places).write([b"abc"])
    assert Path(path).parent == places[1]
    assert os.listdir(places[0]) == []


def test_no_room_at_all_is_told_with_a_remedy_and_leaves_nothing(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_in(monkeypatch, list(places), errno.ENOSPC)
    with pytest.raises(StorageError, match="spill_directory"):
        writer_in(places).write([b"abc"])
    assert os.listdir(places[0]) == os.listdir(places[1]) == []


def test_another_error_is_not_taken_for_a_lack_of_room(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_in(monkeypatch, [places[0]], errno.EIO)
    with pytest.raises(StorageError, match="cannot write"):
        writer_in(places).write([b"abc"])


def test_short_writes_are_continued(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:3]))
    path, _ = writer_in(places).write([b"0123456789"])
    assert Path(path).read_bytes() == b"0123456789"
