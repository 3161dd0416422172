from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aiostream_engine.testing.kafka_broker import LocalKafka

pytestmark = pytest.mark.kafka


def test_dev_prints_its_address_and_ends_at_a_signal_with_its_broker(command, kafka):
    """J1"""
    one = command("kafka", "dev", "--port", "0", "--partitions", "3")
    one.wait_for(lambda c: "\n" in c.out)
    address = re.match(r"Kafka at (127\.0\.0\.1:\d+)\n", one.out)[1]
    sender = command("kafka", "produce", "words", "-b", address, stdin=subprocess.PIPE)
    sender.process.stdin.write(b"to\nbe\n")
    sender.process.stdin.close()
    assert sender.exit_code() == 0, sender.err
    listing = command("kafka", "topics", "-b", address)
    assert listing.exit_code() == 0, listing.err
    assert re.search(r"words +3 +2", listing.out)
    one.signal(signal.SIGINT)
    assert one.exit_code() == 0
    with (
        pytest.raises(ConnectionRefusedError),
        socket.create_connection(("127.0.0.1", int(address.split(":")[1])), 5),
    ):
        pass


def test_a_port_in_use_is_said(command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        one = command("kafka", "dev", "--port", str(taken.getsockname()[1]))
        assert one.exit_code() == 1
    assert "is in use; choose another with --port" in one.err


@pytest.mark.parametrize(("missing", "present"), [("java", ()), ("mvn", ("java",))])
def test_how_to_get_what_is_missing_is_said(command, monkeypatch, tmp_path, missing, present):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in present:
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    one = command("kafka", "dev", "--port", "0")
    assert one.exit_code() == 1
    assert f"there is no `{missing}`" in one.err
    assert "install" in one.err
    assert "Traceback" not in one.err


async def test_records_are_sent_and_printed_with_keys(command, kafka: LocalKafka, make_topic):
    topic = await make_topic(kafka)
    sender = command(
        "kafka", "produce", topic, "-b", kafka.bootstrap, "--key-separator", ":", stdin=subprocess.PIPE
    )
    sender.process.stdin.write(b"a:1\nb:2:3\nplain\n")
    sender.process.stdin.close()
    assert sender.exit_code() == 0, sender.err
    assert "sent 3 records" in sender.err
    reader = command(
        "kafka", "consume", topic, "-b", kafka.bootstrap, "--from-beginning", "--count", "3", "--keys"
    )
    assert reader.exit_code() == 0, reader.err
    assert reader.out == "a\t1\nb\t2:3\n\tplain\n"


async def test_consume_waits_for_what_comes_until_a_signal(command, kafka, make_topic):
    topic = await make_topic(kafka)
    reader = command("kafka", "consume", topic, "-b", kafka.bootstrap, "--from-beginning")
    sender = command("kafka", "produce", topic, "-b", kafka.bootstrap, stdin=subprocess.PIPE)
    sender.process.stdin.write(b"hello\n")
    sender.process.stdin.close()
    reader.wait_for(lambda c: c.out == "hello\n")
    reader.signal(signal.SIGINT)
    assert reader.exit_code() == 0
    assert sender.exit_code() == 0


async def test_the_lag_of_a_group_is_shown(command, kafka, make_topic, unique_name):
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

    topic, group = await make_topic(kafka, partitions=2), unique_name("group")
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for number in range(5):
            await producer.send_and_wait(topic, b"%d" % number, partition=0)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=group, enable_auto_commit=False)
    consumer.assign([TopicPartition(topic, 0)])
    async with consumer:
        await consumer.commit({TopicPartition(topic, 0): 2})
    one = command("kafka", "lag", group, "-b", kafka.bootstrap)
    assert one.exit_code() == 0, one.err
    assert re.search(rf"{topic[:20]}.* 0 +2 +5 +3", one.out.replace("\n", " "))
    assert re.search(r"total +3", one.out)


def test_a_group_that_committed_nothing_is_said(command, kafka, unique_name):
    one = command("kafka", "lag", unique_name("group"), "-b", kafka.bootstrap)
    assert one.exit_code() == 1
    assert "has committed nothing" in one.err


async def test_a_topic_is_created(command, kafka, unique_name):
    name = unique_name("made")[:60]
    one = command("kafka", "topics", "--create", name, "--partitions", "2", "-b", kafka.bootstrap)
    assert one.exit_code() == 0, one.err
    assert name in one.out.replace("\n", "")


def test_a_topic_that_is_not_there_is_said(command, kafka, unique_name):
    one = command("kafka", "consume", unique_name("nothing"), "-b", kafka.bootstrap)
    assert one.exit_code() == 1
    assert "there is no topic" in one.err


def test_a_cluster_that_is_not_there_is_said(command):
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    one = command("kafka", "topics", "-b", f"127.0.0.1:{port}")
    assert one.exit_code() == 1
    assert f"Kafka at 127.0.0.1:{port} cannot be reached" in one.err


def test_passwords_are_read_from_a_file_and_not_shown(command, kafka, tmp_path):
    """J9"""
    config = tmp_path / "client.properties"
    lines = [
        "security.protocol=SASL_PLAINTEXT",
        "sasl.mechanism=SCRAM-SHA-256",
        f"sasl.username={kafka.user}",
    ]

    def listing(password: str):
        config.write_text("\n".join(["# mine", *lines, f"sasl.password={password}"]))
        one = command("kafka", "topics", "-b", kafka.address("SASL"), "--config", str(config))
        return one.exit_code(), one

    assert listing(kafka.password)[0] == 0
    code, one = listing("rabbit-hole")
    assert code == 1
    assert "refuses the credentials of 'alice'" in one.err
    assert "rabbit" not in one.err


def test_a_setting_that_is_not_known_is_wrong_usage(command):
    one = command("kafka", "topics", "-X", "acks=all")
    assert one.exit_code() == 2
    assert "no setting of a Kafka connection" in " ".join(one.err.split())


def test_without_the_client_library_it_is_said_how_to_get_it(tmp_path):
    program = (
        "import sys; sys.modules['aiokafka'] = None\n"
        "from aiostream_engine.cli.main import main; sys.argv = ['x', 'kafka', 'topics']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(tmp_path), capture_output=True, text=True, timeout=45
    )
    assert done.returncode == 2
    assert "aiostream-engine[kafka]" in done.stderr
