"""Dead letters that were written as JSON lines, as text to be fed again."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from ..sinks.dead_letters import record_of_entry
from ..sinks.files import MANIFESTS, read_committed
from .corpus import PIECE_BYTES, Corpus

__all__ = ["Letters"]


class Letters(Corpus):
    """The records of dead letters, once.

    path: a file of entries of :func:`..sinks.dead_letters.dead_letter_entry`, or a directory of a file
        sink, of which the committed files are read in order.
    unsendable: entries that hold no record that can be sent again as a line; they are left out.

    Raises ValueError for a file that holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.paths = (path,)
        self.files = tuple(_files(path))
        # Read once before it is needed: what is wrong is better told now than in the middle.
        self.unsendable = sum(record is None for file in self.files for record in _records(file))

    def pieces(self, *, loop: bool) -> Iterator[list[bytes]]:
        lines: list[bytes] = []
        size = 0
        for record in itertools.chain.from_iterable(map(_records, self.files)):
            if record is not None:
                lines.append(record + b"\n")
                size += len(lines[-1])
            if size >= PIECE_BYTES:
                yield lines
                lines, size = [], 0
        if lines:
            yield lines


def _records(path: Path) -> Iterator[bytes | None]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield record_of_entry(json.loads(line))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if (path / MANIFESTS).is_dir():
        return read_committed(path)
    return sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
