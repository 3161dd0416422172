"""A context with a checkpoint directory, as far as one process shows it."""

from __future__ import annotations

import asyncio

import pytest

import aiostream_engine as ase
from aiostream_engine.config import CheckpointConfig
from aiostream_engine.durable.lock import DirectoryInUseError
from aiostream_engine.errors import GraphError, OptionError
from aiostream_engine.observe.health import HealthState
from aiostream_engine.sinks.base import TransactionalSink

DEADLINE_S = 30


class GatedSink(TransactionalSink):
    """Keeps committed records; staging and committing wait for their gates."""

    def __init__(self) -> None:
        self.name = "gated"
        self.staging, self.committing = asyncio.Event(), asyncio.Event()
        self.may_stage, self.may_commit = asyncio.Event(), asyncio.Event()
        self.opened = False
        self.committed: dict[int, list[str]] = {}

    async def open(self, context):
        self.opened = True

    async def stage(self, key, records):
        rows = [record async for chunk in records for record in chunk]
        if rows:
            self.staging.set()
            await self.may_stage.wait()
        return rows

    async def commit(self, batch_id, time, tokens):
        rows = [record for token in tokens for record in token]
        if rows:
            self.committing.set()
            await self.may_commit.wait()
            self.committed[batch_id] = rows

    async def abort(self, batch_id, tokens):
        pass


def stream(tmp_path, sink):
    (tmp_path / "in").mkdir(exist_ok=True)
    ssc = ase.StreamingContext(0.05, "local")
    ssc.text_file_stream(str(tmp_path / "in"), name="lines").to(sink, name="out")
    return ase.StreamingContext.get_or_create(str(tmp_path / "checkpoint"), lambda: ssc)


def write(tmp_path, name, text):
    (tmp_path / f".{name}").write_text(text)
    (tmp_path / f".{name}").rename(tmp_path / "in" / name)


async def until(condition):
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def stopped_at(tmp_path, gate):
    """A first run that ends at a gate, with a batch under way."""
    sink = GatedSink()
    if gate == "committing":
        sink.may_stage.set()
    async with stream(tmp_path, sink) as ssc:
        await ssc.start()
        write(tmp_path, "a", "first\n")
        await asyncio.wait_for(getattr(sink, gate).wait(), DEADLINE_S)
    assert sink.committed == {}


async def test_a_stream_is_not_ready_before_the_batches_of_the_last_run_are_true(tmp_path):
    """I11, B5"""
    await stopped_at(tmp_path, "staging")
    sink = GatedSink()
    sink.may_commit.set()
    async with stream(tmp_path, sink) as ssc:
        assert ssc.health().state is HealthState.STARTING
        await ssc.start()
        await asyncio.wait_for(sink.staging.wait(), DEADLINE_S)
        health = ssc.health()
        assert (health.state, health.live, health.ready) == (HealthState.STARTING, True, False)
        sink.may_stage.set()
        await until(lambda: ssc.health().ready)
    assert list(sink.committed.values()) == [["first"]]


async def test_a_stream_is_not_ready_while_the_last_commit_is_published_again(tmp_path):
    """I11, B3"""
    await stopped_at(tmp_path, "committing")
    sink = GatedSink()
    async with stream(tmp_path, sink) as ssc:
        starting = asyncio.ensure_future(ssc.start())
        await asyncio.wait_for(sink.committing.wait(), DEADLINE_S)
        assert not starting.done()
        assert ssc.health().state is HealthState.STARTING
        sink.may_commit.set()
        await asyncio.wait_for(starting, DEADLINE_S)
        assert ssc.health().ready
    assert list(sink.committed.values()) == [["first"]]


async def test_a_second_driver_is_refused_before_it_opens_a_sink(tmp_path):
    """B7"""
    async with stream(tmp_path, GatedSink()) as ssc:
        await ssc.start()
        other = GatedSink()
        with pytest.raises(DirectoryInUseError):
            await stream(tmp_path, other).start()
        assert not other.opened
        assert ssc.health().ready


async def test_get_or_create_always_builds_and_goes_on_from_the_directory(tmp_path):
    """CTX-21: the directory holds data, the program comes from the function."""
    sink = GatedSink()
    sink.may_stage.set()
    sink.may_commit.set()
    async with stream(tmp_path, sink) as ssc:
        await ssc.start()
        write(tmp_path, "a", "first\n")
        await until(lambda: sink.committed)
    second = GatedSink()
    second.may_stage.set()
    second.may_commit.set()
    async with stream(tmp_path, second) as ssc:
        await ssc.start()
        write(tmp_path, "b", "second\n")
        await until(lambda: "second" in str(second.committed))
    ((first, _),) = sink.committed.items()
    later = {batch: rows for batch, rows in second.committed.items() if batch != first}
    assert list(later.values()) == [["second"]]
    assert min(later) > first


def test_get_or_create_refuses_what_is_no_context_and_a_second_directory(tmp_path):
    with pytest.raises(OptionError, match="must return a StreamingContext, not int"):
        ase.StreamingContext.get_or_create("x", lambda: 5)
    with pytest.raises(OptionError, match="another checkpoint directory"):
        ase.StreamingContext.get_or_create("x", lambda: ase.StreamingContext(checkpoint="y"))


async def test_get_or_create_takes_a_configuration_and_refuses_a_stream_that_runs(tmp_path):
    config = CheckpointConfig(str(tmp_path / "c"), drop_unknown_state=True)
    ssc = ase.StreamingContext(0.05, "local", checkpoint=config)
    assert ase.StreamingContext.get_or_create(config, lambda: ssc) is ssc
    ssc.queue_stream([[1]]).foreach_rdd(lambda rdd: None)
    async with ssc:
        await ssc.start()
        with pytest.raises(GraphError):
            ase.StreamingContext.get_or_create(config, lambda: ssc)
