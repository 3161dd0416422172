"""Record batches of Kafka's format, built in the workers: the loop only sends them."""

from __future__ import annotations

import random
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from .checksum import changed_crc32c
from .encoding import EncodeRecord, Outgoing
from .murmur2 import partition_of

__all__ = ["CODECS", "HEADER_BYTES", "PackRecords", "PackedBatch", "Partitioner", "seal"]

CODECS = {None: 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
HEADER_BYTES = 61

# Gives the partition of a key among so many.
Partitioner = Callable[[bytes, int], int]

_NO_HEADERS: list[Any] = []
_KEYS_KNOWN_MAX = 100_000
_PIECE_RECORDS = 512  # are looked at together
_PRODUCER = struct.Struct(">qhi")  # id, epoch, number of the first record
_CRC = struct.Struct(">I")
_PRODUCER_AT, _PRODUCER_END, _CRC_AT = 43, 57, 17


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
    """Write into a batch who sends it and which of its records are the first, and correct its checksum."""
    old = int.from_bytes(batch[_PRODUCER_AT:_PRODUCER_END], "big")
    new = _PRODUCER.pack(producer_id, producer_epoch, sequence)
    difference = (old ^ int.from_bytes(new, "big")).to_bytes(len(new), "big")
    (crc,) = _CRC.unpack_from(batch, _CRC_AT)
    _CRC.pack_into(batch, _CRC_AT, changed_crc32c(crc, difference, len(batch) - _PRODUCER_END))
    batch[_PRODUCER_AT:_PRODUCER_END] = new


class PackRecords:
    """Packs a partition's encoded records into batches; an object that can be sent to a worker.

    partitions: of each topic that is known. transactional: batches belong to a transaction.
    batch_bytes: where a batch ends, before compression. compression: one of :data:`CODECS`.
    partitioner: of records with a key, by default that of Kafka's own clients; records without one go
    to one partition until a batch is full, then to another (KIP-480).
    values_of: the topic of records that are only the bytes of a value, None when there are no such.
    encode: of records that come here without having been encoded, which is good for ``bytes`` values and
        for pairs with named serdes alone: it is asked about a piece of them at a time.

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

    def __call__(self, records: Iterable[Any]) -> Iterator[PackedBatch]:
        left = iter(records)
        if self._values_of in self.partitions:
            return self._values(self._values_of, left)
        pairs_of = None if self._encode is None else self._encode.pairs_of
        if pairs_of in self.partitions:
            return self._pairs(pairs_of, left)
        return self._packed(map(self._outgoing, left))

    def _values(self, topic: str, records: Iterator[Any]) -> Iterator[PackedBatch]:
        partitions = self.partitions[topic]
        place = random.randrange(partitions)
        builder, count, now_ms = self._builder(), 0, _now_ms()
        append, room = builder.append, sys.maxsize if self._encode is None else self._encode.room_bytes
        for value in records:
            if type(value) is not bytes or len(value) > room:
                value = self._outgoing(value).value  # there is nothing else to say about it
            if append(count, now_ms, None, value, _NO_HEADERS) is None:
                yield PackedBatch(topic, place, count, builder.build())
                place = (place + 1) % partitions
                builder, count, now_ms = self._builder(), 0, _now_ms()
                append = builder.append
                append(0, now_ms, None, value, _NO_HEADERS)  # one is taken whatever its size
            count += 1
        if count:
            yield PackedBatch(topic, place, count, builder.build())

    def _pairs(self, topic: str, records: Iterator[Any]) -> Iterator[PackedBatch]:
        """Batches of pairs: a piece of them by columns, or, where one is not as most are, one by one."""
        assert self._encode is not None
        pack = self._topic(topic)
        while piece := list(islice(records, _PIECE_RECORDS)):
            columns = self._encode.columns(piece)
            if columns is not None:
                yield from pack.add_all(*columns)
                continue
            for record in map(self._outgoing, piece):
                if not pack.add(record):
                    yield from pack.full(record)
        yield from pack.rest()

    def _outgoing(self, record: Any) -> Outgoing:
        if isinstance(record, Outgoing):
            return record
        if self._encode is not None:
            record = _encoded(self._encode, record)
        return Outgoing(self._values_of, None, record) if type(record) is bytes else record  # type: ignore[arg-type]

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


def _encoded(encode: EncodeRecord, record: Any) -> Outgoing | bytes:
    try:
        return encode(record)
    except Exception as error:
        error.record_in_hand = record  # type: ignore[attr-defined]
        raise


def _now_ms() -> int:
    return int(time.time() * 1000)


class _Places(dict[bytes, int]):
    """The partitions of keys; forgets all when there are too many."""

    def __init__(self, partitioner: Partitioner, partitions: int) -> None:
        self._partitioner = partitioner
        self._partitions = partitions

    def __missing__(self, key: bytes) -> int:
        if len(self) >= _KEYS_KNOWN_MAX:
            self.clear()
        place = self[key] = self._partitioner(key, self._partitions)
        return place


class _Open(dict[int, list[Any]]):
    """The batches that are not full, by partition: a builder, its records, its method."""

    def __init__(self, new: Callable[[], Any]) -> None:
        self._new = new

    def __missing__(self, place: int) -> list[Any]:
        builder = self._new()
        batch = self[place] = [builder, 0, builder.append]
        return batch


class _TopicPack:
    """The batches of one topic that are not full."""

    def __init__(
        self, topic: str, partitions: int, partitioner: Partitioner, builder: Callable[[], Any]
    ) -> None:
        self._topic = topic
        self._partitions = partitions
        self._open = _Open(builder)
        self._places = _Places(partitioner, partitions)
        self._sticky = random.randrange(partitions)
        self._now_ms = _now_ms()  # of records without a time of their own

    def add(self, record: Outgoing) -> bool:
        """Add a record; False when its batch has no room for it."""
        _, key, value, headers, timestamp = record
        batch = self._open[self._sticky if key is None else self._places[key]]
        if timestamp is None:
            timestamp = self._now_ms
        count = batch[1]
        if batch[2](count, timestamp, key, value, list(headers) if headers else _NO_HEADERS) is None:
            return False
        batch[1] = count + 1
        return True

    def add_all(self, keys: Sequence[bytes], values: Sequence[bytes]) -> Iterator[PackedBatch]:
        """Add records of which there is nothing else to say; gives the batches that are full."""
        batches, now_ms = self._open, self._now_ms
        for place, key, value in zip(map(self._places.__getitem__, keys), keys, values, strict=True):
            batch = batches[place]
            count = batch[1]
            if batch[2](count, now_ms, key, value, _NO_HEADERS) is None:
                yield self._closed(place)
                now_ms = self._now_ms = _now_ms()
                batch, count = batches[place], 0
                batch[2](0, now_ms, key, value, _NO_HEADERS)  # one is taken whatever its size
            batch[1] = count + 1

    def full(self, record: Outgoing) -> Iterator[PackedBatch]:
        """Close what has no room for a record until it has a place; gives the closed batches."""
        while True:
            key = record[1]
            yield self._closed(self._sticky if key is None else self._places[key])
            self._now_ms = _now_ms()
            if key is None:
                self._sticky = (self._sticky + 1) % self._partitions
            if self.add(record):
                return

    def _closed(self, place: int) -> PackedBatch:
        builder, count, _ = self._open.pop(place)
        return PackedBatch(self._topic, place, count, builder.build())

    def rest(self) -> Iterator[PackedBatch]:
        """What is left."""
        for place in list(self._open):
            yield self._closed(place)
