from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from aiostream_engine.blocks.directory import BlockDirectory

from .harness import Harness


@pytest.fixture
def directory() -> Iterator[BlockDirectory]:
    directory = BlockDirectory()
    yield directory
    directory.close()


@pytest.fixture
async def harness(directory: BlockDirectory) -> AsyncIterator[Harness]:
    harness = Harness(directory)
    yield harness
    await harness.aclose()
    assert directory.ledger.statistics().files == 0, "blocks were left behind"
