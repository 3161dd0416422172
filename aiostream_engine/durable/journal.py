"""An append-only log of records in segment files, chained by checksums: the writing side.

The format is in :mod:`.journal_format`, the reading side in :mod:`.journal_reader`. Records are
written in groups; a group counts when :meth:`Journal.sync` returned.
"""

from __future__ import annotations

import errno
import os
from zlib import crc32

from ..errors import StorageError
from .crash import crash_point
from .files import Files
from .journal_format import (
    CHECKSUM,
    FORMAT_VERSION,
    HEAD,
    RECORD_BYTES,
    JournalRef,
    RecordHeader,
    SegmentHeader,
    SegmentName,
    head_bytes,
    read_head,
    record_checksum,
    segment_names,
)

__all__ = ["DiskFullError", "Journal", "JournalRef"]

SEGMENT_BYTES = 64 * 1024 * 1024
AHEAD_BYTES = (256 * 1024, 1024 * 1024)  # least and most; as much as the segment has
SMALL_GROUP_BYTES = 128 * 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class DiskFullError(StorageError):
    """No room for a group of records; nothing of it was kept, and the group may be written again later."""


class Journal:
    """Appends records; used by one thread at a time.

    Parameters
    ----------
    directory: where the segments are; must exist.
    epoch: of this driver; higher than that of any other that wrote here.
    number, checksum: of the last record that counts, from :func:`.journal_reader.scan`.
    segment_bytes: a segment that has grown over this is followed by a new one.

    A group is ``begin``, any number of ``append``, ``sync``. When the disk is full the group is taken
    back, and DiskFullError raised. Any other error breaks the journal for good: its last bytes are
    unknown, and a sync that failed must not be tried again, since the kernel may have forgotten what
    it could not write. Only opening the journal anew goes on. ``durable`` is the last record that
    counts, ``bytes`` the size of all segments.

    While groups are small, zeros are written ahead of them, as PostgreSQL does with its log: syncing what
    replaces them is cheaper than syncing a file that grows, whose file system must note that as well.
    """

    def __init__(
        self,
        directory: str,
        *,
        epoch: int,
        number: int = 0,
        checksum: int = 0,
        files: Files | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.directory = directory
        self.number = self.durable = number
        self._epoch = epoch
        self._checksum = checksum
        self._files = files or Files()
        self._segment_bytes = segment_bytes
        self._names = segment_names(directory)
        self._sizes = {name: os.path.getsize(os.path.join(directory, name.file)) for name in self._names}
        self.bytes = sum(self._sizes.values())
        self._head = read_head(directory)
        self._fd: int | None = None
        self._size = 0
        self._filled = 0  # up to where the segment has been written, zeros or records
        self._measured = (0, 0)  # size, syncs when zeros were considered last
        self._syncs = 0
        self._mark = (number, checksum, 0)
        self._broken: BaseException | None = None

    # -- writing -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a group of records. Raises StorageError."""
        self._check()
        try:
            if self._fd is None or self._is_full:
                self._next_segment()
            if self._size + SMALL_GROUP_BYTES > self._filled:
                self._fill_ahead()
        except OSError as error:
            raise self._failed(error) from error
        self._mark = (self.number, self._checksum, self._size)

    def _fill_ahead(self) -> None:
        """Write zeros where the next groups come, if the last ones were small; the next sync covers them."""
        assert self._fd is not None
        size, syncs = self._measured
        self._measured = (self._size, self._syncs)
        start = max(self._filled, self._size)
        ahead = min(max(self._size, AHEAD_BYTES[0]), AHEAD_BYTES[1])
        end = min(start + ahead, self._segment_bytes)
        if end <= start or self._size - size > (self._syncs - syncs) * SMALL_GROUP_BYTES:
            return
        try:
            self._files.fill(self._fd, start, end - start)
            self._filled = end
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._filled = self._segment_bytes  # what room there is belongs to records
            self._files.truncate(self._fd, self._size)

    @property
    def _is_full(self) -> bool:
        # One that holds no record yet is never followed by another: that would have the same name.
        return self._size >= self._segment_bytes and self.number >= self._names[-1].first

    def append(
        self, kind: int, meta: bytes, payload: bytes | memoryview = b"", payload_crc: int | None = None
    ) -> JournalRef:
        """Write a record of the group. Raises StorageError.

        payload_crc: ``crc32`` of the payload, if the caller has it already.
        """
        self._check()
        assert self._fd is not None
        header = RecordHeader(
            kind, self.number + 1, self.durable, len(meta), len(payload), self._checksum
        ).pack()
        crash_point("before_record")
        crc = crc32(payload) if payload_crc is None else payload_crc
        checksum = record_checksum(header, meta, crc)
        try:
            parts = [header, meta, payload, CHECKSUM.pack(checksum)]
            size = self._files.write_at(self._fd, self._size, parts)
        except OSError as error:
            raise self._failed(error) from error
        path = os.path.join(self.directory, self._names[-1].file)
        ref = JournalRef(path, self._size + RECORD_BYTES + len(meta), len(payload), self.number + 1)
        self._size += size
        self.number, self._checksum = ref.number, checksum
        return ref

    def sync(self) -> None:
        """Make the group durable. Raises StorageError; then none of it counts."""
        self._check()
        assert self._fd is not None
        crash_point("before_sync")
        try:
            self._files.sync(self._fd)
        except OSError as error:
            raise self._break(error) from error
        crash_point("after_sync")
        self._syncs += 1
        if self._head != self._names[-1]:
            self._set_head()
        self.durable = self.number
        self.bytes += self._size - self._sizes[self._names[-1]]
        self._sizes[self._names[-1]] = self._size

    def _next_segment(self) -> None:
        """Close the current segment, all of which is durable, and begin a new one."""
        self.close()
        name = SegmentName(self.number + 1, self._epoch)
        path = os.path.join(self.directory, name.file)
        fd = self._files.create(path)
        try:
            header = SegmentHeader(FORMAT_VERSION, self._epoch, name.first, self._checksum).pack()
            size = self._files.write_at(fd, 0, [header])
            self._files.sync(fd)
            self._files.sync_directory(self.directory)
        except OSError:
            self._give_up_segment(fd, path)
            raise
        crash_point("after_segment")
        self._fd, self._size, self._filled = fd, size, size
        self._measured = (size, self._syncs)
        self._names.append(name)
        self._sizes[name] = 0

    def _give_up_segment(self, fd: int, path: str) -> None:
        try:
            self._files.close(fd)
            self._files.unlink(path)
        except OSError as error:
            self._broken = error

    def _set_head(self) -> None:
        try:
            self._files.replace(os.path.join(self.directory, HEAD), head_bytes(self._names[-1]))
        except OSError as error:
            if read_head(self.directory) == self._names[-1]:
                # It says that this segment holds a durable record: that one cannot be taken back any more.
                raise self._break(error) from error
            raise self._failed(error) from error
        self._head = self._names[-1]

    # -- failing -------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._broken is not None:
            raise StorageError(f"the journal in {self.directory} is broken: {self._broken}")

    def _failed(self, error: OSError) -> StorageError:
        """Take the group back when the disk is full, else break."""
        if error.errno not in _NO_ROOM or not self._take_back():
            return self._break(error)
        return DiskFullError(f"no room for the journal in {self.directory}: {error}")

    def _take_back(self) -> bool:
        number, checksum, size = self._mark
        if self._broken is None and self._fd is not None and self._size >= size:
            try:
                self._files.truncate(self._fd, size)
                self._filled = size
            except OSError as error:
                self._broken = error
            self.number, self._checksum, self._size = number, checksum, size
        return self._broken is None

    def _break(self, error: OSError) -> StorageError:
        self._broken = self._broken or error
        return StorageError(
            f"cannot write the journal in {self.directory}: {error}. What was committed before is safe: "
            "repair the disk and start again"
        )

    @property
    def broken(self) -> bool:
        """True when nothing can be written any more."""
        return self._broken is not None

    # -- forgetting ----------------------------------------------------------------------------

    def drop_before(self, number: int) -> int:
        """Remove the segments of which no record is ``number`` or later; gives how many went."""
        dropped = 0
        while len(self._names) > 1 and self._names[1].first <= number:
            try:
                self._files.unlink(os.path.join(self.directory, self._names[0].file))
                # One by one: a loss of power must not bring back an older one without a younger one.
                self._files.sync_directory(self.directory)
            except OSError as error:
                raise StorageError(f"cannot remove {self._names[0].file}: {error}") from error
            self.bytes -= self._sizes.pop(self._names.pop(0))
            dropped += 1
            crash_point("mid_collect")
        return dropped

    @property
    def segments(self) -> int:
        """How many segment files there are."""
        return len(self._names)

    @property
    def second_oldest(self) -> int:
        """Number of the first record of the second oldest segment: what the oldest one holds is below."""
        return self._names[1].first if len(self._names) > 1 else 0

    def close(self) -> None:
        """Close the current segment, without the zeros behind its records."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            if self._filled > self._size and not self.broken:
                self._files.truncate(fd, self._size)
        finally:
            self._files.close(fd)
