"""Which of the two sources reads for a stream: the direct one, or a member of a group."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import OptionError
from ...kafka.settings import KafkaSettings
from .group_source import GroupKafkaSource
from .source import KafkaSource

__all__ = ["make_kafka_source"]


def make_kafka_source(
    bootstrap: str | Mapping[str, Any] | KafkaSettings,
    topics: str | Iterable[str] | None,
    subscribe: str | Iterable[str] | re.Pattern[str] | None,
    *,
    direct: Mapping[str, Any],
    member: Mapping[str, Any],
    both: Mapping[str, Any],
) -> KafkaSource:
    """A member of a group when ``subscribe`` is given, else the direct source.

    direct, member: options for one of them alone; None is "not given". both: for either.
    Raises OptionError.
    """
    direct = {name: value for name, value in direct.items() if value is not None}
    member = {name: value for name, value in member.items() if value is not None}
    if subscribe is None:
        if member:
            raise OptionError(f"{next(iter(member))} is for members of a group: say what to subscribe to")
        return KafkaSource(bootstrap, topics, **direct, **both)
    if topics is not None:
        raise OptionError("give topics, or subscribe for a member of a group, not both")
    if both.get("group") is None:
        raise OptionError("subscribe needs group, the name of the consumer group")
    return GroupKafkaSource(bootstrap, subscribe, **member, **direct, **both)
