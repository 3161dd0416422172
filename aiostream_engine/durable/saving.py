"""Partitions as files, written by the worker that has them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any

from ..blocks.pickling import dumps
from .atomic_file import write_atomically

__all__ = ["save_pickle_partition", "save_text_partition"]

_RECORDS_PER_CHUNK = 10_000


def save_text_partition(directory: str, index: int, records: Iterable[Any]) -> int:
    """``part-<index>`` with a line each, records that are no str by ``str``. Gives the bytes written."""
    return write_atomically(os.path.join(directory, f"part-{index:05d}"), _text(records))


def _text(records: Iterable[Any]) -> Iterator[bytes]:
    for chunk in _chunks(records):
        yield "".join(f"{record}\n" for record in chunk).encode()


def save_pickle_partition(directory: str, index: int, records: Iterable[Any]) -> int:
    """``part-<index>`` as a sequence of pickled lists. Gives the bytes written."""
    chunks = (dumps(chunk) for chunk in _chunks(records))
    return write_atomically(os.path.join(directory, f"part-{index:05d}"), chunks)


def _chunks(records: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(records)
    while chunk := list(itertools.islice(iterator, _RECORDS_PER_CHUNK)):
        yield chunk
