from __future__ import annotations

import asyncio
import pickle
import stat
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine.config import QueueLimits, RetryPolicy
from aiostream_engine.errors import LifecycleError, OptionError, SourceError
from aiostream_engine.sources.actor import Actor, ActorClient, ActorSource
from aiostream_engine.types import BatchTime

from .harness import FAST, Harness, until

LOOPBACK = "tcp://127.0.0.1:0"


async def test_messages_of_this_process_become_records(harness: Harness) -> None:
    source = ActorSource()
    source.ref.tell("before the start")
    await harness.start(source)
    source.ref.tell("a")
    await source.ref.send({"b": 1})
    assert await harness.collect(source, 3) == ["before the start", "a", {"b": 1}]


class Splitter(Actor):
    async def receive(self, message: Any) -> None:
        for word in message.split():
            await self.store(word)


async def test_an_actor_decides_what_is_stored(harness: Harness) -> None:
    source = ActorSource(Splitter)
    await harness.start(source)
    source.ref.tell("to be or")
    source.ref.tell("not")
    assert await harness.collect(source, 4) == ["to", "be", "or", "not"]
    assert source.name == "actor Splitter[0]"


async def test_a_full_mailbox_tells_or_waits(harness: Harness) -> None:
    """E5"""
    source = ActorSource(mailbox_max=2)
    source.ref.tell(1)
    source.ref.tell(2)
    with pytest.raises(asyncio.QueueFull, match="mailbox"):
        source.ref.tell(3)
    waiting = asyncio.create_task(source.ref.send(3))
    await asyncio.sleep(0)
    assert not waiting.done()
    await harness.start(source)
    await waiting
    assert await harness.collect(source, 3) == [1, 2, 3]


async def test_a_full_queue_fills_the_mailbox_and_loses_nothing(harness: Harness) -> None:
    """E5"""
    source = ActorSource(mailbox_max=10)
    await harness.start(source, limits=QueueLimits(records_max=5))

    async def send() -> None:
        for number in range(500):
            await source.ref.send(number)

    sending = asyncio.create_task(send())
    await until(lambda: source.info().queue_fill >= 1)
    assert not sending.done()
    assert await harness.collect(source, 500) == list(range(500))
    await sending


class Fragile(Actor):
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.number = type(self).made

    async def receive(self, message: Any) -> None:
        if message == "bad":
            raise ValueError("cannot handle this")
        await self.store((self.number, message))


async def test_an_actor_that_raises_is_replaced_and_loses_one_message(harness: Harness) -> None:
    """E1"""
    Fragile.made = 0
    source = ActorSource(Fragile, retry=FAST)
    await harness.start(source)
    for message in ("a", "bad", "b"):
        source.ref.tell(message)
    assert await harness.collect(source, 2) == [(1, "a"), (2, "b")]
    assert source.info().records_dropped == 1
    assert source.info().last_error == "ValueError: cannot handle this"


async def test_an_actor_that_only_raises_fails_the_source_and_lets_senders_go(harness: Harness) -> None:
    """E2"""
    source = ActorSource(Fragile, retry=RetryPolicy(attempts_max=2, wait_s=0.001), mailbox_max=1)
    await harness.start(source)

    async def send() -> None:
        while True:
            await source.ref.send("bad")

    async with asyncio.timeout(10):
        with pytest.raises(LifecycleError):
            await send()
    with pytest.raises(SourceError, match="cannot handle this"):
        await source.cut(BatchTime(1))


async def test_the_hooks_of_an_actor_frame_its_life(harness: Harness) -> None:
    calls: list[str] = []

    class Framed(Actor):
        async def on_start(self) -> None:
            calls.append("start")

        async def on_stop(self) -> None:
            calls.append("stop")

        async def receive(self, message: Any) -> None:
            calls.append(message)

    source = ActorSource(Framed)
    await harness.start(source)
    source.ref.tell("message")
    await until(lambda: len(calls) == 2)
    await source.stop()
    assert calls == ["start", "message", "stop"]


async def test_what_is_in_the_mailbox_at_stop_is_handled(harness: Harness) -> None:
    source = ActorSource()
    await harness.start(source)
    for number in range(100):
        source.ref.tell(number)
    await source.stop()
    assert await harness.cut(source) == list(range(100))
    assert source.finished
    with pytest.raises(LifecycleError):
        source.ref.tell("late")


async def test_stop_during_back_pressure_ends_and_counts_what_was_not_read(harness: Harness) -> None:
    """G8"""
    source = ActorSource()
    await harness.start(source, limits=QueueLimits(records_max=1))
    for number in range(10):
        source.ref.tell(number)
    await until(lambda: source.info().queue_fill >= 1)
    async with asyncio.timeout(10):
        await source.stop()
    assert await harness.cut(source) == [0]
    assert source.counters["messages_unread"] >= 8


@pytest.mark.parametrize("codec_name", ["msgpack", "json"])
async def test_messages_of_another_process_arrive_in_order(harness: Harness, codec_name: str) -> None:
    source = ActorSource(listen=LOOPBACK)
    await harness.start(source)
    messages = [{"n": n, "words": ["a", "b"], "x": 1.5, "none": None} for n in range(1000)]
    async with await ActorClient.connect(str(source.address), codec_name=codec_name) as client:
        for message in messages:
            await client.send(message)
        await client.flush()
        assert await harness.collect(source, 1000) == messages


async def test_a_flush_means_that_the_messages_are_in_the_mailbox(harness: Harness) -> None:
    source = ActorSource(listen=LOOPBACK)
    await harness.start(source)
    async with await ActorClient.connect(str(source.address)) as client:
        await client.send("here")
        await client.flush()
    await source.stop()
    assert await harness.cut(source) == ["here"]


async def test_a_unix_socket_is_for_its_owner_alone(harness: Harness, tmp_path: Path) -> None:
    """J1"""
    path = tmp_path / "actor.sock"
    source = ActorSource(listen=f"unix://{path}")
    await harness.start(source)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with await ActorClient.connect(str(source.address)) as client:
        await client.send(1)
        assert await harness.collect(source, 1) == [1]
    await source.stop()
    assert not path.exists()


async def test_a_real_other_process_can_send(harness: Harness) -> None:
    source = ActorSource(listen=LOOPBACK)
    await harness.start(source)
    program = (
        "import asyncio, sys\n"
        "from aiostream_engine.sources.actor_client import ActorClient\n"
        "async def main():\n"
        "    async with await ActorClient.connect(sys.argv[1]) as client:\n"
        "        await client.send('from outside')\n"
        "        await client.flush()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(source.address))
    assert await harness.collect(source, 1) == ["from outside"]
    assert await process.wait() == 0


async def test_without_listen_nothing_listens(harness: Harness) -> None:
    """J1"""
    source = ActorSource()
    await harness.start(source)
    assert source.address is None
    assert source._server is None


@pytest.mark.parametrize("token", [None, "", "wrong", "s3cret-but-longer"])
async def test_a_wrong_token_is_refused_and_not_shown(harness: Harness, token: str | None) -> None:
    """J1, J9"""
    source = ActorSource(listen=LOOPBACK, token="s3cret")
    await harness.start(source)
    with pytest.raises(PermissionError, match="wrong token") as caught:
        await ActorClient.connect(str(source.address), token=token)
    assert "s3cret" not in f"{caught.value} {source.info()} {source.name}"
    assert source.counters["connections_refused"] == 1
    async with await ActorClient.connect(str(source.address), token="s3cret") as client:
        await client.send(1)
        assert await harness.collect(source, 1) == [1]


class _Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('unpickled')",))


def frame(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body), kind) + body


HELLO = frame(0, b'{"token": null, "codec": "msgpack"}')


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "announced"),
        (pickle.dumps(_Bomb()) * 3, "announced"),
        (frame(0, b"[" * 4000), ""),
        (frame(0, pickle.dumps(_Bomb())), ""),
        (frame(1, b"\x01"), "greeting"),
        (frame(0, b'{"codec": "pickle"}'), "codec"),
        (HELLO + frame(9, b""), "unknown kind"),
        (HELLO + frame(3, b""), "OK"),
        (HELLO + frame(1, pickle.dumps(_Bomb())), ""),
        (HELLO + frame(1, b"\x91" * 100_000), ""),
        (HELLO + struct.pack(">IB", 2**31, 1), "announced"),
    ],
)
async def test_strangers_are_refused_and_others_go_on(harness: Harness, data: bytes, reason: str) -> None:
    """J8, E11"""
    source = ActorSource(listen=LOOPBACK)
    await harness.start(source)
    async with await ActorClient.connect(str(source.address)) as friend:
        host, port = str(source.address).removeprefix("tcp://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        async with asyncio.timeout(10):
            answer = await reader.read()
        assert reason in answer.decode("utf-8", "replace")
        writer.close()
        assert source.counters["connections_broken"] == 1
        await friend.send("still served")
        assert await harness.collect(source, 1) == ["still served"]


async def test_one_sender_over_the_cap_is_refused(harness: Harness) -> None:
    """E7"""
    source = ActorSource(listen=LOOPBACK, connections_max=1)
    await harness.start(source)
    async with await ActorClient.connect(str(source.address)):
        with pytest.raises(PermissionError, match="senders"):
            await ActorClient.connect(str(source.address))


async def test_a_sender_that_is_not_read_waits(harness: Harness) -> None:
    """E5"""
    source = ActorSource(listen=LOOPBACK, mailbox_max=1)
    await harness.start(source, limits=QueueLimits(records_max=1))
    async with await ActorClient.connect(str(source.address)) as client:

        async def send() -> None:
            for _ in range(200):
                await client.send("x" * 100_000)
            await client.flush()

        sending = asyncio.create_task(send())
        await until(lambda: source.info().queue_fill >= 1)
        assert not sending.done()
        assert len(await harness.collect(source, 200)) == 200
        await sending


async def test_a_client_that_lost_its_actor_is_told(harness: Harness) -> None:
    source = ActorSource(listen=LOOPBACK)
    await harness.start(source)
    client = await ActorClient.connect(str(source.address))
    await source.stop()
    with pytest.raises(ConnectionError):
        await client.flush()
    await client.aclose()


async def test_a_port_that_is_taken_fails_the_start(harness: Harness) -> None:
    first = ActorSource(listen=LOOPBACK)
    await harness.start(first)
    with pytest.raises(SourceError, match="cannot listen"):
        await harness.start(ActorSource(listen=first.address))


async def test_what_is_no_actor_fails_at_once(harness: Harness) -> None:
    source = ActorSource(dict)  # type: ignore[arg-type]
    await harness.start(source)
    await until(lambda: source.pending)
    with pytest.raises(OptionError, match="must be an Actor"):
        await source.cut(BatchTime(1))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mailbox_max": 0}, "mailbox_max"),
        ({"message_bytes_max": 0}, "message_bytes_max"),
        ({"listen": "127.0.0.1:9000"}, "address"),
        ({"listen": "tcp://127.0.0.1"}, "address"),
        ({"listen": "http://127.0.0.1:1"}, "address"),
        ({"listen": "tcp://127.0.0.1:99999"}, "address"),
        ({"token": ""}, "token"),
        ({"actor": 3}, "actor"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        ActorSource(**options)
