"""Record batches of Kafka's format, built in the workers: the loop only sends them."""

from __future__ import annotations

import random
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from .encoding import EncodeRecord, Outgoing
from .murmur2 import partition_of

__all__ = ["CODECS", "HEADER_BYTES", "PackRecords", "PackedBatch", "Partitioner", "seal"]

CODECS = {None: 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
HEADER_BYTES = 61

# Gives the partition of a key among so many.
Partitioner = Callable[[bytes, int], int]

_NO_HEADERS: list[Any] = []
_KEYS_KNOWN_MAX = 100_000
_PRODUCER = struct.Struct(">qhi")  # id, epoch, number of the first record
_PRODUCER_AT, _CRC_AT, _CRC_FROM = 43, 17, 21


class PackedBatch(NamedTuple):
    """A record batch as it goes over the wire, without its producer's number.

    partition: -1 when the worker did not know the topic; then ``content`` is a list of records.
    content: a bytearray, so that who sends it can write into it without a copy.
    """

    topic: str
    partition: int
    records: int
    content: Any


def seal(batch: bytearray, producer_id: int, producer_epoch: int, sequence: int) -> None:
    """Write into a batch who sends it and which of its records are the first, and renew the checksum."""
    from aiokafka.record.util import calc_crc32c

    _PRODUCER.pack_into(batch, _PRODUCER_AT, producer_id, producer_epoch, sequence)
    struct.pack_into(">I", batch, _CRC_AT, calc_crc32c(memoryview(batch)[_CRC_FROM:]))


class PackRecords:
    """Packs a partition's encoded records into batches; an object that can be sent to a worker.

    partitions: of each topic that is known. transactional: batches belong to a transaction.
    batch_bytes: where a batch ends, before compression. compression: one of :data:`CODECS`.
    partitioner: of records with a key, by default that of Kafka's own clients; records without one go
    to one partition until a batch is full, then to another (KIP-480).
    values_of: the topic of records that are only the bytes of a value, None when there are no such.
    encode: of records that come here without having been encoded, which is good for ``bytes`` values
        alone: it is asked about those that are something else, or too large.

    A call keeps the order of records of a partition.
    """

    def __init__(
        self,
        partitions: Mapping[str, int],
        *,
        batch_bytes: int,
        compression: str | None = None,
        transactional: bool = False,
        partitioner: Partitioner | None = None,
        values_of: str | None = None,
        encode: EncodeRecord | None = None,
    ) -> None:
        self.partitions = dict(partitions)
        self._values_of = values_of
        self._encode = encode
        self._batch_bytes = batch_bytes
        self._codec = CODECS[compression]
        self._transactional = transactional
        self._partitioner = partitioner

    def __call__(self, records: Iterable[Outgoing | bytes]) -> Iterator[PackedBatch]:
        topic = self._values_of
        if topic is None:
            return self._packed(records)  # type: ignore[arg-type]
        left = iter(records)
        if topic not in self.partitions:
            return self._packed(self._as_outgoing(topic, left))
        return self._values(topic, left)

    def _values(self, topic: str, records: Iterator[Any]) -> Iterator[PackedBatch]:
        """Batches of values; from the first record that is more than a value all go the long way."""
        partitions = self.partitions[topic]
        place = random.randrange(partitions)
        builder, count, now_ms = self._builder(), 0, int(time.time() * 1000)
        append, more = builder.append, None
        encode, room = self._encode, sys.maxsize if self._encode is None else self._encode.room_bytes
        for value in records:
            if type(value) is not bytes or len(value) > room:
                if encode is not None:
                    value = encode(value)
                if type(value) is not bytes:
                    more = value
                    break
            if append(count, now_ms, None, value, _NO_HEADERS) is None:
                yield PackedBatch(topic, place, count, builder.build())
                place = (place + 1) % partitions
                builder, count, now_ms = self._builder(), 0, int(time.time() * 1000)
                append = builder.append
                append(0, now_ms, None, value, _NO_HEADERS)  # one is taken whatever its size
            count += 1
        if count:
            yield PackedBatch(topic, place, count, builder.build())
        if more is not None:
            yield from self._packed(self._as_outgoing(topic, chain((more,), records)))

    def _as_outgoing(self, topic: str, records: Iterator[Any]) -> Iterator[Outgoing]:
        for item in records:
            if self._encode is not None and not isinstance(item, Outgoing):
                item = self._encode(item)
            yield Outgoing(topic, None, item) if isinstance(item, bytes) else item

    def _packed(self, records: Iterable[Outgoing]) -> Iterator[PackedBatch]:
        packs: dict[str, _TopicPack] = {}
        unknown: dict[str, list[Outgoing]] = {}
        last, pack = "", None
        for record in records:
            if record[0] != last or pack is None:
                last = record[0]
                pack = packs.get(last)
                if pack is None and last in self.partitions:
                    pack = packs[last] = self._topic(last)
                if pack is None:
                    unknown.setdefault(last, []).append(record)
                    continue
            if not pack.add(record):
                yield from pack.full(record)
        for pack in packs.values():
            yield from pack.rest()
        for topic, left in unknown.items():
            yield PackedBatch(topic, -1, len(left), left)

    def _topic(self, topic: str) -> _TopicPack:
        return _TopicPack(topic, self.partitions[topic], self._partitioner or partition_of, self._builder)

    def _builder(self) -> Any:
        # Here, since only who builds needs the client's package; its builder is compiled.
        from aiokafka.record.default_records import DefaultRecordBatchBuilder

        return DefaultRecordBatchBuilder(2, self._codec, self._transactional, -1, -1, 0, self._batch_bytes)


class _TopicPack:
    """The batches of one topic that are not full."""

    def __init__(
        self, topic: str, partitions: int, partitioner: Partitioner, builder: Callable[[], Any]
    ) -> None:
        self._topic = topic
        self._partitions = partitions
        self._partitioner = partitioner
        self._new = builder
        self._open: dict[int, list[Any]] = {}  # builder, its records, its method
        self._places: dict[bytes, int] = {}
        self._sticky = random.randrange(partitions)
        self._now_ms = int(time.time() * 1000)  # of records without a time of their own

    def add(self, record: Outgoing) -> bool:
        """Add a record; False when its batch has no room for it."""
        _, key, value, headers, timestamp = record
        if key is None:
            place = self._sticky
        else:
            place = self._places.get(key, -1)
            if place < 0:
                place = self._place(key)
        batch = self._open.get(place)
        if batch is None:
            batch = self._open[place] = self._begun()
        if timestamp is None:
            timestamp = self._now_ms
        count = batch[1]
        if batch[2](count, timestamp, key, value, list(headers) if headers else _NO_HEADERS) is None:
            return False
        batch[1] = count + 1
        return True

    def _begun(self) -> list[Any]:
        builder = self._new()
        return [builder, 0, builder.append]

    def full(self, record: Outgoing) -> Iterator[PackedBatch]:
        """Close what has no room for a record until it has a place; gives the closed batches."""
        while True:
            key = record[1]
            yield self._closed(self._sticky if key is None else self._place(key))
            self._now_ms = int(time.time() * 1000)
            if key is None:
                self._sticky = (self._sticky + 1) % self._partitions
            if self.add(record):
                return

    def _closed(self, place: int) -> PackedBatch:
        builder, count, _ = self._open.pop(place)
        return PackedBatch(self._topic, place, count, builder.build())

    def _place(self, key: bytes) -> int:
        place = self._places.get(key)
        if place is None:
            if len(self._places) >= _KEYS_KNOWN_MAX:
                self._places.clear()
            place = self._places[key] = self._partitioner(key, self._partitions)
        return place

    def rest(self) -> Iterator[PackedBatch]:
        """What is left."""
        for place in list(self._open):
            yield self._closed(place)
