"""A disk that fails when it is told to, and forgets what was not synced when its power is cut.

The twin of :class:`aiostream_engine.durable.files.Files`. Failing each operation in turn is SQLite's
way of testing; losing, tearing and reordering what was not synced is that of its crash tests.
"""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..durable.files import Files

if TYPE_CHECKING:
    from ..context import StreamingContext

__all__ = ["FaultFiles", "use_files"]

SECTOR_BYTES = 512


def use_files(context: StreamingContext, files: Files) -> None:
    """Have the checkpoint directory of a context, not started yet, use ``files``."""
    context._checkpoint_files = files


@dataclass(slots=True)
class _Node:
    """A file: what of it is on the disk for good, None when nothing was ever synced."""

    synced: bytes | None = None


class _Change(NamedTuple):
    """A change of names that the disk may not have yet; ``old`` is "" for a new name."""

    old: str
    new: str
    node: _Node | None


@dataclass(slots=True)
class _Directory:
    names: dict[str, _Node] = field(default_factory=dict)
    changes: list[_Change] = field(default_factory=list)

    def make(self, changes: Sequence[_Change]) -> dict[str, _Node]:
        """The names after some of the changes."""
        names = dict(self.names)
        for change in changes:
            if change.old:
                names.pop(change.old, None)
            if change.new and change.node is not None:
                names[change.new] = change.node
        return names


class FaultFiles(Files):
    """Real files below ``root``, with faults.

    Parameters
    ----------
    root: what the model of a loss of power covers; may not exist yet.
    fail_at: number of the operation, from 1, that fails with ``error`` (an errno); None for none.
    fails: how many operations fail from there on, 1 for just that one.
    tear: a write that fails has written a part.
    cut_at: number of the operation before which the power goes: from then on all fail, until
        :meth:`power_cut` has made of the files what the disk has.
    only: names of the operations that count, such as ``{"sync"}``; None for all.

    ``operations`` are the names of those that were asked for, in order. May be used by many threads.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        fail_at: int | None = None,
        fails: int = 1,
        error: int = errno.EIO,
        tear: bool = False,
        cut_at: int | None = None,
        only: set[str] | None = None,
    ) -> None:
        self.root = os.path.abspath(root)
        self.operations: list[str] = []
        self.is_off = False
        self.on_power_off: Callable[[], None] | None = None
        self._fail_at, self._fails, self._error, self._tear = fail_at, fails, error, tear
        self._cut_at, self._only = cut_at, only
        self._lock = threading.RLock()
        self._nodes: dict[str, _Node] = {}
        self._open: dict[int, tuple[str, _Node]] = {}
        self._directories: dict[str, _Directory] = {}
        self._adopt()

    def _adopt(self) -> None:
        """What is there already is on the disk."""
        for path, _, names in os.walk(self.root):
            directory = self._directories[path] = _Directory()
            for name in names:
                file = os.path.join(path, name)
                self._nodes[file] = directory.names[name] = _Node(_content(file))

    @property
    def count(self) -> int:
        """How many operations were asked for that count."""
        return sum(self._only is None or name in self._only for name in self.operations)

    def fail(
        self, error: int = errno.EIO, *, fails: int = 1, after: int = 0, only: set[str] | None = None
    ) -> None:
        """Let the next operations fail, ``after`` some that do not; ``only`` as for the whole."""
        with self._lock:
            self._only = only
            self._fail_at, self._fails, self._error = self.count + 1 + after, fails, error

    def heal(self) -> None:
        """Let no operation fail any more."""
        self._fail_at = None

    def _operation(self, name: str) -> bool:
        """Count an operation; raises OSError when it shall fail, True when it shall fail half-way."""
        self.operations.append(name)
        if self.is_off:
            raise OSError(errno.EIO, "the power is off")
        if self._only is not None and name not in self._only:
            return False
        number = self.count
        if number == self._cut_at:
            self.is_off = True
            if self.on_power_off is not None:
                self.on_power_off()
            raise OSError(errno.EIO, "the power is off")
        if self._fail_at is not None and self._fail_at <= number < self._fail_at + self._fails:
            if name in ("write", "fill") and self._tear:
                return True
            raise self._failure(name)
        return False

    def _failure(self, name: str) -> OSError:
        return OSError(self._error, f"{os.strerror(self._error)} (injected into {name})")

    # -- operations ----------------------------------------------------------------------------

    def create(self, path: str) -> int:
        with self._lock:
            self._operation("create")
            fd = super().create(path)
            node = self._nodes[path] = _Node()
            self._open[fd] = (path, node)
            self._changed(path, _Change("", os.path.basename(path), node))
            return fd

    def make_directory(self, path: str) -> None:
        with self._lock:
            self._operation("make_directory")
            super().make_directory(path)
            self._directories[path] = _Directory()

    def write(self, fd: int, parts: Sequence[bytes | memoryview]) -> int:
        with self._lock:
            if self._operation("write"):
                whole = b"".join(parts)
                super().write(fd, [whole[: len(whole) // 2]])
                raise self._failure("write")
            return super().write(fd, parts)

    def write_at(self, fd: int, offset: int, parts: Sequence[bytes | memoryview]) -> int:
        with self._lock:
            if self._operation("write"):
                whole = b"".join(parts)
                super().write_at(fd, offset, [whole[: len(whole) // 2]])
                raise self._failure("write")
            return super().write_at(fd, offset, parts)

    def fill(self, fd: int, offset: int, size: int) -> None:
        with self._lock:
            if self._operation("fill"):
                super().fill(fd, offset, size // 2)
                raise self._failure("fill")
            super().fill(fd, offset, size)

    def sync(self, fd: int) -> None:
        with self._lock:
            self._operation("sync")
            self._open[fd][1].synced = _content(f"/proc/self/fd/{fd}")

    def close(self, fd: int) -> None:
        with self._lock:
            self._open.pop(fd, None)
            super().close(fd)  # also with the power off: a descriptor of a test must not leak
            self._operation("close")

    def truncate(self, fd: int, size: int) -> None:
        with self._lock:
            self._operation("truncate")
            super().truncate(fd, size)

    def sync_path(self, path: str) -> None:
        with self._lock:
            self._operation("sync_path")
            self._nodes.setdefault(path, _Node()).synced = _content(path)

    def rename(self, source: str, target: str) -> None:
        with self._lock:
            self._operation("rename")
            super().rename(source, target)
            node = self._nodes[target] = self._nodes.pop(source)
            self._changed(target, _Change(os.path.basename(source), os.path.basename(target), node))

    def unlink(self, path: str) -> None:
        with self._lock:
            self._operation("unlink")
            super().unlink(path)
            self._nodes.pop(path, None)
            self._changed(path, _Change(os.path.basename(path), "", None))

    def sync_directory(self, path: str) -> None:
        with self._lock:
            self._operation("sync_directory")
            directory = self._directories.get(path)
            if directory is not None:
                directory.names, directory.changes = directory.make(directory.changes), []

    def _changed(self, path: str, change: _Change) -> None:
        self._directories.setdefault(os.path.dirname(path), _Directory()).changes.append(change)

    # -- a loss of power -----------------------------------------------------------------------

    def power_off(self) -> None:
        """Cut the power now: all operations fail from here on."""
        self.is_off = True

    def power_cut(self, seed: int = 0) -> None:
        """Make of the files what a disk may have after the power went; ``seed`` chooses.

        Of what was not synced, anything may be there: of changes of names the first ones or any, of what
        a file got the first part, or any of its sectors, with what stood there before in place of the others.
        """
        choice = random.Random(seed)
        with self._lock:
            self.is_off = True
            nodes = {id(node): _survived(node, path, choice) for path, node in self._nodes.items()}
            for path, directory in self._directories.items():
                self._rebuild(path, directory.make(_some(directory.changes, choice)), nodes)

    def _rebuild(self, path: str, names: dict[str, _Node], contents: dict[int, bytes]) -> None:
        if not os.path.isdir(path):
            return
        for name in os.listdir(path):
            if os.path.join(path, name) in self._nodes:
                os.unlink(os.path.join(path, name))
        for name, node in names.items():
            with open(os.path.join(path, name), "wb") as file:
                file.write(contents.get(id(node), node.synced or b""))
            os.chmod(os.path.join(path, name), 0o600)


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _some(changes: Sequence[_Change], choice: random.Random) -> list[_Change]:
    if choice.random() < 0.5:
        return list(changes[: choice.randint(0, len(changes))])
    return [change for change in changes if choice.random() < 0.5]


def _survived(node: _Node, path: str, choice: random.Random) -> bytes:
    """What the disk has of a file: all that was synced, and some of the rest."""
    synced = node.synced or b""
    now = _content(path)
    if len(now) < len(synced):
        return choice.choice([synced, now])
    changed = [at for at in range(0, len(now), SECTOR_BYTES) if _sector(now, at) != _sector(synced, at)]
    match choice.randrange(4) if changed else 0:
        case 0:
            return synced
        case 1:
            return now
        case 2:
            records = [at for at in changed if any(_sector(now, at))] or changed  # rather than room for more
            cut = choice.choice(records) + choice.randint(0, SECTOR_BYTES)
            return now[:cut] + synced[cut:]
    # Sectors are written in any order, each as a whole.
    survived = bytearray(now)
    for at in changed:
        if choice.random() < 0.5:
            size = len(_sector(now, at))
            survived[at : at + size] = _sector(synced, at).ljust(size, b"\0")
    return bytes(survived)


def _sector(content: bytes, at: int) -> bytes:
    return content[at : at + SECTOR_BYTES]
