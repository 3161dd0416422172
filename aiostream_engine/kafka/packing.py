"""Record batches of Kafka's format, built in the workers: the loop only sends them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .encoding import Outgoing
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
    ) -> None:
        self.partitions = dict(partitions)
        self._batch_bytes = batch_bytes
        self._codec = CODECS[compression]
        self._transactional = transactional
        self._partitioner = partitioner

    def __call__(self, records: Iterable[Outgoing]) -> Iterator[PackedBatch]:
        packs: dict[str, _TopicPack] = {}
        unknown: dict[str, list[Outgoing]] = {}
        for record in records:
            pack = packs.get(record[0])
            if pack is None:
                if record[0] not in self.partitions:
                    unknown.setdefault(record[0], []).append(record)
                    continue
                pack = packs[record[0]] = self._topic(record[0])
            yield from pack.add(record)
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
        self._open: dict[int, tuple[Any, int]] = {}
        self._places: dict[bytes, int] = {}
        self._sticky = random.randrange(partitions)

    def add(self, record: Outgoing) -> list[PackedBatch]:
        """Add a record; gives the batches that had no room for it."""
        _, key, value, given, timestamp = record
        headers = list(given) if given else _NO_HEADERS
        full: list[PackedBatch] = []
        while True:
            place = self._sticky if key is None else self._place(key)
            builder, count = self._open.get(place) or (self._new(), 0)
            if builder.append(count, timestamp, key, value, headers) is not None:
                self._open[place] = builder, count + 1
                return full
            full.append(self._closed(place))
            if key is None:
                self._sticky = (self._sticky + 1) % self._partitions

    def _closed(self, place: int) -> PackedBatch:
        builder, count = self._open.pop(place)
        return PackedBatch(self._topic, place, count, bytes(builder.build()))

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
