from __future__ import annotations

import asyncio
import logging
import random

import pytest

from aiostream_engine.config import RetryPolicy
from aiostream_engine.errors import OptionError, SinkError
from aiostream_engine.sinks.base import (
    IdempotentSink,
    PartialWriteError,
    PlainSink,
    SinkContext,
    TransactionalSink,
    WriteKey,
)
from aiostream_engine.sinks.memory import ListSink
from aiostream_engine.sinks.retry import retrying
from aiostream_engine.types import BatchTime


class JumpClock:
    """Sleeping takes no time and is written down."""

    def __init__(self):
        self.now = 0.0
        self.waits = []

    def time(self):
        return self.now

    def monotonic(self):
        return self.now

    async def sleep_until(self, deadline):
        self.waits.append(deadline - self.now)
        self.now = max(self.now, deadline)
        await asyncio.sleep(0)


class Flaky(ListSink):
    """Fails the first ``failures`` writes, after the outside has taken them when ``after`` is set."""

    def __init__(self, failures, *, after=False):
        super().__init__(name="database")
        self.failures = failures
        self.after = after
        self.keys = []

    async def write(self, key, records):
        self.keys.append(key)
        failing = len(self.keys) <= self.failures
        if failing and not self.after:
            async for _ in records:  # it read something before it failed
                break
            raise ConnectionError("connection refused")
        await super().write(key, records)
        if failing:
            raise ConnectionResetError("no reply")


async def test_a_sink_that_is_down_for_a_while_gets_the_same_key_until_it_is_up(key, chunks):
    """F1"""
    inner, clock = Flaky(failures=4), JumpClock()
    sink = retrying(inner, RetryPolicy(attempts_max=None, wait_s=1, jitter=0), clock=clock)
    await sink.write(key(3), chunks([1], [2], [3]))
    assert inner.records == [1, 2, 3]
    assert set(inner.keys) == {key(3)}
    assert clock.waits == [1, 2, 4, 8]
    assert sink.statistics().attempts_failed == 4
    assert sink.statistics().failing_since is None


async def test_a_long_outage_is_waited_out_with_few_log_records(key, chunks, caplog):
    """F2"""
    inner, clock = Flaky(failures=500), JumpClock()
    sink = retrying(inner, RetryPolicy(attempts_max=None, wait_s=1, wait_max_s=10), clock=clock)
    with caplog.at_level(logging.WARNING, "aiostream_engine.sinks"):
        await sink.write(key(), chunks([1]))
    assert inner.records == [1]
    assert 1 <= len(caplog.records) <= 5


async def test_an_unknown_outcome_is_tried_again_and_an_idempotent_sink_counts_it_once(key, chunks):
    """F4"""
    inner = Flaky(failures=2, after=True)
    await retrying(inner, clock=JumpClock()).write(key(), chunks(["a"], ["b"]))
    assert inner.records == ["a", "b"]
    assert len(inner.keys) == 3


async def test_an_unknown_outcome_of_a_plain_sink_is_a_duplicate(key, chunks):
    """F4"""

    class Plain(PlainSink):
        got = ()

        async def write(self, key, records):
            self.got += tuple([record async for chunk in records for record in chunk])
            if len(self.got) == 1:
                raise ConnectionResetError("no reply")

    inner = Plain()
    await retrying(inner, clock=JumpClock()).write(key(), chunks(["a"]))
    assert inner.got == ("a", "a")


async def test_at_the_end_the_error_names_sink_batch_partition_and_cause(key, chunks):
    """F1"""
    sink = retrying(Flaky(failures=9), RetryPolicy(attempts_max=3), clock=JumpClock())
    with pytest.raises(
        SinkError, match=r"'database' failed on batch 7 .*partition 2 of 4 after 3 tries"
    ) as info:
        await sink.write(key(7, 2, 4), chunks([1]))
    assert "ConnectionError: connection refused" in str(info.value)
    assert isinstance(info.value.__cause__, ConnectionError)
    assert sink.statistics().gave_up == 1


async def test_a_hanging_write_is_cancelled_at_its_deadline_and_tried_again(key, chunks):
    """F7"""
    cancelled = []

    class Hangs(ListSink):
        async def write(self, key, records):
            if not cancelled:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled.append(key)
                    raise
            await super().write(key, records)

    inner = Hangs()
    sink = retrying(inner, timeout_s=0.05, clock=JumpClock())
    await sink.write(key(), chunks([1], [2]))
    assert inner.records == [1, 2]
    assert cancelled == [key()]
    assert sink.statistics().timeouts == 1


async def test_a_sink_that_ignores_its_cancellation_is_abandoned_and_never_doubled(key, chunks, monkeypatch):
    """F7"""
    monkeypatch.setattr("aiostream_engine.sinks.retry.CANCEL_GRACE_S", 0.02)
    release, begun = asyncio.Event(), []

    class Stubborn(PlainSink):
        async def write(self, key, records):
            begun.append(key)
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

    sink = retrying(Stubborn(), RetryPolicy(attempts_max=3), timeout_s=0.02, clock=JumpClock())
    with pytest.raises(SinkError, match="does not heed cancellation"):
        await sink.write(key(), chunks([1]))
    assert len(begun) == 1
    release.set()
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))


async def test_a_slow_write_within_its_deadline_is_left_to_finish(key, chunks):
    """F3"""

    class Slow(ListSink):
        async def write(self, key, records):
            await asyncio.sleep(0.05)
            await super().write(key, records)

    inner = Slow()
    sink = retrying(inner, timeout_s=30)
    await sink.write(key(), chunks([1]))
    assert inner.records == [1]
    assert sink.statistics().attempts_failed == 0


async def test_a_deadline_in_the_middle_of_reading_loses_no_record(key):
    """F3, F7: the origin of the records is slow, and is not cancelled with the try."""
    go_on = asyncio.Event()

    async def slow_origin():
        yield [1]
        await go_on.wait()
        yield [2]
        yield [3]

    class Counting(ListSink):
        tries = 0

        async def write(self, key, records):
            self.tries += 1
            if self.tries == 2:
                go_on.set()
            await super().write(key, records)

    inner = Counting()
    await retrying(inner, timeout_s=0.2, clock=JumpClock()).write(key(), slow_origin())
    assert inner.records == [1, 2, 3]
    assert inner.tries == 2


async def test_a_failure_of_the_records_themselves_is_not_blamed_on_the_sink(key):
    async def broken():
        yield [1]
        raise LookupError("blocks released")

    inner = Flaky(failures=0)
    with pytest.raises(LookupError, match="blocks released"):
        await retrying(inner, clock=JumpClock()).write(key(), broken())
    assert len(inner.keys) == 1


@pytest.mark.parametrize("error", [OptionError("bad"), TypeError("bad")])
async def test_an_error_of_the_program_is_not_tried_again(key, chunks, error):
    calls = []

    class Wrong(PlainSink):
        async def write(self, key, records):
            calls.append(key)
            raise error

    with pytest.raises(type(error)):
        await retrying(Wrong(), clock=JumpClock()).write(key(), chunks([1]))
    assert len(calls) == 1


async def test_cancelling_the_write_cancels_the_try_and_the_draw_of_records(key):
    """I3"""
    entered, ended = asyncio.Event(), []

    async def endless():
        try:
            yield [1]
            entered.set()
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    write = asyncio.create_task(retrying(ListSink(), timeout_s=30).write(key(), endless()))
    await asyncio.wait_for(entered.wait(), 20)
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    assert ended == [True]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_staging_committing_and_aborting_are_each_tried_again(key, chunks):
    """F1"""
    log = []

    class Transactions(TransactionalSink):
        async def stage(self, key, records):
            log.append(("stage", [r async for chunk in records for r in chunk]))
            if len(log) == 1:
                raise ConnectionError
            return "token"

        async def commit(self, batch_id, time, tokens):
            log.append(("commit", batch_id, tokens))
            if len(log) == 3:
                raise ConnectionError

        async def abort(self, batch_id, tokens):
            log.append(("abort", batch_id, tokens))

    sink = retrying(Transactions(), clock=JumpClock())
    assert isinstance(sink, TransactionalSink)
    assert await sink.stage(key(), chunks([1], [2])) == "token"
    await sink.commit(1, key().time, ["token"])
    await sink.abort(2, ["token"])
    assert log == [
        ("stage", [1, 2]),
        ("stage", [1, 2]),
        ("commit", 1, ["token"]),
        ("commit", 1, ["token"]),
        ("abort", 2, ["token"]),
    ]


async def test_opening_is_tried_again_and_closing_goes_through():
    log = []

    class Opens(ListSink):
        async def open(self, context):
            log.append(context.name)
            if len(log) == 1:
                raise ConnectionError

        async def aclose(self):
            log.append("closed")

    sink = retrying(Opens(), clock=JumpClock())
    await sink.open(SinkContext("out"))
    await sink.aclose()
    assert log == ["out", "out", "closed"]


def test_the_kind_name_and_concurrency_of_the_sink_are_kept():
    inner = ListSink(name="mine")
    inner.concurrency_max = 3
    sink = retrying(inner)
    assert isinstance(sink, IdempotentSink)
    assert not isinstance(sink, PlainSink)
    assert (sink.name, sink.concurrency_max) == ("mine", 3)


def test_a_deadline_of_nothing_is_refused():
    with pytest.raises(OptionError, match="timeout_s"):
        retrying(ListSink(), timeout_s=0)


async def test_waits_are_spread_by_the_jitter_of_the_given_random(key, chunks):
    clock = JumpClock()
    sink = retrying(Flaky(failures=2), RetryPolicy(wait_s=1, jitter=0.5), clock=clock, rng=random.Random(1))
    await sink.write(key(), chunks([1]))
    draws = random.Random(1)
    assert clock.waits == [RetryPolicy(wait_s=1, jitter=0.5).wait_before(n, draws.random()) for n in (1, 2)]


class Picky(PlainSink):
    """Takes even numbers at once, odd ones at the second try, and never a negative one."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.tries: list[list[int]] = []

    async def write(self, key, records):
        found = [record async for chunk in records for record in chunk]
        self.tries.append(found)
        late = [record for record in found if record % 2 and len(self.tries) == 1 and record > 0]
        refused = [(record, "below zero") for record in found if record < 0]
        self.taken += [record for record in found if record not in late and record >= 0]
        if late or refused:
            raise PartialWriteError("some were not taken", late, refused)


async def test_after_a_partial_failure_only_the_rest_is_tried_again():
    """F5"""
    sink, refused = Picky(), []
    kept = retrying(sink, RetryPolicy(wait_s=0), on_refused=lambda *given: refused.append(given))
    await kept.write(WriteKey("s", 1, BatchTime(1), 0, 1), _chunks([[1, 2], [-3, 4, 5]]))
    assert sink.tries == [[1, 2, -3, 4, 5], [1, 5]]
    assert sorted(sink.taken) == [1, 2, 4, 5]
    assert refused == [(sink.name, -3, "below zero")]
    assert kept.statistics().refused == 1


async def test_a_record_that_is_never_taken_fails_the_write_when_nobody_wants_to_know():
    sink = Picky()
    with pytest.raises(SinkError, match=r"will never take a record of batch 1 .*: below zero"):
        await retrying(sink).write(WriteKey("s", 1, BatchTime(1), 0, 1), _chunks([[-3]]))
    assert len(sink.tries) == 1


async def _chunks(chunks):
    for chunk in chunks:
        yield chunk
