"""Files are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiostream_engine.durable import atomic_file
from aiostream_engine.durable.atomic_file import write_atomically


def test_a_file_holds_all_chunks_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert write_atomically(str(path), [b"one", b"", b"two"]) == 6
    assert path.read_bytes() == b"onetwo"
    assert os.listdir(tmp_path) == ["file"]


def failing() -> Iterator[bytes]:
    yield b"half"
    raise ValueError("boom")


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_failure_leaves_what_was_there(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(ValueError, match="boom"):
        write_atomically(str(path), failing())
    assert os.listdir(tmp_path) == ([] if before is None else ["file"])
    assert before is None or path.read_bytes() == before


def test_an_old_file_stays_whole_until_the_new_one_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def looking() -> Iterator[bytes]:
        yield b"new"
        assert path.read_bytes() == b"old"

    write_atomically(str(path), looking())
    assert path.read_bytes() == b"new"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """J6: what lies behind a planted link is not written to."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"untouched")
    path = tmp_path / "out"
    path.symlink_to(secret)
    write_atomically(str(path), [b"data"])
    assert secret.read_bytes() == b"untouched"
    assert not path.is_symlink()


def test_the_file_is_synced_before_its_name_and_the_name_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(
            atomic_file.os,
            name,
            lambda *args, name=name, original=original: (done.append(name), original(*args))[1],
        )
    write_atomically(str(tmp_path / "file"), [b"x"])
    assert done == ["fsync", "replace", "fsync"]
