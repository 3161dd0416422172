"""Which partitions a stream reads, and between which offsets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from ...errors import OptionError
from .lane import EARLIEST, LATEST, Topic
from .partition_queue import Place

__all__ = ["Bound", "StartAt", "StopAt", "Subscription", "earliest", "read_bound"]

_OfPartition = Literal["earliest", "latest"] | datetime | int
_ByPartition = Mapping[Place, _OfPartition] | Mapping[str, Mapping[int, _OfPartition]]
StopAt = Literal["earliest", "latest"] | datetime | _ByPartition
"""A bound: a word, a moment with a time zone, or {(topic, number): these or an offset}."""
StartAt = StopAt | Literal["committed"]
"""A bound, or the offsets of the group."""

_WORDS = {"earliest": EARLIEST, "latest": LATEST}


class Subscription:
    """Topics by name, by pattern, or single partitions (row KAF-2).

    Raises OptionError unless exactly one of the three is given.
    """

    def __init__(
        self,
        topics: str | Iterable[str] | None = None,
        pattern: str | re.Pattern[str] | None = None,
        partitions: Iterable[tuple[str, int]] | None = None,
    ) -> None:
        if sum(item is not None for item in (topics, pattern, partitions)) != 1:
            raise OptionError("give one of topics, pattern and partitions")
        self.pattern = re.compile(pattern) if pattern is not None else None
        self.partitions = frozenset(map(_checked_place, partitions)) if partitions is not None else None
        names = [topics] if isinstance(topics, str) else list(topics or ())
        if self.partitions is not None:
            names = [topic for topic, _ in self.partitions]
        self.names = frozenset(names) if self.pattern is None else None
        if self.names is not None and (not self.names or not all(self.names)):
            raise OptionError("no topic is named")

    def __str__(self) -> str:
        if self.pattern is not None:
            return f"/{self.pattern.pattern}/"
        if self.partitions is not None:
            return ", ".join(f"{topic}[{number}]" for topic, number in sorted(self.partitions))
        return ", ".join(sorted(self.names or ()))

    def select(self, topics: Mapping[str, Topic]) -> set[Place]:
        """The partitions to read, of those that there are."""
        if self.partitions is not None:
            return {
                (topic, number)
                for topic, number in self.partitions
                if topic in topics and number in topics[topic].partitions
            }
        return {
            (topic.name, number)
            for topic in topics.values()
            if self.pattern is None or self.pattern.fullmatch(topic.name)
            for number in topic.partitions
        }


def _checked_place(place: Any) -> Place:
    topic, number = place
    if not isinstance(topic, str) or not isinstance(number, int) or number < 0:
        raise OptionError(f"partition {place!r} is not understood: use (topic, number)")
    return topic, number


class Bound(NamedTuple):
    """One end of what is read: of all partitions, or of each. Negative numbers are EARLIEST and LATEST;
    ``is_time`` tells epoch milliseconds from offsets."""

    whole: tuple[int, bool] | None
    each: Mapping[Place, tuple[int, bool]]

    def of(self, place: Place) -> tuple[int, bool] | None:
        """The bound of one partition, None when it has none."""
        return self.each.get(place, self.whole)


def earliest(place: Place) -> tuple[int, bool]:
    """The bound of a partition that came to be while the stream ran (scenario E19)."""
    return EARLIEST, False


def read_bound(option: str, value: Any) -> Bound:
    """A bound from what the user wrote: a word, a moment, or a mapping of these and offsets.

    Raises OptionError that names ``option``.
    """
    if value is None:
        return Bound(None, {})
    if isinstance(value, Mapping):
        each: dict[Place, tuple[int, bool]] = {}
        for key, item in value.items():
            if isinstance(item, Mapping):
                each |= {_checked_place((key, n)): _read_one(option, one) for n, one in item.items()}
            else:
                each[_checked_place(key)] = _read_one(option, item)
        return Bound(None, each)
    if isinstance(value, int):
        raise OptionError(f"{option} is an offset: say of which partition, {{(topic, number): {value}}}")
    return Bound(_read_one(option, value), {})


def _read_one(option: str, value: Any) -> tuple[int, bool]:
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value], False
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise OptionError(f"{option} is a time without a time zone: {value!r}")
        return max(0, int(value.timestamp() * 1000)), True
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value, False
    raise OptionError(
        f"{option} {value!r} is not understood: use 'earliest', 'latest', a datetime with a time zone, or "
        "{(topic, partition): offset}"
    )
