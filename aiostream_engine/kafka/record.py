"""What a stream of Kafka gives: records and ranges of offsets, as plain named tuples."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["KafkaRecord", "OffsetRange", "UndecodableRecord"]


class KafkaRecord(NamedTuple):
    """One record with its coordinates; can be pickled, kept in windows and shuffled (row KAF-13).

    timestamp: epoch milliseconds, as the topic keeps it: of creation or of appending.
    key, value: decoded; None where Kafka has a null, which no serde is asked about.
    headers: pairs of text and bytes, in order; a name may come twice.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: Any
    value: Any
    headers: tuple[tuple[str, bytes | None], ...] = ()


class UndecodableRecord(KafkaRecord):
    """A record with the key and value as they came, because one of them could not be decoded."""

    __slots__ = ()


class OffsetRange(NamedTuple):
    """Offsets of a partition from ``start`` up to and without ``stop``.

    Where a topic is compacted or transactional it holds fewer records than offsets.
    """

    topic: str
    partition: int
    start: int
    stop: int

    @property
    def offsets(self) -> int:
        """How many offsets, which is the most records that it can hold."""
        return self.stop - self.start
