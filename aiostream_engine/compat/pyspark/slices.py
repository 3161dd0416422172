"""Cutting data into partitions as Spark does: lists by batches, files by splits."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

from .errors import SparkRuntimeException

__all__ = ["files_of", "slices", "splits"]

_SLOP = 1.1  # a last split up to this much larger than the others is not cut again
_SPLIT_BYTES_MAX = 32 * 1024 * 1024


def slices(records: Sequence[Any], partitions: int, batch_size: int) -> list[list[Any]]:
    """``records`` as partitions. Not records but batches of them are dealt out evenly."""
    size = max(1, min(len(records) // partitions, batch_size or 1024))
    items = list(records)
    batches = [items[at : at + size] for at in range(0, len(items), size)]
    bounds = [len(batches) * index // partitions for index in range(partitions + 1)]
    return [list(itertools.chain.from_iterable(batches[a:b])) for a, b in itertools.pairwise(bounds)]


def splits(size: int, goal: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of the parts of a file of ``size`` bytes, of about ``goal`` bytes each."""
    step, offset = max(1, min(goal, _SPLIT_BYTES_MAX)), 0
    while (size - offset) / step > _SLOP:
        yield offset, step
        offset += step
    if offset < size:
        yield offset, size - offset


def files_of(paths: str) -> list[str]:
    """Files that a comma-separated list of files, directories and globs names; hidden ones are left out.

    Raises SparkRuntimeException where one names nothing.
    """
    return [file for path in paths.split(",") for file in _files_of(path.strip())]


def _files_of(path: str) -> list[str]:
    name = local_path(path)
    found = sorted(glob.glob(name)) if glob.has_magic(name) else [name] if os.path.exists(name) else []
    if not found:
        url = f"file:{os.path.abspath(name)}"
        raise SparkRuntimeException(
            f"Input Pattern {url} matches 0 files"
            if glob.has_magic(name)
            else f"Input path does not exist: {url}"
        )
    return [file for entry in found for file in _in_directory(entry)]


def _in_directory(entry: str) -> Iterator[str]:
    if not os.path.isdir(entry):
        yield os.path.abspath(entry)
        return
    for name in sorted(os.listdir(entry)):
        path = os.path.abspath(os.path.join(entry, name))
        if not name.startswith(("_", ".")) and os.path.isfile(path):
            yield path


def local_path(path: str) -> str:
    """A path or ``file:`` URL as a path. Raises SparkRuntimeException for other schemes."""
    if path.startswith("file:"):
        return "/" + path.removeprefix("file:").lstrip("/")
    scheme, colon, _rest = path.partition("://")
    if colon:
        raise SparkRuntimeException(f"No FileSystem for scheme '{scheme}': this layer reads local files")
    return path
