"""Produce requests that are put together once; aiokafka copies the batches in them eight times."""

from __future__ import annotations

import inspect
import logging
import struct
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.producer.sender import SendProduceReqHandler
from aiokafka.protocol.produce import ProduceRequest, ProduceRequest_v3

__all__ = ["body", "send_lean"]

_log = logging.getLogger("aiostream_engine.kafka")

_PARTITION = struct.Struct(">ii")  # its number, and the length of its batch
_COUNT = struct.Struct(">i")
_LENGTH = struct.Struct(">h")


class _Body:
    """A request in pieces. The client adds it to its header."""

    def __init__(self, pieces: list[Any]) -> None:
        self._pieces = pieces

    def __radd__(self, header: bytes) -> _Message:
        return _Message([header, *self._pieces])


class _Message:
    """A request with its header, in pieces. The client asks for the length, and adds it to that."""

    def __init__(self, pieces: list[Any]) -> None:
        self._pieces = pieces

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def __radd__(self, size: bytes) -> bytes:
        return b"".join([size, *self._pieces])


def body(request: Any) -> _Body:
    """What ``encode`` of a produce request of version 3 to 8 gives."""
    transactional_id, acks, timeout, _ = request.SCHEMA.fields
    head = transactional_id.encode(request.transactional_id) + acks.encode(request.required_acks)
    pieces = [head + timeout.encode(request.timeout) + _COUNT.pack(len(request.topics))]
    for topic, partitions in request.topics:
        name = topic.encode()
        pieces.append(_LENGTH.pack(len(name)) + name + _COUNT.pack(len(partitions)))
        for partition, batch in partitions:
            pieces += _PARTITION.pack(partition, len(batch)), batch
    return _Body(pieces)


_Base: Any = ProduceRequest if isinstance(ProduceRequest, type) else object  # a list before aiokafka 0.13


class _LeanRequest(_Base):  # type: ignore[misc]
    def prepare(self, versions: dict[int, tuple[int, int]]) -> Any:
        request: Any = super().prepare(versions)
        if request.SCHEMA is ProduceRequest_v3.SCHEMA and not request.FLEXIBLE_VERSION:
            pieces = body(request)
            request.encode = lambda: pieces
        return request


class _LeanClient(AIOKafkaClient):  # type: ignore[misc]
    async def send(self, node_id: Any, request: Any, **options: Any) -> Any:
        if type(request) is ProduceRequest:
            request.__class__ = _LeanRequest
        return await super().send(node_id, request, **options)


def _fits() -> bool:
    """True when this aiokafka does with a request what :class:`_Body` and :class:`_Message` bear."""
    send = inspect.getsource(AIOKafkaConnection.send)
    steps = (
        "request_struct = request.prepare(self._versions)",
        "message = header.encode() + request_struct.encode()",
        'size = struct.pack(">i", len(message))',
        "self._writer.write(size + message)",
    )
    return (
        isinstance(ProduceRequest, type)
        and all(step in send for step in steps)
        and send.count("message") == 3
        and "self._client.send(node_id, request)" in inspect.getsource(SendProduceReqHandler.do)
        and "node_id, request" in str(inspect.signature(AIOKafkaClient.send))
    )


FITS = _fits()
if not FITS:
    _log.info("this aiokafka is not known: it puts produce requests together itself, which is slower")


def send_lean(producer: AIOKafkaProducer) -> None:
    """Let a producer, before its start, put its requests together without copies, if its shape is known."""
    if FITS and type(producer.client) is AIOKafkaClient:
        producer.client.__class__ = _LeanClient
