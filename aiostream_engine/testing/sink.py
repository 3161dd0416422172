"""Records that carry a proof of themselves, and a sink that checks it.

The idea is that of Kafka Streams' EOS verification client: number what goes in, and see what
came out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ..sinks.base import PlainSink, Records, WriteKey

__all__ = ["Delivery", "NumberedRecord", "VerifyingSink", "numbered_records"]

_NAMED_MAX = 10


class NumberedRecord(NamedTuple):
    """One record with its place in its source and a checksum over all of it."""

    source: str
    sequence: int
    payload: bytes
    checksum: int

    @property
    def intact(self) -> bool:
        """True when the checksum fits the rest."""
        return self.checksum == _checksum(self.source, self.sequence, self.payload)


def numbered_records(
    source: str, count: int, *, start: int = 0, payload_bytes: int = 8
) -> Iterator[NumberedRecord]:
    """Records ``start`` to ``start + count - 1`` of ``source``, each with its own payload."""
    for sequence in range(start, start + count):
        payload = sequence.to_bytes(8, "big").rjust(payload_bytes, b"\0")[-payload_bytes:]
        yield NumberedRecord(source, sequence, payload, _checksum(source, sequence, payload))


def _checksum(source: str, sequence: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(b"%d:%s" % (sequence, source.encode())))


@dataclass(slots=True)
class Delivery:
    """What became of the records of one source; ``lost`` counts against what was expected."""

    expected: int | None = None
    received: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    unexpected: int = 0
    corrupt: int = 0
    lost_first: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        expected = "?" if self.expected is None else self.expected
        text = (
            f"received {self.received} of {expected}, lost {self.lost}, "
            f"duplicated {self.duplicated}, out of order {self.out_of_order}, "
            f"unexpected {self.unexpected}, corrupt {self.corrupt}"
        )
        return text + (f"; first lost: {self.lost_first}" if self.lost_first else "")


class _SourceLog:
    """What was seen of one source: one byte a record, so that a long run fits in memory."""

    def __init__(self) -> None:
        self.expected: int | None = None
        self.seen = bytearray()
        self.highest = -1
        self.received = self.duplicated = self.out_of_order = self.corrupt = 0

    def add(self, record: NumberedRecord) -> None:
        self.received += 1
        if not record.intact:
            self.corrupt += 1
            return
        sequence = record.sequence
        if sequence >= len(self.seen):
            self.seen.extend(bytes(sequence + 1 - len(self.seen)))
        if self.seen[sequence]:
            self.duplicated += 1
        else:
            self.seen[sequence] = 1
            self.out_of_order += sequence < self.highest
        self.highest = max(self.highest, sequence)

    def delivery(self) -> Delivery:
        count = len(self.seen) if self.expected is None else self.expected
        lost = self.seen[:count].count(0) + max(0, count - len(self.seen))
        return Delivery(
            expected=self.expected,
            received=self.received,
            lost=lost,
            duplicated=self.duplicated,
            out_of_order=self.out_of_order,
            unexpected=self.seen[count:].count(1),
            corrupt=self.corrupt,
            lost_first=self._missing(count) if lost else [],
        )

    def _missing(self, count: int) -> list[int]:
        missing = (i for i in range(count) if i >= len(self.seen) or not self.seen[i])
        return [sequence for sequence, _ in zip(missing, range(_NAMED_MAX), strict=False)]


class VerifyingSink(PlainSink):
    """Counts lost, duplicated, out-of-order and damaged :class:`NumberedRecord` by source.

    Order is that in which partitions are written; a record that comes after a later one of its
    source is out of order, a second copy is a duplicate wherever it comes.

    Parameters
    ----------
    expected: number of records by source, counted from sequence 0; needed to see that the
        last ones are missing, or all.
    """

    def __init__(self, expected: dict[str, int] | None = None, *, name: str = "verify") -> None:
        self.name = name
        self.keys: list[WriteKey] = []
        self._logs: dict[str, _SourceLog] = {}
        for source, count in (expected or {}).items():
            self.expect(source, count)

    def expect(self, source: str, count: int) -> None:
        """Records 0 to ``count - 1`` of ``source`` shall come, and no others."""
        self._logs.setdefault(source, _SourceLog()).expected = count

    def check(self, record: NumberedRecord) -> None:
        """Take one record; for use as a plain callback."""
        record = NumberedRecord(*record)
        self._logs.setdefault(record.source, _SourceLog()).add(record)

    async def write(self, key: WriteKey, records: Records) -> None:
        """Take the records of one partition."""
        self.keys.append(key)
        async for chunk in records:
            for record in chunk:
                self.check(record)

    def report(self) -> dict[str, Delivery]:
        """What became of the records, by source."""
        return {source: log.delivery() for source, log in sorted(self._logs.items())}

    @property
    def received(self) -> int:
        """Records that came, of all sources, copies included."""
        return sum(log.received for log in self._logs.values())

    def assert_exactly_once(self) -> None:
        """Raise AssertionError unless each expected record came once, in order and intact."""
        faults = [
            f"{source}: {delivery}" for source, delivery in self.report().items() if _faulty(delivery, 1)
        ]
        assert not faults, "not delivered exactly once:\n  " + "\n  ".join(faults)

    def assert_at_least_once(self) -> None:
        """Raise AssertionError unless each expected record came, intact; copies are allowed."""
        faults = [
            f"{source}: {delivery}" for source, delivery in self.report().items() if _faulty(delivery, 0)
        ]
        assert not faults, "not delivered at least once:\n  " + "\n  ".join(faults)


def _faulty(delivery: Delivery, strict: int) -> bool:
    doubtful = delivery.duplicated + delivery.out_of_order
    return bool(delivery.lost + delivery.unexpected + delivery.corrupt + strict * doubtful)
