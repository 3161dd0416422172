"""Requests in versions that aiokafka does not have: topics by id, and answers that are not copied.

Fetching by topic id (version 13, Kafka 3.1) makes the broker refuse offsets of a topic that was
deleted and made again under its name, which by name nobody can tell from the old one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
    UnsignedVarInt32,
)

__all__ = ["FetchAnswer", "FetchByIdOrName", "FetchedPartition", "NamedTopics", "WantedPartition"]

NO_ID = bytes(16)

FETCH_BY_ID, FETCH_BY_NAME = 13, 11
METADATA_WITH_IDS = 12

_HEAD = struct.Struct(">iiiibii")
_PARTITION_13 = struct.Struct(">iiqiqi")
_PARTITION_11 = struct.Struct(">iiqqi")
_ANSWER_HEAD = struct.Struct(">ihi")
_ANSWER_PARTITION = struct.Struct(">ihqqq")
_ABORTED = struct.Struct(">qq")


class WantedPartition(NamedTuple):
    """What to fetch of one partition. bytes_max: the first batch comes whole, however large."""

    topic: str
    topic_id: bytes
    partition: int
    offset: int
    bytes_max: int


class FetchedPartition(NamedTuple):
    """The answer for one partition. topic: its name or, when asked for by id, its id.

    stable: offset up to which all transactions are over. aborted: (producer, first offset).
    """

    topic: str | bytes
    partition: int
    error_code: int
    highwater: int
    stable: int
    log_start: int
    aborted: tuple[tuple[int, int], ...]
    records: memoryview


class _Cursor:
    """Reads fields one after the other; the bytes of records are views, not copies."""

    def __init__(self, data: bytes, at: int, flexible: bool) -> None:
        self.data, self.at, self.flexible = data, at, flexible

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        fields = form.unpack_from(self.data, self.at)
        self.at += form.size
        return fields

    def raw(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def count(self) -> int:
        """Length of an array or of bytes; null counts as empty."""
        if self.flexible:
            return max(0, self.varint() - 1)
        self.at += 4
        return max(0, int.from_bytes(self.data[self.at - 4 : self.at], "big", signed=True))

    def topic(self) -> str | bytes:
        if self.flexible:
            return self.raw(16)
        size = int.from_bytes(self.raw(2), "big")
        return self.raw(size).decode()

    def skip_tags(self) -> None:
        if self.flexible:
            for _ in range(self.varint()):
                self.varint()
                self.at += self.varint()


class FetchAnswer(Response):  # type: ignore[misc]
    """The decoded answer; its records refer to the bytes as they came."""

    API_KEY = 1
    API_VERSION = FETCH_BY_NAME
    SCHEMA = Schema()
    FLEXIBLE = False

    def __init__(self, error_code: int, partitions: list[FetchedPartition]) -> None:
        self.error_code = error_code
        self.partitions = partitions

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.error_code}, {len(self.partitions)} partitions)"

    @classmethod
    def decode(cls, data: BytesIO | bytes) -> Any:
        # Neither getvalue() of what was never changed nor a view of bytes makes a copy.
        payload, at = (data, 0) if isinstance(data, bytes) else (data.getvalue(), data.tell())
        cursor = _Cursor(payload, at, cls.FLEXIBLE)
        _, error_code, _ = cursor.unpack(_ANSWER_HEAD)
        found: list[FetchedPartition] = []
        for _ in range(cursor.count()):
            topic = cursor.topic()
            for _ in range(cursor.count()):
                found.append(_partition(cursor, topic))
            cursor.skip_tags()
        return cls(error_code, found)


def _partition(cursor: _Cursor, topic: str | bytes) -> FetchedPartition:
    partition, error_code, highwater, stable, log_start = cursor.unpack(_ANSWER_PARTITION)
    aborted = []
    for _ in range(cursor.count()):
        aborted.append(cursor.unpack(_ABORTED))
        cursor.skip_tags()
    cursor.at += 4  # the preferred replica
    size = cursor.count()
    records = memoryview(cursor.data)[cursor.at : cursor.at + size]
    cursor.at += size
    cursor.skip_tags()
    return FetchedPartition(
        topic, partition, error_code, highwater, stable, log_start, tuple(aborted), records
    )


class _AnswerById(FetchAnswer):
    API_VERSION = FETCH_BY_ID
    FLEXIBLE = True


class _FetchByName(RequestStruct):  # type: ignore[misc]
    API_KEY = 1
    API_VERSION = FETCH_BY_NAME
    RESPONSE_TYPE = FetchAnswer
    SCHEMA = Schema()

    def __init__(self, head: bytes, wanted: Sequence[WantedPartition]) -> None:
        self._head, self._wanted = head, wanted

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._wanted)} partitions)"

    def encode(self) -> bytes:
        topics = _by_topic(self._wanted)
        out = [self._head, struct.pack(">i", len(topics))]
        for partitions in topics:
            name = partitions[0].topic.encode()
            out.append(struct.pack(">h", len(name)) + name + struct.pack(">i", len(partitions)))
            for one in partitions:
                out.append(_PARTITION_11.pack(one.partition, -1, one.offset, -1, one.bytes_max))
        out.append(struct.pack(">ih", 0, 0))
        return b"".join(out)


class _FetchById(_FetchByName):
    API_VERSION = FETCH_BY_ID
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _AnswerById

    def encode(self) -> bytes:
        topics = _by_topic(self._wanted)
        out = [self._head, UnsignedVarInt32.encode(len(topics) + 1)]
        for partitions in topics:
            out.append(partitions[0].topic_id + UnsignedVarInt32.encode(len(partitions) + 1))
            for one in partitions:
                out.append(_PARTITION_13.pack(one.partition, -1, one.offset, -1, -1, one.bytes_max) + b"\0")
            out.append(b"\0")
        out.append(b"\x01\x01\0")  # no forgotten topics, no rack, no tags
        return b"".join(out)


def _by_topic(wanted: Sequence[WantedPartition]) -> list[list[WantedPartition]]:
    topics: dict[str, list[WantedPartition]] = {}
    for one in wanted:
        topics.setdefault(one.topic, []).append(one)
    return list(topics.values())


class FetchByIdOrName:
    """A fetch request, by topic ids where the broker and all topics have them.

    wait_ms, bytes_min, bytes_max: the broker answers when it has so much, or after the wait.
    isolation: 0 reads all, 1 up to the last stable offset.
    """

    def __init__(
        self,
        wanted: Sequence[WantedPartition],
        *,
        wait_ms: int,
        bytes_min: int,
        bytes_max: int,
        isolation: int,
    ) -> None:
        self.wanted = wanted
        self._head = _HEAD.pack(-1, wait_ms, bytes_min, bytes_max, isolation, 0, -1)

    def prepare(self, versions: dict[int, tuple[int, int]]) -> RequestStruct:
        """What the connection sends; ``versions`` are those of its broker."""
        low, high = versions[1]
        if high >= FETCH_BY_ID and all(one.topic_id != NO_ID for one in self.wanted):
            return _FetchById(self._head, self.wanted)
        if not low <= FETCH_BY_NAME <= high:
            raise NotImplementedError(f"the broker fetches in versions {low} to {high}")
        return _FetchByName(self._head, self.wanted)


class _Uuid:
    """16 bytes, in the way of aiokafka's types."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)

    @classmethod
    def repr(cls, value: bytes) -> str:
        return value.hex()


def _array(*fields: tuple[str, Any]) -> CompactArray:
    # The constructor asks for aiokafka's own kinds of types; a schema may hold any that acts like one.
    array = CompactArray.__new__(CompactArray)
    array.array_of = Schema(*fields, ("tags", TaggedFields))
    return array


class _TopicsAnswer(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = METADATA_WITH_IDS
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            _array(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            _array(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    _array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("in_sync", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                    ),
                ),
                ("operations", Int32),
            ),
        ),
        ("tags", TaggedFields),
    )


class _TopicsRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = METADATA_WITH_IDS
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _TopicsAnswer
    SCHEMA = Schema(
        ("topics", _array(("topic_id", _Uuid), ("name", CompactString("utf-8")))),
        ("allow_auto_topic_creation", Boolean),
        ("include_operations", Boolean),
        ("tags", TaggedFields),
    )


class NamedTopics:
    """Asks for topics with ids and leaders; of all topics when ``names`` is None. Makes no topic."""

    def __init__(self, names: Sequence[str] | None) -> None:
        self._names = names

    def prepare(self, versions: dict[int, tuple[int, int]]) -> RequestStruct:
        """What the connection sends; raises NotImplementedError where the broker is too old."""
        low, high = versions[3]
        if not low <= METADATA_WITH_IDS <= high:
            raise NotImplementedError(f"the broker tells of topics in versions {low} to {high}")
        names = self._names
        topics: Any = None if names is None else [(NO_ID, name, {}) for name in names]
        return _TopicsRequest(topics, False, False, {})


def strangeness() -> str | None:
    """What of the request types above does not fit this aiokafka, None when all does."""
    request = FetchByIdOrName(
        [WantedPartition("t", b"\1" * 16, 0, 7, 9)], wait_ms=1, bytes_min=1, bytes_max=1, isolation=1
    )
    encoded = request.prepare({1: (4, FETCH_BY_ID)}).encode()
    topics = NamedTopics(["t"]).prepare({3: (0, METADATA_WITH_IDS)}).encode()
    if len(encoded) != 25 + 1 + 16 + 1 + 32 + 1 + 1 + 3 or topics != b"\2" + NO_ID + b"\2t\0" + b"\0\0\0":
        return "requests are encoded in another way"
    return None
