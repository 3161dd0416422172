"""One embedded store, doing for itself what a stateful step asks of its state."""

from __future__ import annotations

import os
import pickle
import random
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from common.program import package_version, parameters, report

given = parameters()
MIB = 1024 * 1024
GROUP = 10_000
_NUMBER = struct.Struct(">q")
Row = tuple[int, bytes]  # the hash of a key, what is kept for it


class Store(Protocol):
    """A row by the hash of its key, and the hashes in the order of their last touch."""

    version: str

    def get(self, hashed: int) -> bytes | None: ...

    def put(self, rows: list[Row], place: int) -> None:
        """Write rows; they get the places ``place``, ``place + 1``, … in the order of touch."""

    def rows(self) -> Iterable[bytes]: ...

    def oldest(self, count: int) -> list[int]: ...


class InMemory:
    version = ""

    def __init__(self, _: Path) -> None:
        self._entries: dict[int, bytes] = {}
        self._order: dict[int, None] = {}

    def get(self, hashed: int) -> bytes | None:
        return self._entries.get(hashed)

    def put(self, rows: list[Row], place: int) -> None:
        self._entries.update(rows)
        for hashed, _ in rows:
            self._order.pop(hashed, None)
            self._order[hashed] = None

    def rows(self) -> Iterable[bytes]:
        return self._entries.values()

    def oldest(self, count: int) -> list[int]:
        return [hashed for hashed, _ in zip(self._order, range(count), strict=False)]


class Sqlite:
    """One transaction that never ends in a file without a name: it need not survive its process."""

    def __init__(self, directory: Path, wal: bool = False) -> None:
        import sqlite3

        self.version = sqlite3.sqlite_version
        self._wal = wal
        path = directory / "state"
        self._db = sqlite3.connect(path, isolation_level=None)
        run = self._db.execute
        run(f"pragma cache_size = {-given['cache_bytes'] // 1024}")
        if wal:
            run("pragma journal_mode = wal")
            run("pragma synchronous = off")
            run("create table entries (hash integer primary key, place integer, data blob) without rowid")
        else:
            for pragma in ("journal_mode = off", "synchronous = off", "locking_mode = exclusive"):
                run(f"pragma {pragma}")
            run("create table entries (hash integer primary key, place integer, data blob)")
        run("create index by_place on entries (place)")
        if not wal:
            run("begin")
            path.unlink()

    def get(self, hashed: int) -> bytes | None:
        row = self._db.execute("select data from entries where hash = ?", (hashed,)).fetchone()
        return row and row[0]

    def put(self, rows: list[Row], place: int) -> None:
        if self._wal:
            self._db.execute("begin")
        self._db.executemany(
            "insert into entries values (?, ?, ?) on conflict (hash) do update "
            "set place = excluded.place, data = excluded.data",
            ((hashed, place + index, data) for index, (hashed, data) in enumerate(rows)),
        )
        if self._wal:
            self._db.execute("commit")

    def rows(self) -> Iterator[bytes]:
        return (data for (data,) in self._db.execute("select data from entries"))

    def oldest(self, count: int) -> list[int]:
        found = self._db.execute("select hash from entries order by place limit ?", (count,))
        return [hashed for (hashed,) in found]


class Lmdb:
    version = package_version("lmdb")

    def __init__(self, directory: Path) -> None:
        import lmdb

        self._env = lmdb.open(
            str(directory), map_size=64 * 1024 * MIB, max_dbs=2, sync=False, metasync=False, lock=False
        )
        self._entries = self._env.open_db(b"entries")
        self._order = self._env.open_db(b"order")
        self._txn = self._env.begin(write=True)

    def get(self, hashed: int) -> bytes | None:
        found = self._txn.get(_NUMBER.pack(hashed), db=self._entries)
        return found and found[8:]

    def put(self, rows: list[Row], place: int) -> None:
        for index, (hashed, data) in enumerate(rows):
            key, at = _NUMBER.pack(hashed), _NUMBER.pack(place + index)
            old = self._txn.get(key, db=self._entries)
            if old is not None:
                self._txn.delete(old[:8], db=self._order)
            self._txn.put(key, at + data, db=self._entries)
            self._txn.put(at, key, db=self._order, append=True)
        self._txn.commit()  # its dirty pages are in memory until then
        self._txn = self._env.begin(write=True)

    def rows(self) -> Iterator[bytes]:
        return (value[8:] for value in self._txn.cursor(db=self._entries).iternext(keys=False))

    def oldest(self, count: int) -> list[int]:
        cursor = self._txn.cursor(db=self._order).iternext(keys=False)
        return [_NUMBER.unpack(key)[0] for key, _ in zip(cursor, range(count), strict=False)]


class Rocks:
    version = package_version("rocksdict")

    def __init__(self, directory: Path) -> None:
        import rocksdict as r

        self._r = r
        options = r.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(given["cache_bytes"] // 4)
        table = r.BlockBasedOptions()
        table.set_block_cache(r.Cache(given["cache_bytes"] // 2))
        table.set_bloom_filter(10, False)
        options.set_block_based_table_factory(table)
        self._options = options
        self._entries = r.Rdict(str(directory / "entries"), options)
        self._order = r.Rdict(str(directory / "order"), options)
        unlogged = r.WriteOptions()
        unlogged.disable_wal = True
        self._unlogged = unlogged

    def get(self, hashed: int) -> bytes | None:
        found = self._entries.get(_NUMBER.pack(hashed))
        return found and found[8:]

    def put(self, rows: list[Row], place: int) -> None:
        entries, order = self._r.WriteBatch(raw_mode=True), self._r.WriteBatch(raw_mode=True)
        for index, (hashed, data) in enumerate(rows):
            key, at = _NUMBER.pack(hashed), _NUMBER.pack(place + index)
            old = self._entries.get(key)
            if old is not None:
                order.delete(old[:8])
            entries.put(key, at + data)
            order.put(at, key)
        self._entries.write(entries, self._unlogged)
        self._order.write(order, self._unlogged)

    def rows(self) -> Iterator[bytes]:
        return (value[8:] for value in self._entries.values())

    def oldest(self, count: int) -> list[int]:
        return [_NUMBER.unpack(key)[0] for key, _ in zip(self._order.values(), range(count), strict=False)]


def opened(directory: Path) -> Store:
    name = given["store"]
    if name == "dict":
        return InMemory(directory)
    if name.startswith("sqlite"):
        return Sqlite(directory, wal=name == "sqlite-wal")
    return Lmdb(directory) if name == "lmdb" else Rocks(directory)


def memory_mib(kind: str) -> float:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(kind))


def disk_mib(directory: Path) -> float:
    """Blocks in use by open files too, which may have no name any more."""
    found = set()
    for path in [*directory.rglob("*"), *Path("/proc/self/fd").iterdir()]:
        target = os.readlink(path) if path.is_symlink() else str(path)
        if target.startswith(str(directory.resolve())):
            status = os.stat(path)
            found.add((status.st_ino, status.st_blocks * 512))
    return sum(size for _, size in found) / MIB


def main() -> None:
    directory = Path(given["disk"])
    before = memory_mib("RssAnon"), memory_mib("RssFile")
    store, dice = opened(directory), random.Random(1)
    keys, text = given["keys"], "x" * given["value_bytes"]
    metrics: dict[str, float] = {}
    began = time.perf_counter()
    for first in range(0, keys, GROUP):
        group = range(first, min(first + GROUP, keys))
        store.put([(hash(f"user-{number}"), pickle.dumps((number, 1, text), 5)) for number in group], first)
    metrics["load_per_s"] = keys / (time.perf_counter() - began)
    touched = 0
    began = time.perf_counter()
    for _ in range(given["batches"]):
        changed = []
        for number in dice.sample(range(keys), given["touched"]):
            hashed = hash(f"user-{number}")
            data = store.get(hashed)
            assert data is not None
            number, count, text = pickle.loads(data)
            changed.append((hashed, pickle.dumps((number, count + 1, text), 5)))
        store.put(changed, keys + touched)
        touched += len(changed)
    metrics["touches_per_s"] = touched / (time.perf_counter() - began)
    began = time.perf_counter()
    total = sum(pickle.loads(data)[1] for data in store.rows())
    metrics["scan_per_s"] = keys / (time.perf_counter() - began)
    began = time.perf_counter()
    idle = store.oldest(given["touched"] // 100)
    metrics["idle_ms"] = (time.perf_counter() - began) * 1e3
    began = time.perf_counter()
    with open(directory / "snapshot", "wb") as file:
        for data in store.rows():
            file.write(data)
    metrics["snapshot_s"] = time.perf_counter() - began
    os.unlink(directory / "snapshot")
    metrics["memory_mib"] = max(0.0, memory_mib("RssAnon") - before[0])
    metrics["mapped_mib"] = max(0.0, memory_mib("RssFile") - before[1])
    metrics["disk_mib"] = disk_mib(directory)
    assert len(idle) == given["touched"] // 100
    report(answer=total, version=store.version, metrics=metrics)


main()
