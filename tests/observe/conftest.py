from __future__ import annotations

from collections.abc import Callable

import pytest

from aiostream_engine.observe.events import BatchCompleted, BatchInfo, InputInfo
from aiostream_engine.types import BatchTime

START_MS = 1_700_000_000_000


@pytest.fixture
def completed() -> Callable[..., BatchCompleted]:
    """The event of a batch that is over; delays in seconds."""

    def make(batch_id: int, *, records: int = 100, delay_s: float = 0.1, failure: str | None = None):
        time = BatchTime(START_MS + 500 * batch_id)
        batch = BatchInfo(
            batch_id=batch_id,
            batch_time=time,
            inputs=(InputInfo(0, "socket", records, records * 10),),
            scheduling_delay_s=delay_s / 10,
            processing_delay_s=delay_s,
            total_delay_s=delay_s * 1.1,
            failure=failure,
        )
        return BatchCompleted(int(time), batch)

    return make
