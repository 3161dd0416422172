from __future__ import annotations

from collections.abc import Iterator

import pytest

from aiostream_engine.blocks.directory import BlockDirectory


@pytest.fixture
def directory() -> Iterator[BlockDirectory]:
    directory = BlockDirectory()
    yield directory
    directory.close()
