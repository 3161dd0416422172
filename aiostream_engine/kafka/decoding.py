"""Records from the bytes of record batches: the block format of Kafka, read in the workers.

Arguments of a block: (topic, partition, start, stop, form, projection, key serde, value serde).
Form ``batches`` is what Kafka sends; form ``rows`` are records that the client has decoded already.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from ..blocks.storage import read_bytes
from ..errors import CorruptionError
from ..types import BlockRef
from .record import KafkaRecord, UndecodableRecord
from .record_batch import headers
from .serde import deserializer

__all__ = ["BATCHES", "FORMAT", "PROJECTIONS", "ROWS", "Decode", "read_records", "refuse_undecodable"]

FORMAT = f"{__name__}:read_records"
BATCHES, ROWS = "batches", "rows"
PROJECTIONS = ("record", "value", "pair")

_CHUNK_RECORDS = 512


def read_records(ref: BlockRef) -> Iterator[Sequence[Any]]:
    """The records of a block whose offsets are in its range, projected and decoded, in order.

    One that cannot be decoded comes as an :class:`UndecodableRecord`. Raises CorruptionError where a
    batch does not fit its checksum.
    """
    topic, partition, start, stop, form, projection, key_serde, value_serde = ref.args
    read = _Reader(topic, partition, projection, key_serde, value_serde)
    chunk: list[Any] = []
    for records, whole in _batches(ref, start, stop) if form == BATCHES else _rows(ref):
        chunk += read.all(records) if whole else read.between(records(), start, stop)
        if len(chunk) >= _CHUNK_RECORDS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


Records = Callable[[], Iterable[Any]]


def _batches(ref: BlockRef, start: int, stop: int) -> Iterator[tuple[Records, bool]]:
    """Of each batch how to begin to read it, and whether all of it is in the range."""
    # Here, since only who reads needs the client's package; its reader is compiled.
    from aiokafka.record.default_records import DefaultRecordBatch

    data = memoryview(read_bytes(ref))
    for header in headers(data):
        if header.last < start or header.base >= stop:
            continue
        view: Any = data[header.at : header.at + header.size]
        if not DefaultRecordBatch(view).validate_crc():
            raise CorruptionError(f"the batch at offset {header.base} does not fit its checksum")
        yield partial(DefaultRecordBatch, view), start <= header.base and header.last < stop


class _Row:
    """A record in the shape of the compiled reader's."""

    __slots__ = ("headers", "key", "offset", "timestamp", "value")

    def __init__(self, fields: tuple[Any, ...]) -> None:
        self.offset, self.timestamp, self.key, self.value, self.headers = fields


def _rows(ref: BlockRef) -> Iterator[tuple[Records, bool]]:
    data = read_bytes(ref)
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        rows = pickle.loads(data[at + 4 : at + 4 + size])
        yield partial(map, _Row, rows), False
        at += 4 + size


class _Reader:
    """Makes records of one partition out of the fields of the compiled reader's."""

    def __init__(self, topic: str, partition: int, projection: str, key_serde: str, value_serde: str) -> None:
        self._topic, self._partition = topic, partition
        self._key = None if key_serde == "bytes" else deserializer(key_serde)
        self._value = None if value_serde == "bytes" else deserializer(value_serde)
        self._make: Callable[[Iterable[Any]], list[Any]] = {
            "value": self._values,
            "pair": self._pairs,
            "record": self._records,
        }[projection]

    def all(self, begin: Records) -> list[Any]:
        """All records of a batch."""
        try:
            return self._make(begin())
        except Exception as error:
            if type(error).__module__.startswith("aiokafka"):
                raise CorruptionError(f"a batch of {self._topic}[{self._partition}]: {error}") from error
            return [one for record in begin() for one in self._one(record)]

    def between(self, records: Iterable[Any], start: int, stop: int) -> list[Any]:
        """The records whose offset is in the range."""
        wanted = [record for record in records if start <= record.offset < stop]
        return self.all(lambda: wanted)

    def _one(self, record: Any) -> list[Any]:
        try:
            return self._make((record,))
        except Exception:
            return [UndecodableRecord(*self._raw(record))]

    def _raw(self, record: Any) -> KafkaRecord:
        return KafkaRecord(
            self._topic,
            self._partition,
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            tuple(record.headers),
        )

    def _values(self, records: Iterable[Any]) -> list[Any]:
        decode = self._value
        if decode is None:
            return [record.value for record in records]
        return [None if (value := record.value) is None else decode(value) for record in records]

    def _pairs(self, records: Iterable[Any]) -> list[Any]:
        key, value = self._key, self._value
        if key is None and value is None:
            return [(record.key, record.value) for record in records]
        return [(_decoded(key, record.key), _decoded(value, record.value)) for record in records]

    def _records(self, records: Iterable[Any]) -> list[Any]:
        topic, partition, key, value = self._topic, self._partition, self._key, self._value
        return [
            KafkaRecord(
                topic,
                partition,
                record.offset,
                record.timestamp,
                _decoded(key, record.key),
                _decoded(value, record.value),
                tuple(record.headers),
            )
            for record in records
        ]


def _decoded(decode: Callable[[bytes], Any] | None, data: bytes | None) -> Any:
    return data if decode is None or data is None else decode(data)


def refuse_undecodable(key_serde: str, value_serde: str, record: Any) -> Any:
    """``record``; raises what its decoding raised, so that the step's error policy has its coordinates."""
    if type(record) is UndecodableRecord:
        for serde, data in ((key_serde, record.key), (value_serde, record.value)):
            _decoded(None if serde == "bytes" else deserializer(serde), data)
    return record


class Decode:
    """Decodes and projects whole records by the user's own callables, as a step with an error policy."""

    def __init__(self, projection: str | Callable[[KafkaRecord], Any], key: Any, value: Any) -> None:
        self._options = (projection, key, value)
        self._key = None if key == "bytes" else deserializer(key)
        self._value = None if value == "bytes" else deserializer(value)
        self._projection = projection

    def __reduce__(self) -> tuple[Any, ...]:
        return Decode, self._options

    def __call__(self, record: KafkaRecord) -> Any:
        value = _decoded(self._value, record.value)
        if self._projection == "value":
            return value
        key = _decoded(self._key, record.key)
        if self._projection == "pair":
            return key, value
        decoded = record._replace(key=key, value=value)
        return self._projection(decoded) if callable(self._projection) else decoded
