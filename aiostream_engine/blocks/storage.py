"""Write blocks as private files in shared memory, and read them back without a copy.

A worker that dies takes nothing with it: its finished blocks are files of the engine's own
directory, which the driver releases. The directory lies in shared memory (``/dev/shm``) with a
second one on disk, used when the first is full or over its bound.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import os
from collections.abc import Iterable, Sequence

from ..errors import BlocksReleasedError, StorageError
from ..types import BlockRef

__all__ = ["BlockWriter", "read_bytes"]

_MMAP_BYTES_MIN = 256 * 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def read_bytes(ref: BlockRef) -> bytes | memoryview:
    """The payload of a block: mapped when large, read when small, as it is when inline.

    Raises BlocksReleasedError when the file is gone, which means that its batch was finished.
    """
    if ref.data is not None:
        return ref.data
    if ref.length == 0:
        return b""
    try:
        fd = os.open(ref.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise BlocksReleasedError(
            f"block {os.path.basename(ref.path)} was released: its batch is finished; "
            "use persist() or StreamingContext.remember() to keep data longer"
        ) from None
    try:
        if ref.length < _MMAP_BYTES_MIN:
            return os.pread(fd, ref.length, ref.offset)
        return _map(fd, ref.offset, ref.length)
    finally:
        os.close(fd)


def _map(fd: int, offset: int, length: int) -> memoryview:
    start = offset - offset % mmap.ALLOCATIONGRANULARITY
    mapped = mmap.mmap(fd, offset - start + length, prot=mmap.PROT_READ, offset=start)
    return memoryview(mapped)[offset - start : offset - start + length]


class BlockWriter:
    """Writes blocks into one file each, with names that no other writer uses.

    Parameters
    ----------
    directory: the shared-memory directory of the engine.
    spill_directory: the directory on disk for what does not fit.
    prefix: makes the names unique among writers (a process id, for one).
    """

    def __init__(self, directory: str, spill_directory: str, prefix: str) -> None:
        self.directory = directory
        self.spill_directory = spill_directory
        self._prefix = prefix
        self._numbers = itertools.count()

    def write(self, parts: Sequence[bytes | memoryview], *, spill: bool = False) -> tuple[str, list[int]]:
        """Store ``parts`` one after the other in a new file; gives its path and their offsets.

        Raises StorageError when neither memory nor disk has room.
        """
        offsets = list(itertools.accumulate((len(part) for part in parts), initial=0))[:-1]
        if not spill:
            try:
                return self._write_in(self.directory, parts), offsets
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise StorageError(f"cannot write a block in {self.directory}: {error}") from error
        try:
            return self._write_in(self.spill_directory, parts), offsets
        except OSError as error:
            raise StorageError(
                f"no room for a block of {sum(map(len, parts))} bytes, neither in shared memory nor in "
                f"{self.spill_directory}: {error}; free space or set spill_directory"
            ) from error

    def write_on_disk(self, parts: Iterable[bytes | memoryview]) -> tuple[str, list[int]]:
        """Store ``parts`` in a new file on disk as they come; gives its path and their sizes.

        Raises StorageError when the disk has no room; what ``parts`` raises passes, and leaves no file.
        """
        sizes: list[int] = []
        try:
            return self._write_in(self.spill_directory, _noting_sizes(parts, sizes)), sizes
        except OSError as error:
            raise StorageError(
                f"cannot write a block of {sum(sizes)} bytes or more in {self.spill_directory}: {error}; "
                "free space or set spill_directory"
            ) from error

    def _write_in(self, directory: str, parts: Iterable[bytes | memoryview]) -> str:
        path = os.path.join(directory, f"{self._prefix}-{next(self._numbers):x}")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            for part in parts:
                _write_all(fd, part)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(fd)
        return path


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _noting_sizes(parts: Iterable[bytes | memoryview], sizes: list[int]) -> Iterable[bytes | memoryview]:
    for part in parts:
        sizes.append(len(part))
        yield part
