"""The local broker itself: that it comes, survives what tests do to it, and never outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aiostream_engine.testing.kafka.metadata import live_brokers
from aiostream_engine.testing.kafka_broker import LocalKafka
from tests.kafka_admin import ClusterAdmin
from tests.kafka_broker import MakeTopic

pytestmark = pytest.mark.kafka

DEADLINE_S = 60.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def port_of(kafka: LocalKafka) -> int:
    return int(kafka.bootstrap.rpartition(":")[2])


async def test_topics_are_created_and_known(kafka: LocalKafka, make_topic: MakeTopic) -> None:
    from aiostream_engine.kafka.settings import KafkaSettings

    name = await make_topic(kafka, partitions=3)
    async with ClusterAdmin(KafkaSettings(kafka.bootstrap)) as admin:
        assert (await admin.topics())[name] == 3
        await admin.add_partitions(name, 5)
        assert (await admin.topics())[name] == 5
        await admin.delete_topic(name)
        assert name not in await admin.topics()


def test_a_killed_broker_comes_back_on_its_port_with_its_data(own_kafka: LocalKafka) -> None:
    port = port_of(own_kafka)
    before = own_kafka.pid()
    own_kafka.kill()
    assert own_kafka.pid() is None
    assert live_brokers("127.0.0.1", port) == 0
    own_kafka.restart()
    assert port_of(own_kafka) == port
    assert own_kafka.pid() not in (None, before)
    assert live_brokers("127.0.0.1", port) == 1


def test_a_frozen_broker_answers_again_when_thawed(own_kafka: LocalKafka) -> None:
    own_kafka.freeze()
    try:
        assert live_brokers("127.0.0.1", port_of(own_kafka), timeout_s=0.3) == 0
    finally:
        own_kafka.thaw()
    until(lambda: live_brokers("127.0.0.1", port_of(own_kafka)) == 1)


_STARTS_AND_WAITS = """
import time
from aiostream_engine.testing.kafka_broker import LocalKafka
kafka = LocalKafka().start()
print(kafka.pid(), kafka.directory, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
@pytest.mark.faults
def test_a_broker_dies_with_a_parent_that_is_killed(kafka: LocalKafka) -> None:
    parent = subprocess.Popen([sys.executable, "-c", _STARTS_AND_WAITS], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid, directory = parent.stdout.readline().split()
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    until(lambda: not _runs(int(pid)))
    with LocalKafka():  # the next one removes what it left
        assert not Path(directory).exists()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
