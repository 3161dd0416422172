"""Changes to a checkpoint directory that only a person may ask for. What is removed is kept beside.

All is for a directory whose lock is held, and may be repeated when it was cut short.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import CorruptionError
from .files import Files
from .journal_format import CHECKSUM, HEAD, SegmentName, head_bytes, segment_names
from .journal_reader import ScanResult, scan

__all__ = ["JournalEnd", "end_after", "remove_after", "set_aside"]


class JournalEnd(NamedTuple):
    """The end of a record in the journal. segments: those up to it; none when ``number`` is 0."""

    number: int
    segments: tuple[SegmentName, ...] = ()
    offset: int = 0


def end_after(journal: str, number: int | None = None) -> tuple[JournalEnd, ScanResult, str]:
    """Where record ``number`` ends, or the last good one before it; None for the last good one of all.

    Gives the end, what the scan found, and the text of the damage that ended it, if any did.
    """
    result, damage = ScanResult(), ""
    names = {name.file: name for name in segment_names(journal)}
    end = JournalEnd(0)
    try:
        for record in scan(journal, result):
            ref = record.payload
            if number is not None and ref.number > number:
                break
            segments = tuple(names[file] for file in result.segments)
            end = JournalEnd(ref.number, segments, ref.offset + ref.length + CHECKSUM.size)
    except CorruptionError as error:
        damage = str(error)
    return end, result, damage


def remove_after(journal: str, end: JournalEnd, backup: str, files: Files | None = None) -> int:
    """Give up all that stands behind ``end``; gives how many bytes went.

    Whole segments are moved to the new directory ``backup``, the rest of the last one is copied there:
    putting all back together gives what there was. Raises OSError.
    """
    files = files or Files()
    files.make_directory(backup)
    kept = {name.file for name in end.segments}
    others = sorted(name for name in os.listdir(journal) if name.endswith(".log") and name not in kept)
    removed = _copy_tail(journal, end, backup) if end.segments else 0
    removed += sum(os.path.getsize(os.path.join(journal, name)) for name in others)
    if os.path.exists(os.path.join(journal, HEAD)):
        shutil.copyfile(os.path.join(journal, HEAD), os.path.join(backup, HEAD))
    files.sync_directory(backup)
    _set_head(journal, end, files)
    _move(journal, reversed(others), backup, files)
    if end.segments:
        _truncate(os.path.join(journal, end.segments[-1].file), end.offset, files)
    return removed


def _copy_tail(journal: str, end: JournalEnd, backup: str) -> int:
    name = end.segments[-1].file
    with open(os.path.join(journal, name), "rb") as source:
        source.seek(end.offset)
        target = os.path.join(backup, f"{name}.from-{end.offset}")
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as copy:
            shutil.copyfileobj(source, copy)
            size = copy.tell()
            copy.flush()
            os.fsync(copy.fileno())
    return size


def _set_head(journal: str, end: JournalEnd, files: Files) -> None:
    path = os.path.join(journal, HEAD)
    if end.segments:
        files.replace(path, head_bytes(end.segments[-1]))
    elif os.path.exists(path):
        files.unlink(path)
        files.sync_directory(journal)


def _move(journal: str, names: Iterable[str], backup: str, files: Files) -> None:
    for name in names:
        files.rename(os.path.join(journal, name), os.path.join(backup, name))
    files.sync_directory(backup)
    files.sync_directory(journal)


def _truncate(path: str, size: int, files: Files) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        files.truncate(fd, size)
        files.sync(fd)
    finally:
        files.close(fd)


def set_aside(directory: str, aside: str, files: Files | None = None) -> None:
    """Move the content of a checkpoint directory to ``aside``, a new directory on the same file system.

    Only the lock stays, and the epoch, so that a driver that was paused for long still finds out that
    it is not its turn. Raises OSError.
    """
    files = files or Files()
    files.make_directory(aside)
    for name in ("META", "journal"):
        if os.path.exists(os.path.join(directory, name)):
            files.rename(os.path.join(directory, name), os.path.join(aside, name))
    if os.path.exists(os.path.join(directory, "EPOCH")):
        shutil.copyfile(os.path.join(directory, "EPOCH"), os.path.join(aside, "EPOCH"))
    files.sync_directory(aside)
    files.sync_directory(directory)
