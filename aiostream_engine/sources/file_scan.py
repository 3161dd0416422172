"""Finding the files that a directory stream should read: listing, identity, settling. No asyncio here.

A file *is* its device and inode numbers with its size, time and first bytes, not its name: so a
renamed file is not read again, and a new file under an old name is read, also where the file
system gives it the inode number of the one it replaced.
"""

from __future__ import annotations

import contextlib
import fnmatch
import heapq
import os
import stat
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from ..clock import Clock
from ..errors import SourceError

__all__ = [
    "FileIdentity",
    "FileKey",
    "FilePattern",
    "FileScan",
    "FoundFile",
    "KnownFiles",
    "ScanResult",
    "identify",
]

_HEAD_BYTES = 1024
_MAGIC = frozenset("*?[")


FileKey = tuple[int, int]  # device, inode


class FileIdentity(NamedTuple):
    """What is remembered of a file; plain numbers, so that it can be stored as JSON."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    head_bytes: int
    head_crc: int


class FoundFile(NamedTuple):
    """A regular file that was found and is not known."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int


@dataclass(slots=True)
class ScanResult:
    """What one scan found.

    files: unknown and settled ones, in order, no more than asked for.
    more: there were more than that.
    unsettled: how many were seen that still change.
    changed: paths of known files that have grown, shrunk or been touched since they were read.
    present: keys of the known files that still exist.
    seconds: how long it took.
    notes: what happened on the way, counted by name.
    """

    files: list[FoundFile] = field(default_factory=list)
    more: bool = False
    unsettled: int = 0
    changed: list[tuple[str, FileIdentity]] = field(default_factory=list)
    present: set[FileKey] = field(default_factory=set)
    seconds: float = 0.0
    notes: Counter[str] = field(default_factory=Counter)


class KnownFiles(Protocol):
    """What a scan asks of the memory of files that were read."""

    def get(self, key: FileKey) -> FileIdentity | None: ...
    def is_gone(self, key: FileKey) -> bool: ...


class FilePattern:
    """A directory, or a glob of directories and files (row SRC-7); ``**`` and ``recursive`` go down.

    Names that begin with a dot are not matched by a wildcard or found in a directory (SRC-8).
    Going down does not follow links to directories, so that no loop of links is entered (E13).
    """

    def __init__(self, path: str, *, recursive: bool) -> None:
        self.path = path
        self.recursive = recursive
        self.has_magic = bool(_MAGIC & set(path))

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """Non-directories that match, in the order of the file system. Raises OSError if there is none."""
        if not self.has_magic:
            yield from self._files_in(self.path)
            return
        parts = os.path.normpath(self.path).split(os.sep)
        first = next(i for i, part in enumerate(parts) if _MAGIC & set(part))
        base = os.sep.join(parts[:first]) or (os.sep if self.path.startswith(os.sep) else os.curdir)
        yield from self._expand(base, parts[first:])

    def _expand(self, directory: str, parts: list[str]) -> Iterator[os.DirEntry[str]]:
        part, rest = parts[0], parts[1:]
        if part == "**":
            yield from self._expand(directory, rest) if rest else self._files_in(directory)
            for entry in _scan(directory):
                if _is_plain_directory(entry):
                    yield from self._expand(entry.path, parts)
            return
        for entry in _scan(directory):
            if not fnmatch.fnmatchcase(entry.name, part):
                continue
            is_directory = _is_directory(entry)
            if is_directory and rest:
                yield from self._expand(entry.path, rest)
            elif is_directory:
                yield from self._files_in(entry.path)
            elif not rest:
                yield entry

    def _files_in(self, directory: str) -> Iterator[os.DirEntry[str]]:
        for entry in _scan(directory, missing_ok=directory != self.path):
            if not _is_directory(entry):
                yield entry
            elif self.recursive and _is_plain_directory(entry):
                yield from self._files_in(entry.path)


def _scan(directory: str, *, missing_ok: bool = True) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry
    except (FileNotFoundError, NotADirectoryError):
        if not missing_ok:
            raise


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, for one
        return False


def _is_plain_directory(entry: os.DirEntry[str]) -> bool:
    return not entry.is_symlink() and _is_directory(entry)


class FileScan:
    """One way of looking at one pattern; remembers nothing but what is not settled yet.

    Parameters
    ----------
    pattern: where to look.
    accept: further condition on a path; runs in the thread of the scan.
    order: ``mtime`` (then name) or ``name``.
    settled_for_s: take a file when it has not changed for so long.
    temporary_suffixes: endings of names that are not ready.
    take_empty: give empty files, too.
    entries_max: most entries of one scan.
    """

    def __init__(
        self,
        pattern: FilePattern,
        *,
        accept: Callable[[str], object] | None,
        order: Literal["mtime", "name"],
        settled_for_s: float,
        temporary_suffixes: tuple[str, ...],
        take_empty: bool,
        entries_max: int,
    ) -> None:
        self.pattern = pattern
        self._accept = accept
        self._order = order
        self._settled_for_s = settled_for_s
        self._temporary_suffixes = temporary_suffixes
        self._take_empty = take_empty
        self._entries_max = entries_max
        self._watched: dict[FoundFile, float] = {}

    def run(self, known: KnownFiles, files_max: int, clock: Clock) -> ScanResult:
        """Look once. Raises OSError when the directory is not there, SourceError over ``entries_max``.

        known: the files that were read.
        files_max: most files to give; the first ones in order, whatever there are more.
        clock: a file is settled when its time is ``settled_for_s`` ago, or when it was seen
            unchanged for so long, which needs no clock in common with its host.
        """
        result, started = ScanResult(), time.perf_counter()
        watched: dict[FoundFile, float] = {}
        candidates = self._unknown(known, result)
        settled = (file for file in candidates if self._is_settled(file, watched, result, clock))
        key = self._key
        files = heapq.nsmallest(files_max + 1, settled, key=key)
        result.more = len(files) > files_max
        result.files = files[:files_max]
        self._watched = watched
        result.seconds = time.perf_counter() - started
        return result

    def all_unknown(self, known: KnownFiles) -> Iterator[FoundFile]:
        """All unknown files, settled or not, in no order. Raises as :meth:`run`."""
        return self._unknown(known, ScanResult())

    def _key(self, file: FoundFile) -> tuple[int | str, str]:
        return (file.mtime_ns if self._order == "mtime" else file.path, file.path)

    def _unknown(self, known: KnownFiles, result: ScanResult) -> Iterator[FoundFile]:
        seen: set[FileKey] = set()  # two names of one file are one file
        for number, entry in enumerate(self.pattern.entries()):
            if number >= self._entries_max:
                raise SourceError(
                    f"{self.pattern.path} has more than {self._entries_max} files: "
                    "move files away that were read, or raise entries_max"
                )
            file = self._regular(entry, result)
            if file is None or (key := (file.device, file.inode)) in seen:
                continue
            seen.add(key)
            identity = known.get(key)
            if identity is None or self._is_another(file, identity, gone=known.is_gone(key)):
                yield file
                continue
            result.present.add(key)
            if (identity.size, identity.mtime_ns) != (file.size, file.mtime_ns):
                change = "shrunk" if file.size < identity.size else "changed"
                result.notes[f"files_{change}"] += 1
                result.changed.append((file.path, identity._replace(size=file.size, mtime_ns=file.mtime_ns)))

    def _is_another(self, file: FoundFile, identity: FileIdentity, *, gone: bool) -> bool:
        """True when a removed file's numbers were given to a new one."""
        if (identity.size, identity.mtime_ns) == (file.size, file.mtime_ns):
            return False
        return gone or _has_other_head(file, identity)

    def _regular(self, entry: os.DirEntry[str], result: ScanResult) -> FoundFile | None:
        if entry.name.endswith(self._temporary_suffixes):
            return None
        try:
            if not entry.is_file():
                return None
            status = entry.stat()
        except FileNotFoundError:
            result.notes["files_vanished"] += 1
            return None
        except OSError:  # such as a loop of links
            return None
        if status.st_size == 0 and not self._take_empty:
            return None  # it has no records yet; it is looked at again
        if self._accept is not None and not self._accept(entry.path):
            return None
        return FoundFile(entry.path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def _is_settled(
        self, file: FoundFile, watched: dict[FoundFile, float], result: ScanResult, clock: Clock
    ) -> bool:
        if self._settled_for_s <= 0 or clock.time() - file.mtime_ns / 1e9 >= self._settled_for_s:
            return True
        # Keyed by size and time, too: a change starts the watch anew.
        now = clock.monotonic()
        since = watched[file] = self._watched.get(file, now)
        if now - since >= self._settled_for_s:
            return True
        result.unsettled += 1
        return False


def identify(file: FoundFile) -> FileIdentity | None:
    """The identity of a file that is about to be read; None when it is gone or no longer the same file."""
    try:
        # Not to block on a FIFO that took the name meanwhile.
        fd = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or (status.st_dev, status.st_ino) != (file.device, file.inode):
            return None
        head = os.pread(fd, min(_HEAD_BYTES, status.st_size), 0)
    except OSError:
        return None
    finally:
        os.close(fd)
    return FileIdentity(
        file.device, file.inode, status.st_size, status.st_mtime_ns, len(head), zlib.crc32(head)
    )


def _has_other_head(file: FoundFile, identity: FileIdentity) -> bool:
    """True when the file does not begin with what was remembered, so that it is another one."""
    with contextlib.suppress(OSError), open(file.path, "rb", buffering=0) as opened:
        head = opened.read(min(identity.head_bytes, file.size))
        if len(head) < identity.head_bytes:
            return False  # truncated: what is left of it was read
        return zlib.crc32(head) != identity.head_crc
    return False
