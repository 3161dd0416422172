"""Rows in an SQLite database, a batch in one transaction: the reference of a transactional sink.

SQLite cannot prepare a transaction that another process commits later, so a batch goes in two steps.
Staging puts the records of a partition, as bytes, into the table ``aiostream_staged`` of the same
database. Committing runs the statement for them, notes the batch in ``aiostream_commits`` and clears
what was staged, in **one** transaction: a process that takes over finds either everything still
staged, or the batch in the table of commits and nothing left to do.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypedDict, TypeVar

import msgspec

from ..durable.crash import crash_point
from ..errors import OptionError, SinkError, StorageError
from ..types import BatchTime
from .base import Records, SinkContext, TransactionalSink, WriteKey
from .threads import settled

__all__ = ["RowsToken", "SqliteSink"]

T = TypeVar("T")

COMMITS_KEPT = 1000
_INTEGER_MAX = 2**63 - 1
_STORED = frozenset({type(None), bool, float, str, bytes})
_OWN_TABLES = """
create table if not exists aiostream_commits (
    sink text not null, batch_id integer not null, time_ms integer not null, rows integer not null,
    primary key (sink, time_ms, batch_id)
) without rowid;
create table if not exists aiostream_staged (
    sink text not null, batch_id integer not null, time_ms integer not null, partition integer not null,
    chunk integer not null, content blob not null,
    primary key (sink, time_ms, batch_id, partition, chunk)
);
"""


# The row is wrong, not the world: no repetition can help.
_REFUSED = (
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.IntegrityError,
    sqlite3.DataError,
)


class RowsToken(TypedDict):
    """A staged partition, as the commit record of the engine holds it."""

    partition: int
    chunks: int
    rows: int


class SqliteSink(TransactionalSink):
    """Runs a statement for each record; a batch shows as a whole and once.

    Parameters
    ----------
    path: the database, created when missing. Give a local disk: SQLite's write-ahead log needs one.
    statement: SQL with ``?`` for records that are tuples or lists, or ``:name`` for dicts. It may
        update what is there (``on conflict … do update``): each record is applied once.
    table: instead of a statement, the table to insert into; columns are those of the dict, or all, in
        their order.
    schema: SQL to run at open, such as ``create table if not exists …``.
    check: run the statement when a partition is staged, and take that back: a row that the database
        refuses then fails its batch *before* the batch is true. Costs about as much as the commit.
    busy_timeout_s: seconds to wait for other writers.
    durable: sync at each transaction; False survives the end of the process, not a loss of power.

    The table ``aiostream_commits(sink, batch_id, time_ms, rows)`` holds the last batches of each sink;
    two streams that write to one database need different sink names. Values are None, bool, int, float,
    str and bytes; one of another kind raises TypeError. Raises SinkError when the database refuses, and
    StorageError when the staged rows of a committed batch are gone. All calls run in one thread.
    """

    concurrency_max = 1  # SQLite has one writer

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        statement: str | None = None,
        table: str | None = None,
        schema: str = "",
        check: bool = True,
        busy_timeout_s: float = 10.0,
        durable: bool = True,
        name: str = "sqlite",
    ) -> None:
        if (statement is None) == (table is None):
            raise OptionError("an SQLite sink needs either statement= or table=")
        if os.fspath(path) in ("", ":memory:"):
            raise OptionError("an SQLite sink needs a file: what is in memory cannot survive")
        self.name = name
        self.path = os.fspath(path)
        self._statement = statement
        self._table = None if table is None else ".".join(map(_quoted, table.split(".")))
        self._schema = schema
        self._check = check
        self._busy_timeout_s = busy_timeout_s
        self._durable = durable
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    # -- life ----------------------------------------------------------------------------------

    async def open(self, context: SinkContext) -> None:
        """Open the database and make the tables."""
        self.name = context.name
        await self._run(lambda connection: None)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{self.name}-sqlite")
        loop = asyncio.get_running_loop()
        return await settled(loop.run_in_executor(self._thread, self._in_thread, work))

    def _in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return work(self._connection)
        except _REFUSED as exc:
            raise TypeError(f"sink {self.name!r}: the database refuses a row: {exc}") from exc
        except sqlite3.Error as exc:
            raise SinkError(f"sink {self.name!r}, database {self.path}: {exc}") from exc

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=self._busy_timeout_s, isolation_level=None)
        try:
            connection.execute("pragma journal_mode = wal")
            connection.execute(f"pragma synchronous = {'full' if self._durable else 'normal'}")
            connection.executescript(_OWN_TABLES)
            connection.executescript(self._schema)
        except BaseException:
            connection.close()
            raise
        return connection

    async def aclose(self) -> None:
        if self._thread is None:
            return
        await settled(asyncio.get_running_loop().run_in_executor(self._thread, self._close))
        self._thread.shutdown(wait=False)
        self._thread = None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- staging -------------------------------------------------------------------------------

    async def stage(self, key: WriteKey, records: Records) -> RowsToken:
        """Put the records of one partition aside, in place of an earlier try."""
        chunks = [list(chunk) async for chunk in records if len(chunk)]
        token = RowsToken(partition=key.partition, chunks=len(chunks), rows=sum(map(len, chunks)))
        if chunks:
            await self._run(lambda connection: self._stage(connection, key, chunks))
        return token

    def _stage(self, connection: sqlite3.Connection, key: WriteKey, chunks: list[list[Any]]) -> None:
        place = (self.name, int(key.time), key.batch_id, key.partition)
        plain = [[_plain(record) for record in chunk] for chunk in chunks]
        contents = [msgspec.msgpack.encode(chunk) for chunk in plain]
        with _transaction(connection):
            if self._check:
                connection.execute("savepoint aiostream_check")
                self._apply(connection, plain)
                connection.execute("rollback to aiostream_check")
            connection.execute(
                "delete from aiostream_staged where (sink, time_ms, batch_id, partition) = (?, ?, ?, ?)",
                place,
            )
            connection.executemany(
                "insert into aiostream_staged (sink, time_ms, batch_id, partition, chunk, content)"
                " values (?, ?, ?, ?, ?, ?)",
                [(*place, number, content) for number, content in enumerate(contents)],
            )
        crash_point("after_stage")

    def _apply(self, connection: sqlite3.Connection, chunks: Sequence[list[Any]]) -> None:
        for chunk in chunks:
            if self._table is None:
                assert self._statement is not None
                connection.executemany(self._statement, chunk)
                continue
            for statement, records in _inserts(self._table, chunk):
                connection.executemany(statement, records)

    # -- the end of a batch --------------------------------------------------------------------

    async def commit(self, batch_id: int, time: BatchTime, tokens: Sequence[RowsToken]) -> None:
        """Apply what was staged, once, however often it is called; an empty batch costs nothing."""
        wanted = [token for token in tokens if token["rows"]]
        if wanted:
            await self._run(lambda connection: self._commit(connection, batch_id, int(time), wanted))

    def _commit(
        self, connection: sqlite3.Connection, batch_id: int, time: int, tokens: Sequence[RowsToken]
    ) -> None:
        batch = (self.name, time, batch_id)
        with _transaction(connection):
            there = "select 1 from aiostream_commits where (sink, time_ms, batch_id) = (?, ?, ?)"
            if connection.execute(there, batch).fetchone():
                return
            for token in sorted(tokens, key=lambda token: token["partition"]):
                self._apply(connection, self._staged(connection, batch, token))
            crash_point("mid_sqlite_commit")
            rows = sum(token["rows"] for token in tokens)
            connection.execute(
                "insert into aiostream_commits (sink, time_ms, batch_id, rows) values (?, ?, ?, ?)",
                (*batch, rows),
            )
            self._forget(connection, time)
        crash_point("after_sqlite_commit")

    def _staged(
        self, connection: sqlite3.Connection, batch: tuple[str, int, int], token: RowsToken
    ) -> list[list[Any]]:
        found = connection.execute(
            "select content from aiostream_staged"
            " where (sink, time_ms, batch_id, partition) = (?, ?, ?, ?) order by chunk",
            (*batch, token["partition"]),
        ).fetchall()
        chunks = [msgspec.msgpack.decode(content) for (content,) in found]
        if sum(map(len, chunks)) != token["rows"]:
            raise StorageError(
                f"sink {self.name!r}: {self.path} holds {sum(map(len, chunks))} staged rows of partition "
                f"{token['partition']} of committed batch {batch[2]}, not {token['rows']}: the database was "
                "replaced, or another stream writes to it under the same sink name"
            )
        return chunks

    def _forget(self, connection: sqlite3.Connection, time: int) -> None:
        # Batches are committed in order: what is staged up to here is of attempts that do not count (C11).
        connection.execute("delete from aiostream_staged where sink = ? and time_ms <= ?", (self.name, time))
        connection.execute(
            "delete from aiostream_commits where sink = ? and time_ms < (select time_ms from"
            " aiostream_commits where sink = ? order by time_ms desc limit 1 offset ?)",
            (self.name, self.name, COMMITS_KEPT - 1),
        )

    async def abort(self, batch_id: int, tokens: Sequence[RowsToken]) -> None:
        """Throw away what was staged for the batch."""
        if any(token["rows"] for token in tokens):
            await self._run(lambda connection: self._abort(connection, batch_id))

    def _abort(self, connection: sqlite3.Connection, batch_id: int) -> None:
        with _transaction(connection):
            connection.execute(
                "delete from aiostream_staged where sink = ? and batch_id = ?", (self.name, batch_id)
            )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def _plain(record: Any) -> Any:
    """The record as a list, tuple or dict of values that SQLite stores. Raises TypeError for others."""
    if type(record) in (tuple, list):
        for value in record:
            if type(value) not in _STORED and not (
                type(value) is int and -_INTEGER_MAX <= value <= _INTEGER_MAX
            ):
                break
        else:
            return record  # the common case, without a copy
    if isinstance(record, Mapping):
        return {name: _value(value, record) for name, value in record.items()}
    if isinstance(record, Sequence) and not isinstance(record, str | bytes):
        return [_value(value, record) for value in record]
    raise TypeError(f"an SQLite sink takes tuples, lists or dicts, not {type(record).__name__}: {record!r}")


def _value(value: Any, record: Any) -> Any:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # of a subclass, too
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int) and -_INTEGER_MAX <= value <= _INTEGER_MAX:
        return int(value)
    raise TypeError(f"SQLite has no type for {type(value).__name__} {value!r} in {record!r}")


def _quoted(name: str) -> str:
    if not name or "\0" in name:
        raise OptionError(f"{name!r} is no name in SQL")
    return '"' + name.replace('"', '""') + '"'


def _inserts(table: str, chunk: Sequence[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Statements with their plain records, in order; neighbours of the same shape share one."""
    for (names, width), group in itertools.groupby(chunk, _shape):
        records = list(group)
        columns = f" ({', '.join(map(_quoted, names))})" if names else ""
        marks = ", ".join("?" * width)
        rows = [list(record.values()) for record in records] if names else records
        yield f"insert into {table}{columns} values ({marks})", rows


def _shape(record: Any) -> tuple[tuple[str, ...], int]:
    """Names and number of the columns that a record fills."""
    return tuple(record) if type(record) is dict else (), len(record)
