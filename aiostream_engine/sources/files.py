"""Streams of the files of a directory: lines, fixed-length records, whole files, any reader (SRC-4 ff.)."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

from ..errors import LifecycleError, OptionError, SourceError
from ..observe.events import ReceiverInfo
from ..types import BatchTime
from .base import BatchInput, ReplayableSource, SourceContext
from .daemon_thread import DaemonThread
from .file_format import FileFormat, FileKind
from .file_memory import FileMemory
from .file_scan import FileIdentity, FilePattern, FileScan, FoundFile, ScanResult, identify
from .receiver import cancel_and_wait
from .socket_connection import check_seconds

__all__ = ["FileSource"]

T = TypeVar("T")
_log = logging.getLogger(__name__)

MIB = 1024 * 1024
_FILES_NAMED_MAX = 100
_HEADS_AT_START_MAX = 20_000
_POLL_S_MIN = 0.01
_QUICK_S = 0.1
_SCANS_PER_LOOK_MIN = 4  # listing a huge directory takes a fifth of the time at most


class FileSource(ReplayableSource):
    """The files of a directory, each once, read in the workers.

    At every batch the directory is listed, in a thread; one so large that this takes over a tenth
    of a second is listed less often (the cost that row SRC-12 warns of stays bounded).

    A file is known by its device, inode, size, time and first bytes: so a file that comes late, an
    old one that was moved in, and a new one under an old name are read, and a renamed one is not
    read again. What is appended to a file after it was taken is not read: it is reported and
    counted (``files_changed``, ``files_shrunk``); write elsewhere and rename into the directory,
    or use ``settled_for_s``.

    Files come in the order of ``order``; lines of one file keep their order. Empty files of text
    and fixed records are looked at again until there is something in them. A file that vanishes
    before its batch is skipped and counted; one that vanishes or shrinks after that fails the batch.

    Parameters
    ----------
    path: a directory, or a glob of directories and files. Names beginning with a dot are left out.
    kind: what a record is: ``text`` a line, ``fixed`` bytes of one length, ``whole`` a pair
        (path, content), ``path`` what ``reader`` makes of the path.
    encoding, errors: of text; with ``errors="strict"`` lines are decoded in a step with an error
        policy. For ``whole`` an encoding of None gives bytes.
    record_bytes: length of a ``fixed`` record.
    reader: for ``path``: a function of a path that gives an iterable of records; runs in the workers.
    recursive: go down into directories, not through links.
    filter: a condition on the path; a file that it refuses is asked about again.
    order: ``mtime`` (oldest first, then by name) or ``name``.
    new_files_only: leave out what is there at start.
    settled_for_s: take a file once it has not changed for so long.
    temporary_suffixes: endings of names that are not ready to be read.
    files_per_batch_max, bytes_per_batch_max: bounds of one batch; one file is always taken.
    split_bytes: larger plain files of ``text`` and ``fixed`` are read in parts, smaller parts
        when there would be fewer than workers. ``.gz`` files are inflated, in one part.
    follow: keep looking for new files; False finishes when those there at start are read.
    list_interval_s: least time between two listings, and how often to look between batches.
    list_timeout_s: how long a batch waits for a listing, such as of a file system that hangs;
        it then goes without, and the next one looks at what came of it.
    remembered_files_max: most files remembered as read; gone ones are forgotten first.
    entries_max: most entries of one listing; more fail the source.
    must_exist: a directory that is missing at start raises; it is waited for otherwise.

    Raises OptionError for bad values; :meth:`start` raises SourceError for a missing directory.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        kind: FileKind = "text",
        encoding: str | None = "utf-8",
        errors: str = "replace",
        record_bytes: int | None = None,
        reader: Callable[[str], Iterable[Any]] | None = None,
        recursive: bool = False,
        filter: Callable[[str], object] | None = None,
        order: Literal["mtime", "name"] = "mtime",
        new_files_only: bool = False,
        settled_for_s: float = 0.0,
        temporary_suffixes: Iterable[str] = (".tmp", ".part", ".crdownload", "~"),
        files_per_batch_max: int = 10_000,
        bytes_per_batch_max: int = 4 * 1024 * MIB,
        split_bytes: int = 32 * MIB,
        follow: bool = True,
        list_interval_s: float = 0.1,
        list_timeout_s: float = 10.0,
        remembered_files_max: int = 1_000_000,
        entries_max: int = 2_000_000,
        must_exist: bool = True,
    ) -> None:
        _check_bounds(
            files_per_batch_max=files_per_batch_max,
            bytes_per_batch_max=bytes_per_batch_max,
            split_bytes=split_bytes,
            entries_max=entries_max,
            remembered_files_max=remembered_files_max,
        )
        check_seconds("list_timeout_s", list_timeout_s)
        if not (list_interval_s >= 0 and settled_for_s >= 0):
            raise OptionError("list_interval_s and settled_for_s are seconds, at least 0")
        if order not in ("mtime", "name"):
            raise OptionError(f"order {order!r} is not known: use 'mtime' or 'name'")
        self._file_format = FileFormat(
            kind,
            encoding=encoding,
            errors=errors,
            record_bytes=record_bytes,
            reader=reader,
            split_bytes=split_bytes,
        )
        self.format, self.format_args = self._file_format.block_format, self._file_format.args()
        self.decode_strictly = self._file_format.decode_strictly
        self.reader = reader
        self.path = os.path.abspath(os.fspath(path))
        self.name = f"{kind} files {self.path}"
        self._scan = FileScan(
            FilePattern(self.path, recursive=recursive),
            accept=filter,
            order=order,
            settled_for_s=settled_for_s,
            temporary_suffixes=tuple(temporary_suffixes),
            take_empty=self._file_format.takes_empty,
            entries_max=entries_max,
        )
        self._memory = FileMemory(remembered_files_max)
        self._new_files_only = new_files_only
        self._files_per_batch_max = files_per_batch_max
        self._bytes_per_batch_max = bytes_per_batch_max
        self._follow = follow
        self._list_interval_s = list_interval_s
        self._list_timeout_s = list_timeout_s
        self._must_exist = must_exist
        self._set_idle()

    def _set_idle(self) -> None:
        """The state before start."""
        self.counters: Counter[str] = Counter()
        self._context: SourceContext | None = None
        self._thread = DaemonThread(f"listing {self.path}")
        self._listing: asyncio.Future[ScanResult] | None = None
        self._poller: asyncio.Task[None] | None = None
        self._ready: list[FoundFile] = []
        self._listed_at = -math.inf
        self._listing_took = 0.0
        self._cutting = False
        self._more = False
        self._complete = False
        self._stopped = False
        self._failure: SourceError | None = None
        self._bytes_total = 0
        self._last_error: str | None = None
        self._last_error_ms: int | None = None

    # -- the contract of a source ------------------------------------------------------------

    async def start(self, context: SourceContext) -> None:
        if self._context is not None:
            raise LifecycleError(f"{self.name} was started before: make a new source for a new context")
        self._context = context
        self.name = f"{self.name}[{context.stream_id}]"
        await self._check_path()
        if self._new_files_only:
            self._memory.add(await self._thread.submit(self._identify_all))
        context.on_started(self.info())
        self._poller = asyncio.create_task(self._poll(), name=self.name)

    def restore(self, position: Any) -> None:
        """Go on after ``position`` of a committed batch; call it before :meth:`start`.

        Files remembered there are not read again, and ``new_files_only`` has no meaning any more.
        Raises ConfigurationError when it is not such a position.
        """
        self._memory.restore(position)
        self._new_files_only = False

    def advance(self, change: Any) -> None:
        """Go on after one more ``position_change``, as :meth:`restore` does."""
        self._memory.advance(change)

    async def cut(self, time: BatchTime) -> BatchInput:
        self._cutting = True
        try:
            if not self._stopped and (self._follow or not self._complete):
                await self._list_for_batch()
            if self._failure is not None and not self._ready:
                raise self._failure
            files = await self._take_fitting() if self._listing is None else []
        finally:
            self._cutting = False
        return self._batch(files)

    async def _take_fitting(self) -> list[tuple[str, FileIdentity]]:
        """Take the next files from those that are ready, and remember them as read."""
        chosen = self._ready[: self._fitting()]
        if not chosen:
            return []
        found = await self._in_thread(lambda: [identify(file) for file in chosen])
        if found is None:
            return []
        self._ready = self._ready[len(chosen) :]
        taken = [
            (file.path, identity)
            for file, identity in zip(chosen, found, strict=True)
            if identity is not None
        ]
        self._count_vanished(len(chosen) - len(taken))
        self._memory.add(identity for _, identity in taken)
        return taken

    async def stop(self) -> None:
        """Look no more; files that were found and not yet given to a batch stay for the next run."""
        if self._stopped:
            return
        self._stopped = True
        self._ready = []
        if self._poller is not None:
            await cancel_and_wait(self._poller)
        if self._context is not None:
            self._context.on_stopped(self.info())

    async def aclose(self) -> None:
        await self.stop()
        self._thread.close()

    @property
    def finished(self) -> bool:
        if self._ready or self._failure is not None:
            return False
        return self._stopped or (not self._follow and self._complete)

    @property
    def pending(self) -> bool:
        return bool(self._ready) or self._failure is not None

    def info(self) -> ReceiverInfo:
        return ReceiverInfo(
            stream_id=self._context.stream_id if self._context is not None else -1,
            name=self.name,
            active=self._poller is not None and not self._stopped,
            last_error=self._last_error,
            last_error_ms=self._last_error_ms,
            queue_bytes=sum(file.size for file in self._ready),
            bytes_total=self._bytes_total,
        )

    # -- listing -----------------------------------------------------------------------------

    @property
    def context(self) -> SourceContext:
        """What the runtime handed over at start; raises LifecycleError before."""
        if self._context is None:
            raise LifecycleError(f"{self.name} is not started")
        return self._context

    async def _in_thread(self, call: Callable[[], T]) -> T | None:
        """Run a short call that may hang with its file system; None when it does."""
        future = self._thread.submit(call)
        done, _ = await asyncio.wait({future}, timeout=self._list_timeout_s)
        if done:
            return future.result()
        future.cancel()
        self._warn(f"{self.path} did not answer within {self._list_timeout_s} s", "listings_slow")
        return None

    async def _check_path(self) -> None:
        pattern = self._scan.pattern
        if self._must_exist and not pattern.has_magic:
            exists = await self._in_thread(lambda: os.path.isdir(pattern.path))
            if not exists:
                raise SourceError(f"{pattern.path} is not a directory; must_exist=False waits for it")

    def _identify_all(self) -> list[FileIdentity]:
        """What is there at start, settled or not; runs in the thread."""
        return [
            (identify(file) if number < _HEADS_AT_START_MAX else None) or FileIdentity(*file[1:], 0, 0)
            for number, file in enumerate(self._scan.all_unknown(self._memory))
        ]

    async def _list_for_batch(self) -> None:
        """Have a listing that is fresh, but do not hold up the batch for one that hangs."""
        if self._listing is not None:
            # It may have passed already where a new file is by now: look again if that is quick.
            if not await self._wait_for(self._listing) or self._listing_took > _QUICK_S:
                return
        elif self._is_fresh():
            return
        await self._wait_for(self._begin_listing())

    def _is_fresh(self) -> bool:
        age = self.context.clock.monotonic() - self._listed_at
        if self._listing_took > _QUICK_S:
            return age < self._listing_took * _SCANS_PER_LOOK_MIN and not self._more
        return age < self._list_interval_s

    async def _wait_for(self, listing: asyncio.Future[ScanResult]) -> bool:
        done, _ = await asyncio.wait({listing}, timeout=self._list_timeout_s)
        if not done:
            self._warn(f"listing {self.path} takes longer than {self._list_timeout_s} s", "listings_slow")
        return bool(done)

    def _begin_listing(self) -> asyncio.Future[ScanResult]:
        if self._listing is None:
            clock, files_max = self.context.clock, self._files_per_batch_max
            self._listing = self._thread.submit(lambda: self._scan.run(self._memory, files_max, clock))
            self._listing.add_done_callback(self._take_listing)
        return self._listing

    def _take_listing(self, listing: asyncio.Future[ScanResult]) -> None:
        self._listing = None
        self._listed_at = self.context.clock.monotonic()
        if listing.cancelled() or self._stopped:
            return
        error = listing.exception()
        if error is None:
            self._take_result(listing.result())
        elif isinstance(error, OSError):  # row SRC-11: it may come back
            self._warn(f"cannot list {self.path}: {error}", "listings_failed")
        else:
            self._failure = _as_failure(error, self.name)
            self._warn(str(self._failure), "listings_failed")
        if self.pending:
            self.context.notify()

    def _take_result(self, result: ScanResult) -> None:
        self._memory.note(result)
        self._ready = result.files
        self._listing_took = result.seconds
        self._more = result.more
        self._complete = not result.more and not result.unsettled
        self.counters["listings"] += 1
        for path, _ in result.changed[:_FILES_NAMED_MAX]:
            self._warn(f"{path} changed after it was read; the change is not read", "")
        self.counters.update(result.notes)

    async def _poll(self) -> None:
        """Look between batches, so that the as-soon-as-data trigger hears of new files."""
        clock = self.context.clock
        while (self._follow or not self._complete) and self._failure is None:
            pause = max(self._list_interval_s, _POLL_S_MIN, self._listing_took * _SCANS_PER_LOOK_MIN)
            await clock.sleep_until(max(self._listed_at, clock.monotonic()) + pause)
            # A listing beside a cut would find again what that cut is taking.
            if not self._cutting and not self._ready and clock.monotonic() - self._listed_at >= pause:
                await asyncio.wait({self._begin_listing()})

    def _warn(self, text: str, counter: str) -> None:
        if counter:
            self.counters[counter] += 1
        if text == self._last_error:
            return  # a directory that stays missing is one event, not one a batch
        _log.warning("%s: %s", self.name, text)
        self._last_error = text
        self._last_error_ms = int(self.context.clock.time() * 1000)
        self.context.on_error(self.info())

    # -- making a batch ----------------------------------------------------------------------

    def _fitting(self) -> int:
        """How many of the ready files fit into a batch, one at least."""
        total = 0
        for number, file in enumerate(self._ready[: self._files_per_batch_max]):
            total += file.size
            if number and total > self._bytes_per_batch_max:
                return number
        return min(len(self._ready), self._files_per_batch_max)

    def _count_vanished(self, files: int) -> None:
        if files:
            self.counters["files_vanished"] += files
            self._warn(f"{files} files were gone before they could be read", "")

    def _batch(self, files: list[tuple[str, FileIdentity]]) -> BatchInput:
        if not files:
            return BatchInput(
                metadata=dict(self.counters),
                position=self._memory.position,
                position_change=self._memory.take_change(),
            )
        total = sum(identity.size for _, identity in files)
        part_bytes = self._file_format.part_bytes(total, self.context.parallelism)
        self._bytes_total += total
        self.counters["files_read"] += len(files)
        names = [path for path, _ in files[:_FILES_NAMED_MAX]]
        return BatchInput(
            tuple(
                block
                for path, identity in files
                for block in self._file_format.blocks(path, identity.size, part_bytes)
            ),
            records=-1,
            bytes=total,
            metadata={**self.counters, "files": names, "description": _describe(names, len(files))},
            position=self._memory.position,
            position_change=self._memory.take_change(),
        )


def _check_bounds(**bounds: int) -> None:
    for option, value in bounds.items():
        if value < 1:
            raise OptionError(f"{option} is {value!r}: it must be at least 1")


def _as_failure(error: BaseException, name: str) -> SourceError:
    if isinstance(error, SourceError):
        return error
    failure = SourceError(f"{name} cannot look for files: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _describe(names: list[str], files: int) -> str:
    rest = f" and {files - len(names)} more" if files > len(names) else ""
    return ", ".join(names) + rest
