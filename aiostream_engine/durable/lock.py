"""One owner for a directory, by an advisory lock that the kernel frees when its holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time

from ..errors import EnvironmentFault

__all__ = ["DirectoryInUseError", "DirectoryLock"]


class DirectoryInUseError(EnvironmentFault):
    """Another process works on the directory; the text names it."""


class DirectoryLock:
    """Holds ``LOCK`` in a directory for as long as the object is open.

    Raises DirectoryInUseError at once, naming host, process and start time of the holder,
    and OSError where the file system has no locks. The lock is
    not to be trusted on network file systems: records carry an epoch besides.

    what: the kind of directory, for the text of the error.
    """

    def __init__(self, directory: str, *, what: str = "checkpoint directory") -> None:
        self._path = os.path.join(directory, "LOCK")
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 4096, 0).decode(errors="replace")
            os.close(self._fd)
            raise DirectoryInUseError(
                f"the {what} {directory} is in use by {holder or 'another process'}: "
                "stop that one, or use another directory"
            ) from None
        except OSError:  # a file system without locks
            os.close(self._fd)
            raise
        self._sign()

    def _sign(self) -> None:
        holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, json.dumps(holder).encode(), 0)
        except OSError:
            pass  # a full disk: the lock holds without a name

    def close(self) -> None:
        """Let go of the directory."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            os.ftruncate(fd, 0)
        except OSError:
            pass  # the name of the holder stays; the lock does not
        finally:
            os.close(fd)
