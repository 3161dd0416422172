"""One owner for a directory."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aiostream_engine.durable.lock import DirectoryInUseError, DirectoryLock

_HOLD = """
import sys
from aiostream_engine.durable.lock import DirectoryLock
lock = DirectoryLock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_owner_is_refused_at_once_and_told_who_the_first_is(tmp_path: Path) -> None:
    """B7: a real process holds it; it goes on, and its death frees the directory."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(DirectoryInUseError) as caught:
            DirectoryLock(str(tmp_path))
        assert f'"pid": {first.pid}' in str(caught.value)
        assert socket.gethostname() in str(caught.value)
        assert str(tmp_path) in str(caught.value)
        with pytest.raises(DirectoryInUseError, match=f'"pid": {first.pid}'):
            DirectoryLock(str(tmp_path))
        assert first.poll() is None
        first.kill()
        first.wait()
        DirectoryLock(str(tmp_path)).close()


def test_two_owners_in_one_process_are_told_apart_too(tmp_path: Path) -> None:
    """B7."""
    first = DirectoryLock(str(tmp_path))
    with pytest.raises(DirectoryInUseError, match=f'"pid": {os.getpid()}'):
        DirectoryLock(str(tmp_path), what="output directory")
    first.close()
    first.close()
    assert (tmp_path / "LOCK").read_bytes() == b"", "who leaves well takes the name along"


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    """B7: a worker that outlives its driver must not keep the directory."""
    lock = DirectoryLock(str(tmp_path))
    with subprocess.Popen(["sleep", "30"], close_fds=False) as child:
        lock.close()
        DirectoryLock(str(tmp_path)).close()
        child.kill()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    """C12."""
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "LOCK").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        DirectoryLock(str(tmp_path))
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_a_file_system_without_locks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B8: it is not taken for a lock that somebody else holds."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        DirectoryLock(str(tmp_path))
