from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading

import pytest

from aiostream_engine.errors import OptionError, SinkError, StorageError
from aiostream_engine.sinks import sqlite
from aiostream_engine.sinks.base import SinkContext, TransactionalSink
from aiostream_engine.sinks.sqlite import SqliteSink
from aiostream_engine.testing import crash_environment

SCHEMA = "create table if not exists counts (word text primary key, n integer not null)"
ADD = "insert into counts values (?, ?) on conflict (word) do update set n = n + excluded.n"


@pytest.fixture
async def opened(tmp_path):
    """Makes sinks on one database, and closes them."""
    sinks = []

    async def make(*, name="out", **options):
        options = {"statement": ADD} | options if "table" not in options else options
        sink = SqliteSink(tmp_path / "a b.db", schema=SCHEMA, name=name, **options)
        await sink.open(SinkContext(name))
        sinks.append(sink)
        return sink

    yield make
    for sink in sinks:
        await sink.aclose()


def query(sink, sql="select * from counts order by word"):
    with contextlib.closing(sqlite3.connect(sink.path)) as connection:
        return connection.execute(sql).fetchall()


def staged(sink):
    return query(sink, "select count(*) from aiostream_staged")[0][0]


async def stage(sink, key, chunks, batch, *partitions):
    keys = [key(batch, index, len(partitions)) for index in range(len(partitions))]
    return [await sink.stage(one, chunks(records)) for one, records in zip(keys, partitions, strict=True)]


async def test_nothing_shows_before_the_commit_and_all_of_it_after(opened, key, chunks):
    """F10"""
    sink = await opened()
    tokens = await stage(sink, key, chunks, 1, [("a", 1), ("b", 2)], [("a", 3)])
    assert query(sink) == []
    await sink.commit(1, key(1).time, tokens)
    assert query(sink) == [("a", 4), ("b", 2)]
    assert query(sink, "select * from aiostream_commits") == [("out", 1, key(1).time, 3)]
    assert staged(sink) == 0
    assert isinstance(sink, TransactionalSink)


async def test_a_commit_that_is_repeated_adds_nothing(opened, key, chunks):
    """B3: also by another process, from tokens that were read back as JSON."""
    sink = await opened()
    tokens = json.loads(json.dumps(await stage(sink, key, chunks, 1, [("a", 1)])))
    await sink.commit(1, key(1).time, tokens)
    await sink.aclose()
    fresh = await opened()
    await fresh.commit(1, key(1).time, tokens)
    assert query(fresh) == [("a", 1)]


async def test_tokens_are_enough_for_a_fresh_process_to_commit(opened, key, chunks):
    """B3"""
    sink = await opened()
    tokens = await stage(sink, key, chunks, 1, [("a", 1)], [("b", 2)])
    await sink.aclose()
    fresh = await opened()
    await fresh.commit(1, key(1).time, tokens)
    assert query(fresh) == [("a", 1), ("b", 2)]


async def test_a_run_that_counts_batches_from_one_again_is_not_taken_for_a_repetition(opened, key, chunks):
    sink = await opened()
    for time in (1_700_000_000_000, 1_800_000_000_000):
        token = await sink.stage(key(1)._replace(time=time), chunks([("a", 1)]))
        await sink.commit(1, time, [token])
    assert query(sink) == [("a", 2)]


async def test_a_partition_that_is_staged_again_replaces_its_earlier_try(opened, key, chunks):
    """B2"""
    sink = await opened()
    await stage(sink, key, chunks, 1, [("a", 1), ("b", 1)], [("c", 1)])
    tokens = await stage(sink, key, chunks, 1, [("a", 5)])
    await sink.commit(1, key(1).time, tokens)
    assert query(sink) == [("a", 5)]
    assert staged(sink) == 0, "what was staged for a partition that is no more goes as well (C11)"


async def test_an_aborted_batch_leaves_nothing_and_later_ones_stay(opened, key, chunks):
    """C11"""
    sink = await opened()
    tokens = await stage(sink, key, chunks, 1, [("a", 1)])
    later = await stage(sink, key, chunks, 2, [("b", 1)])
    for _ in range(2):
        await sink.abort(1, tokens)
    assert staged(sink) == 1
    await sink.commit(2, key(2).time, later)
    assert query(sink) == [("b", 1)]


async def test_two_sinks_of_different_names_share_a_database(opened, key, chunks):
    one, two = await opened(name="one"), await opened(name="two")
    first, second = await stage(one, key, chunks, 1, [("a", 1)]), await stage(two, key, chunks, 1, [("a", 2)])
    await one.commit(1, key(1).time, first)
    await two.commit(1, key(1).time, second)
    assert query(one) == [("a", 3)]


async def test_an_empty_batch_writes_nothing(opened, key, chunks):
    """D5"""
    sink = await opened()
    tokens = await stage(sink, key, chunks, 1, [], [])
    await sink.commit(1, key(1).time, tokens)
    assert query(sink, "select count(*) from aiostream_commits") == [(0,)]


async def test_dicts_fill_named_parameters(opened, key, chunks):
    sink = await opened(statement="insert into counts values (:word, :n)")
    tokens = await stage(sink, key, chunks, 1, [{"n": 1, "word": "a"}])
    await sink.commit(1, key(1).time, tokens)
    assert query(sink) == [("a", 1)]


async def test_a_table_takes_tuples_and_dicts_in_the_order_of_the_records(opened, key, chunks):
    sink = await opened(table='odd "table', check=True)
    with contextlib.closing(sqlite3.connect(sink.path)) as connection:
        connection.execute('create table "odd ""table" (a, "b;--")')
    records = [(1, b"x"), {"b;--": 2.5, "a": None}, {"a": True}, [3, "é"]]
    tokens = await stage(sink, key, chunks, 1, records)
    await sink.commit(1, key(1).time, tokens)
    assert query(sink, 'select * from "odd ""table" order by rowid') == [
        (1, b"x"),
        (None, 2.5),
        (1, None),
        (3, "é"),
    ]


@pytest.mark.parametrize("record", [5, "text", ([],), ({},), {"word": 1j}, (2**63, 1), ("a", -(2**70))])
@pytest.mark.parametrize("check", [True, False])
async def test_a_record_that_the_database_has_no_type_for_fails_before_the_batch_is_true(
    opened, key, chunks, record, check
):
    sink = await opened(check=check)
    with pytest.raises(TypeError):
        await sink.stage(key(1), chunks([record]))
    assert staged(sink) == 0


@pytest.mark.parametrize("records", [[("a",)], [("a", None)], [("a", 1, 2)]])
async def test_a_row_that_the_table_refuses_fails_before_the_batch_is_true(opened, key, chunks, records):
    sink = await opened()
    with pytest.raises(TypeError, match="refuses"):
        await sink.stage(key(1), chunks(records))
    assert (staged(sink), query(sink)) == (0, [])
    tokens = await stage(sink, key, chunks, 1, [("a", 1)])
    await sink.commit(1, key(1).time, tokens)
    assert query(sink) == [("a", 1)]


async def test_a_commit_that_fails_midway_leaves_the_table_as_it_was_and_can_be_repeated(opened, key, chunks):
    sink = await opened(statement="insert into counts values (?, ?)")
    tokens = await stage(sink, key, chunks, 1, [("a", 1), ("b", 1)])
    with contextlib.closing(sqlite3.connect(sink.path)) as other, other:
        other.execute("insert into counts values ('b', 0)")
    with pytest.raises(TypeError, match="UNIQUE"):
        await sink.commit(1, key(1).time, tokens)
    assert query(sink) == [("b", 0)]
    with contextlib.closing(sqlite3.connect(sink.path)) as other, other:
        other.execute("delete from counts")
    await sink.commit(1, key(1).time, tokens)
    assert query(sink) == [("a", 1), ("b", 1)]


async def test_staged_rows_that_are_gone_are_a_loss_that_is_told(opened, key, chunks):
    sink = await opened()
    tokens = await stage(sink, key, chunks, 1, [("a", 1)], [("b", 1)])
    with contextlib.closing(sqlite3.connect(sink.path)) as other, other:
        other.execute("delete from aiostream_staged where partition = 1")
    with pytest.raises(StorageError, match="holds 0 staged rows of partition 1 of committed batch 1, not 1"):
        await sink.commit(1, key(1).time, tokens)
    assert query(sink) == []


async def test_a_database_that_another_writer_holds_is_waited_for_and_then_an_error(opened, key, chunks):
    """F7"""
    sink = await opened(busy_timeout_s=0.05)
    with contextlib.closing(sqlite3.connect(sink.path, isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(SinkError, match="locked"):
            await sink.stage(key(1), chunks([("a", 1)]))
        other.execute("rollback")
    await sink.stage(key(1), chunks([("a", 1)]))


async def test_all_calls_come_from_one_thread_that_ends_with_the_sink(opened, key, chunks):
    sink = await opened()
    await sink.commit(1, key(1).time, await stage(sink, key, chunks, 1, [("a", 1)]))
    assert [t.name for t in threading.enumerate() if "sqlite" in t.name] == ["out-sqlite_0"]
    await sink.aclose()
    await sink.aclose()


async def test_the_commits_that_are_remembered_are_bounded(opened, key, chunks, monkeypatch):
    """F16: more than the one batch that a restart may repeat, and not all that ever were."""
    monkeypatch.setattr(sqlite, "COMMITS_KEPT", 3)
    sink = await opened()
    for batch in range(1, 7):
        await sink.commit(batch, key(batch).time, await stage(sink, key, chunks, batch, [("a", 1)]))
    assert query(sink, "select batch_id from aiostream_commits order by 1") == [(4,), (5,), (6,)]


@pytest.mark.parametrize("options", [{}, {"statement": "x", "table": "y"}, {"table": ""}, {"table": "a..b"}])
def test_bad_options_are_refused_at_once(tmp_path, options):
    with pytest.raises(OptionError):
        SqliteSink(tmp_path / "x.db", **options)


def test_a_database_in_memory_is_refused():
    with pytest.raises(OptionError, match="needs a file"):
        SqliteSink(":memory:", table="x")


async def test_a_database_that_cannot_be_opened_is_named(tmp_path):
    sink = SqliteSink(tmp_path / "missing" / "x.db", table="x")
    with pytest.raises(SinkError, match=r"missing/x\.db"):
        await sink.open(SinkContext("out"))
    await sink.aclose()


_PROGRAM = """
import asyncio, json, sys
from aiostream_engine.sinks.base import SinkContext, WriteKey
from aiostream_engine.sinks.sqlite import SqliteSink
from aiostream_engine.types import BatchTime

async def records(word):
    yield [(word, 1)]

async def main(path, committed, schema, add):
    sink = SqliteSink(path, statement=add, schema=schema)
    await sink.open(SinkContext("out"))
    time = BatchTime(1_700_000_000_000)
    try:
        tokens = json.load(open(committed))
    except FileNotFoundError:
        keys = [WriteKey("out", 1, time, n, 2) for n in range(2)]
        tokens = [await sink.stage(key, records(word)) for key, word in zip(keys, "ab")]
        json.dump(tokens, open(committed, "w"))
    await sink.commit(1, time, tokens)
    await sink.aclose()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.faults
@pytest.mark.parametrize(
    ("point", "hit"),
    [("after_stage", 1), ("after_stage", 2), ("mid_sqlite_commit", 1), ("after_sqlite_commit", 1)],
)
def test_a_kill_at_each_point_is_made_good_by_the_next_process(tmp_path, point, hit):
    """B1, B2, B3"""
    path = tmp_path / "x.db"
    command = [sys.executable, "-c", _PROGRAM, str(path), str(tmp_path / "committed"), SCHEMA, ADD]
    environment = os.environ | crash_environment(point, hit=hit)
    assert subprocess.run(command, env=environment, timeout=50, check=False).returncode == -9
    subprocess.run(command, timeout=50, check=True)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select * from counts order by word").fetchall() == [("a", 1), ("b", 1)]
