"""Cooperative rebalances on a real broker: what does not move is read on, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from aiostream_engine.durable.checkpoint_directory import FencedError
from aiostream_engine.sources.kafka import group_seat
from aiostream_engine.sources.kafka.group_membership import GroupTimes
from aiostream_engine.sources.kafka.group_source import GroupKafkaSource
from aiostream_engine.sources.kafka.public_seat import PublicSeat
from aiostream_engine.testing.kafka_broker import LocalKafka
from tests.kafka_broker import MakeTopic

from .members import QUICK, Member, all_of
from .streams import DEADLINE_S, Load, send, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(150)]

APP = Path(__file__).with_name("group_app.py")
JAVA = Path(__file__).parents[2] / "kafka_tools" / "GroupMember.java"
STICKY = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"
UniqueName = Callable[[str], str]


class Watched(GroupKafkaSource):
    """Gives partitions back only when the ones that it keeps were read on in the meantime."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.given_back: list[set[tuple[str, int]]] = []
        self.read_on: list[dict[tuple[str, int], int]] = []

    async def _give_back(self, places: set[tuple[str, int]]) -> None:
        self.given_back.append(places)
        kept = {one: queue for one, queue in self.assignment.queues.items() if one not in places}
        before = {one: queue.taken for one, queue in kept.items()}
        await super()._give_back(places)
        await until(lambda: all(queue.taken > before[one] for one, queue in kept.items()))
        assert all(self.assignment.queues[one] is queue for one, queue in kept.items())
        self.read_on.append({one: queue.taken - before[one] for one, queue in kept.items()})


class WatchedMember(Member):
    """A member whose rebalances are looked at."""

    source: Watched

    def __init__(self, kafka: LocalKafka, topic: str, group: str, **options: Any) -> None:
        super().__init__(kafka, topic, group, **options)
        options = {"times": QUICK, "metadata_refresh_s": 0.3, **options}
        self.source = Watched(kafka.bootstrap, topic, group=group, **options)


@pytest.mark.both_loops
async def test_partitions_that_stay_are_read_on_while_others_move(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName
) -> None:
    """E14: nothing is lost or read twice either."""
    topic, group = await make_topic(kafka, partitions=6), unique_name("group")
    first, second, third = (WatchedMember(kafka, topic, group) for _ in range(3))
    async with Load(kafka.bootstrap, topic, 6).running() as load, first.running():
        await until(lambda: len(first.places) == 6 and first.batches)
        async with second.running():
            await until(lambda: len(first.places) == len(second.places) == 3)
            assert [len(places) for places in first.source.given_back] == [3]
            assert [len(kept) for kept in first.source.read_on] == [3]
            async with third.running():
                await until(lambda: [len(one.places) for one in (first, second, third)] == [2, 2, 2])
                assert [len(kept) for kept in second.source.read_on] == [2]
                seen = len(third.batches)
                await until(lambda: len(third.batches) > seen + 2)
            await until(lambda: len(first.places) == len(second.places) == 3)
        await until(lambda: len(first.places) == 6)
        assert [len(places) for places in first.source.given_back] == [3, 1]
        assert [len(places) for places in second.source.given_back] == [1]
        assert third.source.given_back == []
        await load.end()
        await until(lambda: sum(len(one.values) for one in (first, second, third)) >= load.sent)
    counts = all_of(first, second, third)
    assert len(counts) == load.sent
    assert set(counts.values()) == {1}


async def test_a_killed_member_costs_the_others_nothing(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName
) -> None:
    """E14: its partitions are taken over; of the survivors' own nothing is asked back."""
    topic, group = await make_topic(kafka, partitions=4), unique_name("group")
    survivor = WatchedMember(kafka, topic, group)
    async with Load(kafka.bootstrap, topic, 4).running() as load, survivor.running():
        await until(lambda: len(survivor.places) == 4)
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(APP), kafka.bootstrap, topic, group, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            seen = [
                json.loads(await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)) for _ in range(5)
            ]
            assert len(survivor.places) == 2
            process.kill()
            seen += [json.loads(line) async for line in process.stdout if line.endswith(b"\n")]
            await until(lambda: len(survivor.places) == 4)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await load.end()
        theirs = {(topic, *where) for batch in seen for where in batch}
        await until(lambda: len(theirs | all_of(survivor).keys()) >= load.sent)
    assert theirs | all_of(survivor).keys() == {(topic, n % 4, n // 4) for n in range(load.sent)}
    assert max(all_of(survivor).values()) == 1
    assert [len(places) for places in survivor.source.given_back] == [2]


class JavaMember:
    """A member in Java; what it tells while it runs, and, once it has left, the lines that it wrote."""

    def __init__(self, directory: Path) -> None:
        self.stop = directory / "stop"
        self.lines: list[str] = []

    @asynccontextmanager
    async def running(self, kafka: LocalKafka, topic: str, group: str) -> AsyncIterator[JavaMember]:
        arguments = kafka.bootstrap, topic, group, STICKY, self.stop
        self._run = asyncio.create_task(asyncio.to_thread(kafka.java, JAVA, *arguments))
        try:
            yield self
        finally:
            self.stop.touch()
            self.lines += (await self._run).splitlines()

    def told(self, what: str) -> int:
        """``owned``: how many partitions; ``at``: the sum of their positions."""
        if self._run.done():
            self._run.result()
        path = self.stop.with_name(f"stop.{what}")
        return int(path.read_text() or 0) if path.exists() else 0


async def test_an_engine_and_java_clients_rebalance_cooperatively_whoever_leads(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName, tmp_path: Path
) -> None:
    """E14: the member that is there first is the leader: ours, then Java's."""
    topic, group = await make_topic(kafka, partitions=4), unique_name("group")
    first, second = WatchedMember(kafka, topic, group), WatchedMember(kafka, topic, group)
    async with Load(kafka.bootstrap, topic, 4).running() as load, contextlib.AsyncExitStack() as stack:
        async with first.running():
            await until(lambda: len(first.places) == 4 and first.batches)
            java = await stack.enter_async_context(JavaMember(tmp_path).running(kafka, topic, group))
            await until(lambda: java.told("owned") == 2 and len(first.places) == 2)
            assert [len(places) for places in first.source.given_back] == [2]
        await until(lambda: java.told("owned") == 4)
        async with second.running():
            await until(lambda: len(second.places) == 2)
            seen = len(second.batches)
            await until(lambda: len(second.batches) > seen + 2)
            await load.end()
            sent = load.sent // 4
            await until(
                lambda: all(queue.taken == sent for queue in second.source.assignment.queues.values())
            )
            await until(lambda: java.told("at") == 2 * sent)
    moves = [line.split()[0] for line in java.lines if "record" not in line]
    assert moves[:6] == ["assigned"] * 4 + ["revoked"] * 2  # two by two: nothing was given back beside
    theirs = {
        (topic, int(one), int(two))
        for _, one, two in (line.split() for line in java.lines if "record" in line)
    }
    assert theirs | all_of(first, second).keys() == {(topic, n % 4, n // 4) for n in range(load.sent)}


@pytest.mark.parametrize("assignment", ["cooperative", "eager"])
@pytest.mark.parametrize("heartbeat_s", [0.2, 25.0])  # with the latter it is a commit that is refused
async def test_the_older_of_two_with_one_instance_id_stops_and_says_why(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName, heartbeat_s: float, assignment: str
) -> None:
    topic, group = await make_topic(kafka), unique_name("group")
    options = {
        "instance_id": "seat",
        "times": GroupTimes(session_s=29.0, heartbeat_s=heartbeat_s),
        "assignment": assignment,
    }
    older, newer = Member(kafka, topic, group, **options), Member(kafka, topic, group, **options)
    async with older.running():
        await until(lambda: older.places)
        async with newer.running():
            await until(lambda: newer.places)
            await send(kafka.bootstrap, topic, [b"first"])
            with pytest.raises(FencedError, match="another member has joined group"):
                await asyncio.wait_for(older.ssc.await_termination(), DEADLINE_S)
            await send(kafka.bootstrap, topic, [b"goes on"])
            await until(lambda: newer.values[-1:] == [b"goes on"])
    assert b"goes on" not in older.values


async def test_a_member_that_was_taken_for_dead_begins_anew_at_the_last_commit(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName
) -> None:
    """E14: what it had under way is read again, by it or another."""
    topic, group = await make_topic(kafka), unique_name("group")
    member = Member(kafka, topic, group, times=GroupTimes(session_s=1.5, heartbeat_s=0.2))
    async with member.running():
        await until(lambda: member.places)
        await send(kafka.bootstrap, topic, [b"before"])
        await until(lambda: member.values)
        coordinator = member.source.membership.seat._coordinator  # type: ignore[attr-defined]
        member.gate.clear()
        await send(kafka.bootstrap, topic, [b"stuck"])
        await until(lambda: member.waits)
        coordinator.reset_generation()
        await until(lambda: member.source.assignment.counters["batches_not_drained"])
        await until(lambda: member.places)
        member.gate.set()
        await send(kafka.bootstrap, topic, [b"after"])
        await until(lambda: member.values[-1:] == [b"after"])
    assert member.values == [b"before", b"stuck", b"stuck", b"after"]


async def test_a_group_goes_from_eager_to_cooperative_without_an_end(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName
) -> None:
    topic, group = await make_topic(kafka, partitions=2), unique_name("group")
    stock = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap, group_id=group, heartbeat_interval_ms=200
    )
    between = {"assignment": "eager", "assignors": ("roundrobin", "cooperative-sticky")}
    first, second = Member(kafka, topic, group, **between), Member(kafka, topic, group)
    async with contextlib.AsyncExitStack() as old:
        await old.enter_async_context(stock)
        async with first.running():
            await until(lambda: len(first.places) == len(stock.assignment()) == 1)
            await old.aclose()
            await until(lambda: len(first.places) == 2)
            async with second.running():
                await until(lambda: len(first.places) == len(second.places) == 1)


async def test_members_of_other_strategies_are_refused_and_told_why(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName
) -> None:
    topic, group = await make_topic(kafka, partitions=2), unique_name("group")
    stays, other = Member(kafka, topic, group, assignment="eager"), Member(kafka, topic, group)
    async with stays.running():
        await until(lambda: len(stays.places) == 2)
        with pytest.raises(Exception, match="offer other strategies"):
            async with other.running() as member:
                await member.ssc.await_termination()
        assert len(stays.places) == 2


async def test_an_aiokafka_that_is_not_known_is_used_by_its_public_ways(
    kafka: LocalKafka,
    make_topic: MakeTopic,
    unique_name: UniqueName,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E14: eager then, and as lossless."""
    monkeypatch.setattr(group_seat, "coordinator_strangeness", lambda: "it is another")
    topic, group = await make_topic(kafka, partitions=4), unique_name("group")
    first, second = Member(kafka, topic, group), Member(kafka, topic, group)
    assert isinstance(first.source.membership.seat, PublicSeat)
    async with Load(kafka.bootstrap, topic, 4).running() as load, first.running():
        await until(lambda: len(first.places) == 4 and first.batches)
        async with second.running():
            await until(lambda: len(first.places) == len(second.places) == 2)
            await until(lambda: second.batches)
        await until(lambda: len(first.places) == 4)
        await load.end()
        await until(lambda: len(first.values) + len(second.values) >= load.sent)
    assert set(all_of(first, second).values()) == {1}


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("assignment", ["cooperative", "eager"])
async def test_nothing_is_lost_or_doubled_while_members_come_and_go_for_long(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName, assignment: str
) -> None:
    """E14"""
    topic, group = await make_topic(kafka, partitions=7), unique_name("group")
    chance = random.Random(5)
    everybody: list[Member] = []
    here: list[contextlib.AsyncExitStack] = []
    async with Load(kafka.bootstrap, topic, 7).running() as load:
        for step in range(60):
            if len(here) == 5 or (len(here) > 1 and chance.random() < 0.45):
                await here.pop(chance.randrange(len(here))).aclose()
            else:
                one = Member(kafka, topic, group, assignment=assignment)
                stack = contextlib.AsyncExitStack()
                await stack.enter_async_context(one.running())
                here.append(stack)
                everybody.append(one)
            if step % 3 == 0:
                seen = len(all_of(*everybody))
                await until(lambda seen=seen: len(all_of(*everybody)) > seen)  # type: ignore[misc]
            await asyncio.sleep(chance.random() * 0.5)
        await load.end()
        await until(lambda: len(all_of(*everybody)) == load.sent)
        for stack in here:
            await stack.aclose()
    assert set(all_of(*everybody).values()) == {1}
