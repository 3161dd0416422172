from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from aiostream_engine.sinks.base import WriteKey
from aiostream_engine.types import BatchTime

KeyMaker = Callable[..., WriteKey]
RecordsMaker = Callable[..., AsyncIterator[Sequence[Any]]]


@pytest.fixture
def key() -> KeyMaker:
    def make(batch_id: int = 1, partition: int = 0, partitions: int = 1) -> WriteKey:
        return WriteKey("out", batch_id, BatchTime(1_700_000_000_000 + 500 * batch_id), partition, partitions)

    return make


@pytest.fixture
def chunks() -> RecordsMaker:
    """Records as the engine hands them over: an async iterator that can be read once."""

    async def make(*parts: Sequence[Any]) -> AsyncIterator[Sequence[Any]]:
        for part in parts:
            yield part

    return make
