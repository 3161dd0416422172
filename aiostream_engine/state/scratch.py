"""A file of rows that lives as long as its process: SQLite without journal, syncs and name.

The file is unlinked as soon as it is open, so that the kernel removes it when the process is gone,
however it went. What it holds can be made anew from the chain of the state, hence nothing of it has
to survive: one transaction is begun and never ended.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ..errors import StorageError

__all__ = ["Row", "ScratchFile"]

CACHE_KIB = 1024
_PRAGMAS = (
    f"cache_size = -{CACHE_KIB}",
    "journal_mode = off",
    "synchronous = off",
    "locking_mode = exclusive",
    "temp_store = memory",
)
_numbers = itertools.count()


class Row(NamedTuple):
    """A place in an order, the hash of the key, and key and value as bytes."""

    place: int
    hashed: int
    key: bytes
    value: bytes


class ScratchFile:
    """Numbered tables of rows; made at the first one. One thread at a time uses it.

    Parameters
    ----------
    directory: private, on a disk.
    owner: named in errors.

    Every method raises StorageError when the disk is full or does not answer, and from then on always.
    """

    def __init__(self, directory: str, owner: str) -> None:
        self._directory = directory
        self._owner = owner
        self._db: Any = None
        self._close: Callable[[], object] = _nothing
        self._error: type[Exception] = OSError
        self._tables = 0
        self.broken: StorageError | None = None
        """Why it cannot be used any more."""

    def _open(self) -> None:
        try:
            import sqlite3
        except ImportError as error:
            raise StorageError(
                f"state on disk needs the module sqlite3, which this Python was built without ({error}): use "
                "another build of Python, or StateConfig(backend='memory')"
            ) from error
        path = os.path.join(self._directory, f"state-{os.getpid():x}-{next(_numbers):x}")
        self._error = sqlite3.Error
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            # The inline executor runs short tasks on the loop and others in a thread, never two at a time.
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._close = weakref.finalize(self, self._db.close)
            for pragma in _PRAGMAS:
                self._db.execute(f"pragma {pragma}").fetchall()
            self._db.execute("begin exclusive")
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _failed(self, error: Exception) -> StorageError:
        self.broken = self.broken or StorageError(
            f"the state of step {self._owner!r} cannot be written in {self._directory}: {error}; free space "
            "or set spill_directory"
        )
        self._close()  # its room is free at once, whoever still holds the error
        return self.broken

    def close(self) -> None:
        """Give the room on disk back; nothing can be read any more. So does the end of the last reference."""
        self.broken = self.broken or StorageError(f"the state of step {self._owner!r} is closed")
        self._close()

    def _run(self, statement: str, parameters: Iterable[Any] = ()) -> Any:
        if self.broken is not None:
            raise self.broken
        try:
            return self._db.execute(statement, parameters)
        except self._error as error:
            raise self._failed(error) from error

    def _run_many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        if self.broken is not None:
            raise self.broken
        try:
            self._db.executemany(statement, rows)
        except self._error as error:
            raise self._failed(error) from error

    @property
    def size(self) -> int:
        """Bytes of the file; what was removed is used again, and the file never shrinks."""
        if self._db is None or self.broken is not None:
            return 0
        pages, size = (self._run(f"pragma {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return int(pages) * int(size)

    # -- tables --------------------------------------------------------------------------------

    def new_table(self) -> str:
        """The name of a new, empty table."""
        if self._db is None:
            self._open()
        self._tables += 1
        name = f"t{self._tables}"
        self._run(f"create table {name} (place integer primary key, hashed integer, key blob, value blob)")
        self._run(f"create index {name}_hashed on {name} (hashed)")
        return name

    def write(self, table: str, rows: Iterable[Row]) -> None:
        """Add rows, or replace those at the same places."""
        self._run_many(
            f"insert into {table} values (?, ?, ?, ?) "
            "on conflict (place) do update set value = excluded.value",
            rows,
        )

    def remove(self, table: str, places: Iterable[int]) -> None:
        """Remove the rows at these places."""
        self._run_many(f"delete from {table} where place = ?", ((place,) for place in places))

    def clear(self, table: str) -> None:
        """Remove all rows."""
        self._run(f"delete from {table}")

    def find(self, table: str, hashed: int) -> list[tuple[int, bytes]]:
        """Places and keys of all rows with this hash: almost always one or none."""
        found: list[tuple[int, bytes]] = self._run(
            f"select place, key from {table} where hashed = ?", (hashed,)
        ).fetchall()
        return found

    def find_with_value(self, table: str, hashed: int) -> list[tuple[int, bytes, bytes]]:
        """As :meth:`find`, with the values."""
        found: list[tuple[int, bytes, bytes]] = self._run(
            f"select place, key, value from {table} where hashed = ?", (hashed,)
        ).fetchall()
        return found

    def keys(self, table: str) -> Iterator[bytes]:
        """All keys, in the order of places."""
        return (key for (key,) in self._walk(f"select key from {table} order by place"))

    def items(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values, in the order of places."""
        return self._walk(f"select key, value from {table} order by place")

    def rows_after(self, table: str, place: int, last: int, count: int) -> list[tuple[int, bytes, bytes]]:
        """Places, keys and values of the next rows behind ``place``, up to that at ``last``."""
        found: list[tuple[int, bytes, bytes]] = self._run(
            f"select place, key, value from {table} where place > ? and place <= ? order by place limit ?",
            (place, last, count),
        ).fetchall()
        return found

    def _walk(self, statement: str) -> Iterator[Any]:
        cursor = self._run(statement)
        try:
            yield from cursor
        except self._error as error:
            raise self._failed(error) from error


def _nothing() -> None:
    """Nothing is open yet."""
