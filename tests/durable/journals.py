"""Small journals for the tests of this room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aiostream_engine.durable.files import Files
from aiostream_engine.durable.journal import Journal
from aiostream_engine.durable.journal_reader import ScanResult, make_durable, scan

Record = tuple[int, bytes, bytes]


def write(
    directory: Path,
    groups: Sequence[Sequence[Record]],
    *,
    epoch: int = 1,
    files: Files | None = None,
    **options: int,
) -> Journal:
    """Append groups of records behind what is there; the journal is closed when it is given back."""
    result = ScanResult()
    for _ in scan(str(directory), result):
        pass
    make_durable(str(directory), result, files or Files())
    journal = Journal(
        str(directory), epoch=epoch, number=result.number, checksum=result.checksum, files=files, **options
    )
    try:
        for group in groups:
            journal.begin()
            for record in group:
                journal.append(*record)
            journal.sync()
    finally:
        journal.close()
    return journal


def read(directory: Path) -> tuple[list[Record], ScanResult]:
    """All records that count."""
    result = ScanResult()
    records = []
    for record in scan(str(directory), result):
        ref = record.payload
        with open(ref.path, "rb") as file:
            file.seek(ref.offset)
            records.append((record.kind, record.meta, file.read(ref.length)))
    return records, result


def segment(directory: Path, index: int = -1) -> Path:
    """A segment file, the last one by default."""
    return sorted(directory.glob("journal-*.log"))[index]
