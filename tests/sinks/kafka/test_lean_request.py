"""A produce request without copies is, byte for byte, the one that the client would have sent."""

from __future__ import annotations

import gc
import random
import weakref

import pytest
from aiokafka.protocol.produce import ProduceRequest, ProduceRequest_v2, ProduceRequest_v3, ProduceRequest_v8

from aiostream_engine.sinks.kafka import KafkaSink, lean_request
from tests.sinks.kafka.topics import committed, opened, write


def topics(source: random.Random) -> list[tuple[str, list[tuple[int, bytearray]]]]:
    return [
        (
            source.choice(["t", "Wörter", "a" * 249]),
            [
                (number, bytearray(source.randbytes(source.randrange(300))))
                for number in range(source.randrange(4))
            ],
        )
        for _ in range(source.randrange(4))
    ]


@pytest.mark.parametrize("version", [ProduceRequest_v3, ProduceRequest_v8])
@pytest.mark.parametrize("transactional_id", [None, "ä"])
def test_a_request_has_the_bytes_of_the_clients_own(version, transactional_id):
    source = random.Random(3)
    for _ in range(50):
        request = version(transactional_id, -1, 40_000, topics(source))
        message = b"header" + lean_request.body(request)
        assert b"size" + message == b"size" + b"header" + request.encode()
        assert len(message) == len(b"header" + request.encode())


def test_this_client_library_is_known():
    assert lean_request.FITS


def test_old_versions_of_a_request_are_encoded_by_the_client():
    def encoded(versions):
        request = ProduceRequest(None, 1, 1000, [("t", [(0, b"batch")])])
        request.__class__ = lean_request._LeanRequest
        return request.prepare({0: versions}).encode()

    assert encoded((0, 2)) == ProduceRequest_v2(1, 1000, [("t", [(0, b"batch")])]).encode()
    assert not isinstance(encoded((3, 8)), bytes)


def test_a_request_that_was_answered_holds_no_batch():
    """Else each would wait for a collection of garbage."""
    request = ProduceRequest(None, 1, 1000, [("t", [(0, b"batch")])])
    request.__class__ = lean_request._LeanRequest
    prepared = request.prepare({0: (3, 8)})
    watched = weakref.ref(prepared)
    gc.disable()
    try:
        del prepared
        assert watched() is None
    finally:
        gc.enable()


@pytest.mark.kafka
@pytest.mark.timeout(60)
async def test_an_unknown_client_library_puts_its_requests_together_itself(kafka, make_topic, monkeypatch):
    topic = await make_topic(kafka)
    monkeypatch.setattr(lean_request, "FITS", False)
    async with opened(KafkaSink(kafka.bootstrap, topic, value="str")) as sink:
        assert "_LeanClient" not in type(sink.producer.client.client).__name__
        await write(sink, [(b"k", f"{number}") for number in range(20)])
    assert [one.value for one in await committed(kafka.bootstrap, topic, 20)] == [
        b"%d" % n for n in range(20)
    ]
