"""Partitions as files."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from aiostream_engine.durable.saving import save_pickle_partition, save_text_partition


def test_records_are_lines_of_a_numbered_file(tmp_path: Path) -> None:
    assert save_text_partition(str(tmp_path), 7, iter(["a", 1, None])) == len("a\n1\nNone\n")
    assert (tmp_path / "part-00007").read_text() == "a\n1\nNone\n"


def test_an_empty_partition_is_an_empty_file(tmp_path: Path) -> None:
    assert save_text_partition(str(tmp_path), 0, []) == 0
    assert (tmp_path / "part-00000").read_bytes() == b""


def test_pickled_records_come_in_lists_one_after_the_other(tmp_path: Path) -> None:
    save_pickle_partition(str(tmp_path), 0, range(25_000))
    records: list[int] = []
    with (tmp_path / "part-00000").open("rb") as file:
        for _ in range(3):
            records.extend(pickle.load(file))
    assert records == list(range(25_000))


def test_a_partition_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        save_text_partition(str(tmp_path), 0, (1 // n for n in (1, 0)))
    assert list(tmp_path.iterdir()) == []
