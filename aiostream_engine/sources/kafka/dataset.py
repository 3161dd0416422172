"""A dataset of given ranges of offsets, outside of any stream (row KAF-12)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...blocks.directory import BlockDirectory
from ...errors import OptionError
from ...kafka.record import OffsetRange
from ...kafka.settings import KafkaSettings
from ..base import BatchInput, SourceContext
from .source import KafkaSource

__all__ = ["fetch_dataset"]


async def fetch_dataset(
    bootstrap: str | Mapping[str, Any] | KafkaSettings,
    ranges: Iterable[tuple[str, int, int, int]],
    directory: BlockDirectory,
    options: Mapping[str, Any],
) -> tuple[BatchInput, KafkaSource]:
    """The records of ``ranges``, held by the caller, and the source that knows their format.

    Raises OptionError for ranges that are none, SourceError when they are not in the log.
    """
    wanted = [OffsetRange(*one) for one in ranges]
    for one in wanted:
        if not 0 <= one.start <= one.stop:
            raise OptionError(f"{one} is no range of offsets")
    if not wanted:
        raise OptionError("no range of offsets is given")
    source = KafkaSource(bootstrap, sorted({one.topic for one in wanted}), **options)
    return await source.read(wanted, SourceContext(-1, directory)), source
