"""Brokers that are killed, lost, frozen and slow, under load: all is read, and by the direct source once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aiostream_engine import StreamingContext
from aiostream_engine.kafka.settings import KafkaSettings
from aiostream_engine.sources.kafka.group_membership import GroupTimes
from aiostream_engine.sources.kafka.group_source import GroupKafkaSource
from aiostream_engine.sources.kafka.lane import FetchLimits
from aiostream_engine.sources.kafka.source import KafkaSource
from aiostream_engine.testing import LoopCanary
from aiostream_engine.testing.kafka_broker import LocalKafka
from tests.kafka_admin import ClusterAdmin
from tests.kafka_broker import MakeTopic, shared

from .slow_proxy import SlowProxy
from .streams import Load, send

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(150)]

DEADLINE_S = 90.0
UniqueName = Callable[[str], str]
MODES = ("raw", "client", "group")
# What takes long is tried in two of the three by default: the lanes differ little there.
LONG_MODES = ["raw", pytest.param("client", marks=pytest.mark.soak), "group"]
TIMES = GroupTimes(session_s=8.0, heartbeat_s=0.3, revoke_s=5.0)
QUICK = {"request_timeout_ms": 3000, "metadata_refresh_s": 0.5}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)


class Reading:
    """A stream over a topic, and how often each value came."""

    def __init__(self, bootstrap: str, topic: str, mode: str, group: str, **options: Any) -> None:
        options = {**QUICK, **options}
        if mode == "group":
            self.source: KafkaSource = GroupKafkaSource(bootstrap, topic, group=group, times=TIMES, **options)
        else:
            self.source = KafkaSource(bootstrap, topic, lane=mode, group=group, **options)
        self.once = mode != "group"
        self.counts: Counter[bytes] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Reading]:
        async with StreamingContext(0.05, "local") as ssc:
            ssc.from_source(self.source).foreach_rdd(self._keep)
            await ssc.start()
            yield self
            await ssc.stop()

    async def _keep(self, rdd: Any) -> None:
        self.counts.update([one.value for one in await rdd.collect()])

    async def until_all(self, values: set[bytes]) -> None:
        """Returns when every value came; fails when one came twice where that must not be."""
        await until(lambda: len(self.counts) >= len(values))
        assert set(self.counts) == values
        if self.once:
            assert set(self.counts.values()) == {1}


@pytest.mark.parametrize("mode", LONG_MODES)
async def test_a_broker_that_is_killed_and_comes_back_costs_no_record(
    own_kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName, mode: str
) -> None:
    """E16"""
    topic = await make_topic(own_kafka, partitions=2)
    reading = Reading(own_kafka.bootstrap, topic, mode, unique_name("group"))
    async with Load(own_kafka.bootstrap, topic, 2).running() as load, reading.running():
        for _ in range(2):
            before = len(reading.counts)
            await until(lambda before=before: len(reading.counts) > before + 200)
            await own_kafka.restarted()
        before = len(reading.counts)
        await until(lambda: len(reading.counts) > before + 200)
        await load.end()
        await reading.until_all(load.values)


async def _frozen(kafka: LocalKafka, topic: str, mode: str, group: str, frozen_s: float) -> None:
    reading = Reading(kafka.bootstrap, topic, mode, group)
    async with Load(kafka.bootstrap, topic, 2).running() as load, reading.running():
        await until(lambda: len(reading.counts) > 100)
        async with LoopCanary() as canary:
            kafka.freeze()
            try:
                await asyncio.sleep(frozen_s)  # what is tested is the time itself
            finally:
                kafka.thaw()
        assert canary.report().max_s < frozen_s / 2  # the loop did not wait for the broker
        before = load.sent
        await until(lambda: len(reading.counts) > before + 100)
        await load.end()
        await reading.until_all(load.values)


@pytest.mark.parametrize("mode", MODES)
async def test_a_broker_that_is_frozen_for_a_while_costs_no_record(
    own_kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName, mode: str
) -> None:
    await _frozen(own_kafka, await make_topic(own_kafka, partitions=2), mode, unique_name("group"), 4.0)


@pytest.mark.soak
@pytest.mark.parametrize("mode", MODES)
async def test_a_broker_that_is_frozen_for_longer_than_every_timeout_costs_no_record(
    own_kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName, mode: str
) -> None:
    await _frozen(own_kafka, await make_topic(own_kafka, partitions=2), mode, unique_name("group"), 30.0)


@pytest.mark.parametrize("mode", MODES)
async def test_a_slow_broker_is_read_at_its_pace(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName, mode: str
) -> None:
    topic = await make_topic(kafka, partitions=2)
    values = [b"%d" % n + bytes(5000) for n in range(400)]
    for partition in (0, 1):
        await send(kafka.bootstrap, topic, values[partition::2], partition=partition)
    upstream = int(kafka.address("PROXIED").rpartition(":")[2])
    # The public consumer cannot ask for less when answers take longer than its time limit.
    small = {"fetch": FetchLimits(partition_bytes_max=65536)} if mode == "client" else {}
    reading = Reading(f"127.0.0.1:{kafka.proxy_port}", topic, mode, unique_name("group"), **small)
    async with SlowProxy(kafka.proxy_port, upstream, 300_000), reading.running():
        await reading.until_all(set(values))


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalKafka]:
    with shared(LocalKafka.cluster(3)) as brokers:
        yield brokers


@pytest.mark.slow
@pytest.mark.parametrize("mode", LONG_MODES)
async def test_leaders_that_move_and_a_broker_that_is_lost_cost_no_record(
    cluster: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName, mode: str
) -> None:
    """E16"""
    topic = await make_topic(cluster, partitions=6, replicas=3, min_insync_replicas=2)
    reading = Reading(cluster.bootstrap, topic, mode, unique_name("group"))
    async with Load(cluster.bootstrap, topic, 6).running() as load, reading.running():
        await until(lambda: len(reading.counts) > 100)
        for lost in (0, 1):
            cluster.kill(lost)
            before = len(reading.counts)
            await until(lambda before=before: len(reading.counts) > before + 300)
            await cluster.restarted(lost)
            await _until_in_sync(cluster, topic)
        await load.end()
        await reading.until_all(load.values)


async def _until_in_sync(cluster: LocalKafka, topic: str) -> None:
    """All replicas have all, so that the next broker may be lost."""
    async with ClusterAdmin(KafkaSettings(cluster.bootstrap)) as admin, asyncio.timeout(DEADLINE_S):
        while await admin.replicas_in_sync(topic) < 3:
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("mode", MODES)
async def test_records_come_over_tls_with_a_password(
    kafka: LocalKafka, make_topic: MakeTopic, unique_name: UniqueName, mode: str
) -> None:
    topic = await make_topic(kafka)
    await send(kafka.bootstrap, topic, [b"a", b"b"])
    reading = Reading(
        kafka.address("SASLTLS"),
        topic,
        mode,
        unique_name("group"),
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_plain_username=kafka.user,
        sasl_plain_password=kafka.password,
        ssl_cafile=kafka.certificates.ca,
    )
    async with reading.running():
        await reading.until_all({b"a", b"b"})
