from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from aiostream_engine.blocks.directory import BlockDirectory


@pytest.fixture
def directory() -> Iterator[BlockDirectory]:
    directory = BlockDirectory()
    yield directory
    directory.close()


@pytest.fixture(autouse=True)
def _no_error_in_a_callback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The event loop only logs what a callback raises, which must not go unnoticed."""
    yield
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    errors = [r.getMessage() for r in records if r.name == "asyncio" and r.levelno >= logging.ERROR]
    assert errors == []
