"""Fixtures with Apache Kafka: one broker for the whole run, topics of each test's own."""

from __future__ import annotations

import itertools
import os
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from aiostream_engine.testing.kafka_broker import KafkaUnavailableError, LocalKafka

MakeTopic = Callable[..., Awaitable[str]]
_numbers = itertools.count(1)
_shared: list[LocalKafka] = []


def shared_broker_pids() -> set[int]:
    """Of brokers that outlive a test: one that was restarted is no leak of the test that did so."""
    return {pid for kafka in _shared for pid in kafka.pids()}


@contextmanager
def shared(kafka: LocalKafka) -> Iterator[LocalKafka]:
    """For fixtures of more than one test: the broker, started, and closed at the end."""
    with started(kafka):
        _shared.append(kafka)
        try:
            yield kafka
        finally:
            _shared.remove(kafka)


def started(kafka: LocalKafka) -> LocalKafka:
    """The broker, started; else the test is skipped with the reason, or fails where CI is true."""
    try:
        return kafka.start()
    except KafkaUnavailableError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no Kafka: {error}")


@pytest.fixture(scope="session")
def kafka() -> Iterator[LocalKafka]:
    """One broker for the run, with all secure listeners. Do no harm to it: others use it too."""
    with shared(LocalKafka(secure=True)) as broker:
        yield broker


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[LocalKafka]:
    """A broker of the module's own, to be killed, restarted and frozen; running again after each test."""
    with shared(LocalKafka()) as broker:
        yield broker


@pytest.fixture
def unique_name(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Makes a name that no other test has, with the test's own in it: for groups and ids."""
    name = re.sub(r"[^a-zA-Z0-9_]+", "-", request.node.name)[:80].strip("-")

    def make(what: str = "topic") -> str:
        return f"{what}-{name}-{next(_numbers)}-{uuid.uuid4().hex[:6]}"

    return make


@pytest.fixture
def make_topic(unique_name: Callable[[str], str]) -> MakeTopic:
    """Creates a topic: ``await make_topic(kafka, partitions=4, **configs)``; gives its unique name."""
    from aiostream_engine.kafka.admin import KafkaAdmin
    from aiostream_engine.kafka.settings import KafkaSettings

    async def make(broker: LocalKafka, partitions: int = 1, replicas: int = 1, **configs: object) -> str:
        name = unique_name("topic")
        settings = {key.replace("_", "."): value for key, value in configs.items()}
        async with KafkaAdmin(KafkaSettings(broker.bootstrap)) as admin:
            await admin.create_topic(name, partitions, replicas=replicas, configs=settings)
        return name

    return make
