"""From records of a stream to what a Kafka producer takes; runs in the workers.

Light to import, and knows neither asyncio nor a client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from types import NoneType
from typing import Any, Literal, NamedTuple

from .serde import Serializer, serializer

__all__ = ["EncodeRecord", "Outgoing", "RecordTooLargeError"]

Headers = Iterable[tuple[str, bytes | None]]
Projection = Literal["pair", "value"] | Callable[[Any], tuple[Any, Any]]

# Of a record in a batch, beside its key, value and headers.
OVERHEAD_BYTES = 40
_HEADER_BYTES = 10


class RecordTooLargeError(ValueError):
    """A record is larger than the topic takes; carries its size in the text."""


class Outgoing(NamedTuple):
    """A record as bytes. timestamp: epoch milliseconds, None for when it is packed."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int | None = None


_ONLY_TUPLES = {tuple}
_ONLY_PAIRS = {2}
_outgoing = partial(tuple.__new__, Outgoing)


class EncodeRecord:
    """Encodes one record; an object that can be sent to a worker.

    A value for a fixed topic without key, headers and time of its own, the most common record, is only
    its bytes: there is nothing else to say about it.

    topic: name, or a function of the record. projection: ``pair`` for (key, value) records, ``value``
    for values without a key, or a function that gives a pair. key, value: serdes, not asked about None.
    headers, timestamp: functions of the record, None for none. bytes_max: of one record.

    A call raises what the functions and serdes raise, TypeError for a record that is no pair, and
    RecordTooLargeError.
    """

    def __init__(
        self,
        topic: str | Callable[[Any], str],
        projection: Projection,
        key: str | Serializer,
        value: str | Serializer,
        headers: Callable[[Any], Headers] | None,
        timestamp: Callable[[Any], int] | None,
        bytes_max: int,
    ) -> None:
        self._arguments = (topic, projection, key, value, headers, timestamp, bytes_max)
        self._topic = topic
        self._projection = projection
        self._headers = headers
        self._timestamp = timestamp
        self._bytes_max = bytes_max
        self._key, self._value = serializer(key), serializer(value)
        simple = isinstance(topic, str) and headers is None and timestamp is None
        self._plain = projection if simple and isinstance(projection, str) else None
        self.room_bytes = bytes_max - OVERHEAD_BYTES

    def __reduce__(self) -> tuple[Any, ...]:
        return EncodeRecord, self._arguments

    @property
    def keeps_bytes(self) -> bool:
        """True when a record of type ``bytes``, not larger than ``room_bytes``, is given as it is."""
        return self._plain == "value" and self._arguments[3] == "bytes"

    @property
    def pairs_of(self) -> str | None:
        """The topic of pairs that :meth:`columns` can encode; None when it cannot."""
        named = all(isinstance(serde, str) for serde in self._arguments[2:4])
        return str(self._topic) if self._plain == "pair" and named else None

    def columns(self, pairs: list[Any]) -> tuple[list[bytes], list[bytes]] | None:
        """The keys and values of a piece of pairs, encoded.

        None when one of them is no pair or has a null, is too large or cannot be encoded: a call for each
        record tells which.
        """
        if set(map(type, pairs)) != _ONLY_TUPLES or set(map(len, pairs)) != _ONLY_PAIRS:
            return None
        keys, values = zip(*pairs, strict=True)
        if NoneType in set(map(type, keys)) | set(map(type, values)):
            return None
        try:
            found = list(map(self._key, keys)), list(map(self._value, values))
        except Exception:
            return None
        return found if sum(max(map(len, column)) for column in found) <= self.room_bytes else None

    @property
    def values_of(self) -> str | None:
        """The topic whose records are given as bytes; None when all are :class:`Outgoing`."""
        return str(self._topic) if self._plain == "value" else None

    def __call__(self, record: Any) -> Outgoing | bytes:
        if self._plain == "value":  # the common cases have a short way
            value = None if record is None else self._value(record)
            if type(value) is bytes and len(value) <= self.room_bytes:
                return value
        elif self._plain is not None and type(record) is tuple and len(record) == 2:
            key, value = record
            key = None if key is None else self._key(key)
            value = None if value is None else self._value(value)
            if len(key or b"") + len(value or b"") <= self.room_bytes:
                return _outgoing((self._topic, key, value, (), None))
        return self._encoded(record)

    def _encoded(self, record: Any) -> Outgoing:
        key, value = self._pair(record)
        key_bytes = None if key is None else self._key(key)
        value_bytes = None if value is None else self._value(value)
        topic = self._topic if isinstance(self._topic, str) else self._topic(record)
        headers = () if self._headers is None else tuple(self._headers(record))
        size = OVERHEAD_BYTES + len(key_bytes or b"") + len(value_bytes or b"")
        for name, content in headers:
            size += _HEADER_BYTES + len(name) + len(content or b"")
        if size > self._bytes_max:
            raise RecordTooLargeError(
                f"a record of {size} bytes for topic {topic}: more than record_bytes_max = {self._bytes_max}"
            )
        timestamp = None if self._timestamp is None else int(self._timestamp(record))
        return Outgoing(topic, key_bytes, value_bytes, headers, timestamp)

    def _pair(self, record: Any) -> tuple[Any, Any]:
        if self._projection == "value":
            return None, record
        pair = record if self._projection == "pair" else self._projection(record)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(
                f"a Kafka sink takes (key, value) pairs, or projection='value'; not {pair!r:.200}"
            )
        return pair[0], pair[1]
