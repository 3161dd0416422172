"""The engine's private directory for block files, and the ledger of who still needs which."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import InternalError, StorageError
from ..types import BlockRef
from .storage import BlockWriter

__all__ = ["BlockDirectory", "BlockLedger", "LedgerStatistics"]

_SHARED_MEMORY = "/dev/shm"

# Removes the directories when the engine's process is gone, however it went: the kernel closes
# the pipe, `read` returns, `rm` runs. A shell weighs under a megabyte and needs no import.
_JANITOR = 'trap "" INT TERM HUP; read -r _; rm -rf -- "$@"'


class BlockDirectory:
    """A directory in shared memory and one on disk, both private (0700) and short-lived.

    Nothing is left behind: :meth:`close` removes both, and so does a small companion process
    when this one is killed.

    Parameters
    ----------
    spill_directory: where to make the directory on disk; the system's temporary one by default.
    """

    def __init__(self, spill_directory: str | None = None) -> None:
        memory_root = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
        try:
            self.path = tempfile.mkdtemp(prefix="aiostream-", dir=memory_root)
            self.spill_path = tempfile.mkdtemp(prefix="aiostream-spill-", dir=spill_directory)
        except OSError as error:
            raise StorageError(f"cannot make a directory for blocks: {error}") from error
        self._janitor = self._start_janitor()
        self.ledger = BlockLedger(self.path, self.spill_path)
        self.writer = BlockWriter(self.path, self.spill_path, f"d{os.getpid():x}")

    def _start_janitor(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["/bin/sh", "-c", _JANITOR, "aiostream-janitor", self.path, self.spill_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={"PATH": os.defpath},
        )

    def close(self) -> None:
        """Remove both directories; may be called twice."""
        for path in (self.path, self.spill_path):
            shutil.rmtree(path, ignore_errors=True)
        if self._janitor.stdin is not None:
            self._janitor.stdin.close()
        self._janitor.wait()


@dataclass(frozen=True, slots=True)
class LedgerStatistics:
    """Files and bytes that are held for blocks; ``bytes_peak`` is the highest so far."""

    files: int
    bytes_held: int
    bytes_peak: int


class BlockLedger:
    """Counts the references to each block file and unlinks it with the last one.

    roots: directories whose files are counted; none means all files.

    Not thread-safe: belongs to the loop of the driver.
    """

    def __init__(self, *roots: str) -> None:
        self._roots = tuple(os.path.join(root, "") for root in roots)
        self._counts: Counter[str] = Counter()
        self._sizes: Counter[str] = Counter()
        self._bytes_held = 0
        self._bytes_peak = 0

    def retain(self, refs: Iterable[BlockRef]) -> None:
        """Hold the files of ``refs``; inline blocks and user files need no holding."""
        for ref in refs:
            if self._owns(ref):
                self._counts[ref.path] += 1
                self._sizes[ref.path] += ref.length
                self._bytes_held += ref.length
        self._bytes_peak = max(self._bytes_peak, self._bytes_held)

    def release(self, refs: Iterable[BlockRef]) -> None:
        """Let go of what :meth:`retain` held; the last one removes the file."""
        for ref in refs:
            if not self._owns(ref):
                continue
            path = ref.path
            if path not in self._counts:
                raise InternalError(f"block {os.path.basename(path)} was released more often than retained")
            self._counts[path] -= 1
            self._sizes[path] -= ref.length
            self._bytes_held -= ref.length
            if self._counts[path] <= 0:
                self._forget(path)

    def _owns(self, ref: BlockRef) -> bool:
        """True for files of the engine; those of the user and of the journal are not ours to remove."""
        if ref.data is not None or not ref.path or ref.format.startswith("file-"):
            return False
        return not self._roots or ref.path.startswith(self._roots)

    def _forget(self, path: str) -> None:
        del self._counts[path]
        self._bytes_held -= self._sizes.pop(path)
        # The directory may have been closed before its last user.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def holds(self, path: str) -> bool:
        """True while somebody holds the file at ``path``."""
        return path in self._counts

    @property
    def bytes_held(self) -> int:
        """Bytes of blocks that somebody holds now."""
        return self._bytes_held

    def statistics(self) -> LedgerStatistics:
        """Files and bytes held now, and the peak."""
        return LedgerStatistics(len(self._counts), self._bytes_held, self._bytes_peak)
