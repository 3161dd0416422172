"""Members of a consumer group on a real broker: who reads what, and that nothing is lost when they change."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from aiostream_engine import StreamingContext
from aiostream_engine.errors import ConfigurationError, OptionError
from aiostream_engine.kafka.admin import KafkaAdmin
from aiostream_engine.kafka.settings import KafkaSettings
from aiostream_engine.runtime.guarantees import guarantee
from aiostream_engine.sources.kafka.group_membership import GroupTimes
from aiostream_engine.sources.kafka.group_source import GroupKafkaSource
from aiostream_engine.testing.kafka_broker import LocalKafka
from aiostream_engine.types import Guarantee
from tests.kafka_admin import ClusterAdmin
from tests.kafka_broker import MakeTopic

from .members import Member, all_of
from .streams import Load, send, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

DEADLINE_S = 40.0
APP = Path(__file__).with_name("group_app.py")
UniqueName = Callable[[str], str]


@pytest.mark.both_loops
@pytest.mark.parametrize("assignment", ["cooperative", "eager"])
async def test_members_share_the_partitions_and_lose_nothing_as_they_come_and_go(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName, assignment: str
) -> None:
    """E14"""
    topic, group = await make_topic(kafka, partitions=4), unique_name("group")
    first, second = (Member(kafka, topic, group, assignment=assignment) for _ in range(2))
    async with Load(kafka.bootstrap, topic, 4).running() as load, first.running():
        await until(lambda: len(first.places) == 4 and first.batches)
        async with second.running():
            await until(lambda: len(first.places) == len(second.places) == 2)
            assert not first.places & second.places
            seen = len(second.batches)
            await until(lambda: len(second.batches) > seen + 3)
        await until(lambda: len(first.places) == 4)
        sent = load.sent
        await until(lambda: len(first.values) + len(second.values) > sent)
        await load.end()
        await until(lambda: len(first.values) + len(second.values) >= load.sent)
    counts = all_of(first, second)
    assert len(counts) == load.sent
    assert set(counts.values()) == {1}  # each was drained before it was given away


async def test_a_batch_that_outlasts_the_budget_is_read_again_as_a_whole(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName
) -> None:
    """E14: at least once, by whole batches."""
    topic, group = await make_topic(kafka, partitions=2), unique_name("group")
    times = GroupTimes(session_s=6.0, heartbeat_s=0.2, revoke_s=0.3)
    slow, other = Member(kafka, topic, group, times=times), Member(kafka, topic, group, times=times)
    async with slow.running():
        await until(lambda: len(slow.places) == 2)
        slow.gate.clear()
        for partition in (1, 0):  # the first batch has the one that is going to move
            await send(kafka.bootstrap, topic, [b"%d" % n for n in range(50)], partition=partition)
        await until(lambda: slow.waits and slow.batches)
        stuck = set(slow.batches[0])
        async with other.running():
            await until(lambda: other.places and slow.places)
            assert slow.source.assignment.counters["batches_not_drained"] >= 1
            slow.gate.set()
            asked_back = {where for where in stuck if where[:2] in other.places}
            await until(lambda: all(all_of(slow, other)[where] > 1 for where in asked_back))
            await until(lambda: len(all_of(slow, other)) == 100)
    again = {where for where, count in all_of(slow, other).items() if count > 1}
    ends = {max(where for where in batch if where[:2] == one[:2]) for batch in slow.batches for one in batch}
    for place in {where[:2] for where in again}:
        offsets = sorted(where[2] for where in again if where[:2] == place)
        assert offsets == list(range(len(offsets)))
        assert (*place, offsets[-1]) in ends


async def test_what_a_killed_member_had_not_committed_is_read_again_by_the_others(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName
) -> None:
    """E14: at least once; only whole batches come twice, the last ones before the end."""
    topic, group = await make_topic(kafka, partitions=2), unique_name("group")
    survivor = Member(kafka, topic, group)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(APP), kafka.bootstrap, topic, group, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with Load(kafka.bootstrap, topic, 2).running() as load, survivor.running():
            seen = [
                json.loads(await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)) for _ in range(10)
            ]
            process.kill()
            seen += [json.loads(line) async for line in process.stdout if line.endswith(b"\n")]
            await until(lambda: len(survivor.places) == 2)
            before = len(survivor.values)
            await until(lambda: len(survivor.values) > before + 100)
            await load.end()
            await until(lambda: {b"%d" % (load.sent - n) for n in (1, 2)} <= survivor.seen)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    theirs = [{(topic, *where) for where in batch} for batch in seen]
    ours = {where for batch in survivor.batches for where in batch}
    everything = ours.union(*theirs)
    assert everything == {(topic, n % 2, n // 2) for n in range(load.sent)}
    assert max(all_of(survivor).values()) == 1
    for place in ((topic, 0), (topic, 1)):
        parts = [{where for where in batch if where[:2] == place} for batch in theirs]
        again = [part <= ours for part in parts if part]
        assert all(part <= ours or not part & ours for part in parts)
        assert again == sorted(again)  # the last ones before the end


async def test_a_stock_client_goes_on_where_the_group_is(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName
) -> None:
    topic, group = await make_topic(kafka, partitions=2), unique_name("group")
    for partition in (0, 1):
        await send(kafka.bootstrap, topic, [b"%d" % n for n in range(100)], partition=partition)
    member = Member(kafka, topic, group)
    async with member.running():
        await until(lambda: len(member.values) == 200)
    for partition in (0, 1):
        await send(kafka.bootstrap, topic, [b"new"] * 5, partition=partition)
    stock = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap, group_id=group, auto_offset_reset="earliest"
    )
    async with stock:
        records = [await asyncio.wait_for(stock.getone(), DEADLINE_S) for _ in range(10)]
    assert {(one.offset, one.value) for one in records} == {(100 + n, b"new") for n in range(5)}


async def test_the_group_is_taken_over_from_a_stock_client(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName
) -> None:
    topic, group = await make_topic(kafka), unique_name("group")
    await send(kafka.bootstrap, topic, [b"%d" % n for n in range(10)])
    stock = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=group, enable_auto_commit=False)
    stock.assign([TopicPartition(topic, 0)])
    async with stock:
        await stock.commit({TopicPartition(topic, 0): 7})
    member = Member(kafka, topic, group)
    async with member.running():
        await until(lambda: len(member.values) == 3)
    assert member.values == [b"7", b"8", b"9"]


async def test_a_stock_client_and_an_engine_share_a_group(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName
) -> None:
    topic, group = await make_topic(kafka, partitions=2), unique_name("group")
    member = Member(kafka, topic, group, assignment="eager")
    async with member.running():
        await until(lambda: len(member.places) == 2)
        stock = AIOKafkaConsumer(
            topic, bootstrap_servers=kafka.bootstrap, group_id=group, heartbeat_interval_ms=200
        )  # offers the round robin strategy alone
        async with stock:
            await until(lambda: len(member.places) == 1 and len(stock.assignment()) == 1)
        await until(lambda: len(member.places) == 2)


async def test_heartbeats_do_not_wait_for_batches(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName
) -> None:
    """E15"""
    topic, group = await make_topic(kafka), unique_name("group")
    times = GroupTimes(session_s=1.5, heartbeat_s=0.2)
    member = Member(kafka, topic, group, times=times)
    async with member.running():
        await until(lambda: member.places)
        member.gate.clear()
        await send(kafka.bootstrap, topic, [b"slow"])
        await until(lambda: member.waits)
        await asyncio.sleep(3 * times.session_s)  # the batch takes so long: that is what is tested
        assert member.places
        assert member.rebalances == 0
        member.gate.set()
        await send(kafka.bootstrap, topic, [b"next"])
        await until(lambda: len(member.values) == 2)
    assert member.values == [b"slow", b"next"]


async def test_new_partitions_are_read_from_their_first_record(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName
) -> None:
    """E19"""
    topic, group = await make_topic(kafka), unique_name("group")
    await send(kafka.bootstrap, topic, [b"before"])
    member = Member(kafka, topic, group, start="latest")
    async with member.running():
        await until(lambda: member.places)
        async with ClusterAdmin(KafkaSettings(kafka.bootstrap)) as admin:
            await admin.add_partitions(topic, 2)
        await send(kafka.bootstrap, topic, [b"first"], partition=1)
        await until(lambda: member.values)
        assert len(member.places) == 2
    assert member.values == [b"first"]


async def test_new_topics_of_a_pattern_are_read_from_their_first_record(
    kafka: LocalKafka, unique_name: UniqueName
) -> None:
    """E19"""
    prefix, group = unique_name("topic"), unique_name("group")
    member = Member(kafka, re.compile(rf"{prefix}-[ab]"), group, start="latest")
    async with member.running(), KafkaAdmin(KafkaSettings(kafka.bootstrap)) as admin:
        for name in ("a", "abc", "b"):
            await admin.create_topic(f"{prefix}-{name}")
            await send(kafka.bootstrap, f"{prefix}-{name}", [name.encode()])
        await until(lambda: len(member.values) == 2)
    assert sorted(member.values) == [b"a", b"b"]


async def test_a_start_at_the_latest_stays_there_over_a_rebalance(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName
) -> None:
    topic, group = await make_topic(kafka, partitions=2), unique_name("group")
    await send(kafka.bootstrap, topic, [b"old"])
    first = Member(kafka, topic, group, start="latest")
    async with first.running():
        await until(lambda: len(first.places) == 2)
    for partition in (0, 1):  # while nobody is there
        await send(kafka.bootstrap, topic, [b"new"], partition=partition)
    second = Member(kafka, topic, group, start="latest")
    async with second.running():
        await until(lambda: len(second.values) == 2)
    assert second.values == [b"new", b"new"]


async def test_a_static_member_comes_back_without_a_rebalance(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName
) -> None:
    topic, group = await make_topic(kafka, partitions=2), unique_name("group")
    times = GroupTimes(session_s=20.0, heartbeat_s=0.2)
    stays = Member(kafka, topic, group, instance_id="a", times=times)
    async with stays.running():
        await until(lambda: len(stays.places) == 2)
        for number in range(2):
            before = stays.rebalances
            restarted = Member(kafka, topic, group, instance_id="b", times=times)
            async with restarted.running():
                await until(lambda one=restarted: len(one.places) == len(stays.places) == 1)
                assert number == 0 or stays.rebalances == before
        assert len(stays.places) == 1  # the seat of the other is kept


async def test_a_wrong_password_ends_the_start(kafka: LocalKafka, unique_name: UniqueName) -> None:
    async with StreamingContext(0.1, "local") as ssc:
        stream = ssc.kafka_stream(
            kafka.address("SASL"),
            subscribe="any",
            group=unique_name("group"),
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="SCRAM-SHA-256",
            sasl_plain_username=kafka.user,
            sasl_plain_password="rabbit-hole",
        )
        stream.pprint()
        with pytest.raises(ConfigurationError, match="refuses the credentials"):
            await ssc.start()


def test_it_promises_at_least_once_and_says_so() -> None:
    from aiostream_engine.sinks.base import IdempotentSink

    class Sink(IdempotentSink):
        def __init__(self) -> None: ...

        async def deliver(self, delivery: Any) -> None: ...

    Sink.__abstractmethods__ = frozenset()
    source = GroupKafkaSource("a:1", "topic", group="g")
    for sink in (Sink(), None):
        for durable in (True, False):
            assert guarantee(source, sink, durable=durable) is Guarantee.AT_LEAST_ONCE


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"group": "g", "stop": "latest"}, "stop is not for members"),
        ({"group": ""}, "group is empty"),
        ({"group": "g", "assignors": ("sticky",)}, "assignment=.eager"),
    ],
)
def test_what_does_not_fit_a_member_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        GroupKafkaSource("a:1", "topic", **options)


def test_ranges_that_run_again_are_not_read_again_unless_another_went_on() -> None:
    assignment = GroupKafkaSource("a:1", "topic", group="g").assignment
    for start, stop in ((5, 8), (8, 20)):
        assignment.skip(("topic", 0), start, stop)
        assignment.skip(("topic", 1), start, stop)
    assert assignment._behind_replayed(("topic", 0), 5) == 20
    assert assignment._behind_replayed(("topic", 1), 40) == 40
    assert assignment.take_skipped() == {("topic", 0): 20}
    assert assignment.take_skipped() == {}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"topics": "t", "instance_id": "a"}, "instance_id is for members of a group"),
        ({"topics": "t", "subscribe": "t", "group": "g"}, "not both"),
        ({"subscribe": "t"}, "needs group"),
        ({"subscribe": "t", "group": "g", "partitions": [("t", 0)]}, "partitions is not for members"),
        ({"subscribe": "t", "group": "g", "assignment": "lazy"}, "use 'cooperative' or 'eager'"),
    ],
)
async def test_options_of_the_other_kind_of_stream_are_refused(options: dict[str, Any], says: str) -> None:
    async with StreamingContext(0.1, "local") as ssc:
        with pytest.raises(OptionError, match=says):
            ssc.kafka_stream("a:1", **options)
