"""From a topic to a topic, each record once: offsets, state and output become true in one transaction."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import aiostream_engine
from aiostream_engine.config import RetryPolicy
from aiostream_engine.durable.checkpoint_directory import FencedError
from aiostream_engine.errors import ConfigurationError, GraphError, SinkError
from aiostream_engine.kafka.admin import KafkaAdmin
from aiostream_engine.kafka.settings import KafkaSettings
from aiostream_engine.sinks.base import BatchCommit, BatchMark
from aiostream_engine.sinks.kafka import KafkaSink
from aiostream_engine.testing import crash_environment
from aiostream_engine.types import BatchTime
from tests.sinks.kafka.topics import committed, opened, reading, run
from tests.sources.kafka.streams import send

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(120)]

APP = Path(__file__).with_name("crash_app.py")
RECORDS = 300
POINTS = [
    "after_first_mark",
    "after_intent",
    "after_prepare",
    "in_transaction",
    "after_send",
    "before_end_of_transaction",
    "after_transaction",
    "after_commit",
    "mid_recovery",
    "before_confirm",
]


class Lives:
    """One stream after the other over the same topics and directory."""

    def __init__(self, bootstrap: str, source: str, target: str, base: Path) -> None:
        self.base = base
        self._bootstrap, self._source, self._target = bootstrap, source, target

    async def live(self, *, at: dict[str, str] | None = None, for_s: float | None = None) -> int:
        """Run until the end, a crash point, or SIGKILL after a while; gives the exit code."""
        root = Path(aiostream_engine.__file__).parent.parent
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(APP), self._bootstrap, self._source, self._target, str(self.base)),
            env={**os.environ, "PYTHONPATH": str(root), **(at or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output = asyncio.ensure_future(process.communicate())
        done, _ = await asyncio.wait({output}, timeout=60 if for_s is None else for_s)
        if not done:
            process.kill()
        text, _ = await output
        assert process.returncode in (0, -signal.SIGKILL), text.decode()[-4000:]
        assert b"never retrieved" not in text
        return process.returncode

    async def feed(self, numbers: range) -> None:
        for partition in range(2):
            mine = [b"%d" % number for number in numbers if number % 2 == partition]
            await send(self._bootstrap, self._source, mine, partition=partition)


def check(found: list[Any], total: int) -> None:
    """Each number once, the counts of the state as if nothing had happened, and in order per key."""
    written = [(one.key, *json.loads(one.value)) for one in found]
    assert sorted(number for _, number, _ in written) == list(range(total))
    for key in {key for key, _, _ in written}:
        mine = [(number, count) for one, number, count in written if one == key]
        assert [count for _, count in mine] == list(range(1, len(mine) + 1))
        for parity in (0, 1):
            numbers = [number for number, _ in mine if number % 2 == parity]
            assert numbers == sorted(numbers)


@pytest.fixture
async def lives(kafka, make_topic, tmp_path) -> Lives:
    source, target = await make_topic(kafka, partitions=2), await make_topic(kafka, partitions=2)
    return Lives(kafka.bootstrap, source, target, tmp_path)


@asynccontextmanager
async def watched(lives: Lives) -> AsyncIterator[list[Any]]:
    """What a consumer of committed records sees meanwhile."""
    seen: list[Any] = []

    async def watch() -> None:
        async with reading(lives._bootstrap, lives._target, 2) as consumer:
            while True:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    seen.extend(records)

    task = asyncio.create_task(watch())
    try:
        yield seen
        async with asyncio.timeout(20):
            while len(seen) < len(await committed(lives._bootstrap, lives._target, 0, 2)):
                await asyncio.sleep(0.1)
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_a_crash_point_each_record_is_seen_once(lives, point):
    """B1, F4: readers of committed records never see one twice, nor out of a key's order."""
    await lives.feed(range(RECORDS))
    async with watched(lives) as seen:
        if point in ("mid_recovery", "before_confirm"):
            assert await lives.live(at=crash_environment("after_transaction", hit=3)) == -signal.SIGKILL
        once = point in ("mid_recovery", "before_confirm", "after_first_mark")
        # The first mark is a transaction too.
        assert await lives.live(at=crash_environment(point, hit=1 if once else 3)) == -signal.SIGKILL
        await lives.feed(range(RECORDS, RECORDS + 50))
        assert await lives.live() == 0
        found = await committed(lives._bootstrap, lives._target, RECORDS + 50, 2)
    check(found, RECORDS + 50)
    check(seen, RECORDS + 50)


async def killed_at_random(lives: Lives, kills: int, more: int) -> None:
    moments = random.Random(11)
    total = 0
    async with watched(lives) as seen:
        for _ in range(kills):
            await lives.feed(range(total, total + more))
            total += more
            await lives.live(for_s=moments.uniform(0.8, 2.0))
        assert await lives.live() == 0
        found = await committed(lives._bootstrap, lives._target, total, 2)
    check(found, total)
    check(seen, total)


async def test_killed_at_any_moment_each_record_is_seen_once(lives):
    await killed_at_random(lives, 4, 300)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_killed_two_hundred_times_each_record_is_seen_once(lives):
    await killed_at_random(lives, 200, 200)


async def test_a_stream_of_another_source_is_exactly_once_as_well(kafka, make_topic, unique_name, tmp_path):
    """The mark stands for the batch, whatever the source."""
    topic, name = await make_topic(kafka), unique_name("id")

    def sink() -> KafkaSink:
        return KafkaSink(kafka.bootstrap, topic, projection="value", value="json", transactional_id=name)

    await run([[1, 2], [3]], sink(), checkpoint=str(tmp_path / "cp"))
    assert [one.value for one in await committed(kafka.bootstrap, topic, 3)] == [b"1", b"2", b"3"]


async def test_the_offsets_of_the_inputs_are_committed_with_the_output(lives, kafka):
    await lives.feed(range(RECORDS))
    assert await lives.live() == 0
    async with KafkaAdmin(KafkaSettings(kafka.bootstrap)) as admin:
        offsets = await admin.committed(lives._target)
    assert offsets[lives._source, 0] == offsets[lives._source, 1] == RECORDS // 2


async def test_the_older_of_two_streams_with_one_id_is_fenced_and_stops(kafka, make_topic, unique_name):
    """F11: no ping-pong; the newer one goes on."""
    topic, name = await make_topic(kafka), unique_name("id")
    first, second = (KafkaSink(kafka.bootstrap, topic, transactional_id=name) for _ in range(2))
    async with opened(first):
        await first.begin(BatchMark(1, 1000))
        async with opened(second):
            with pytest.raises(FencedError, match=f"another producer uses the transactional id '{name}'"):
                await first.commit_batch(BatchCommit(2, BatchTime(2000), {}), [])
            with pytest.raises(SinkError, match="the producer is closed"):
                await first.commit_batch(BatchCommit(2, BatchTime(2000), {}), [])
            assert await second.committed() == (1, 1000)
            await second.commit_batch(BatchCommit(2, BatchTime(2000), {}), [])
            assert await second.committed() == (2, 2000)


async def test_a_timeout_above_that_of_the_broker_is_refused_at_start(kafka, make_topic, unique_name):
    """F12"""
    sink = KafkaSink(
        kafka.bootstrap,
        await make_topic(kafka),
        transactional_id=unique_name("id"),
        transaction_timeout_s=7200,
    )
    with pytest.raises(ConfigurationError, match=r"more than the broker's transaction\.max\.timeout\.ms"):
        async with opened(sink):
            pass


async def test_a_transaction_that_takes_too_long_is_aborted_and_tried_again(
    kafka, make_topic, unique_name, monkeypatch
):
    """F12: the batch is not lost, and nothing of the first try is seen."""
    topic = await make_topic(kafka)
    sink = KafkaSink(
        kafka.bootstrap,
        topic,
        transactional_id=unique_name("id"),
        delivery_timeout_s=2.0,
        retry=RetryPolicy(attempts_max=3, wait_s=0.01),
    )
    async with opened(sink):
        real, tries = sink.producer._send_once, []

        async def slow(batches):
            failed = await real(batches)
            tries.append(failed)
            if len(tries) == 1:
                await asyncio.sleep(60)
            return failed

        monkeypatch.setattr(sink.producer, "_send_once", slow)
        records = [(b"k", b"%d" % number) for number in range(3)]
        await sink._staged.add(1, 0, list(sink.packer()(iter(records))))
        await sink.commit_batch(BatchCommit(1, BatchTime(1000), {}), [{"records": 3}])
        assert sink.statistics().transactions_aborted == 1
    assert [one.value for one in await committed(kafka.bootstrap, topic, 3)] == [b"0", b"1", b"2"]


async def test_two_sinks_cannot_both_decide(kafka, make_topic, unique_name, tmp_path):
    topic = await make_topic(kafka)
    from aiostream_engine.context import StreamingContext

    async with StreamingContext(0.02, "local", checkpoint=str(tmp_path / "cp")) as ssc:
        given = ssc.queue_stream([[(b"k", b"v")]], name="given")
        for number in range(2):
            sink = KafkaSink(kafka.bootstrap, topic, transactional_id=unique_name(f"id{number}"))
            given.to(sink, name=f"out{number}")
        with pytest.raises(GraphError, match="would both decide whether a batch is true"):
            await ssc.start()
