"""Delays of batches as the engine's own listener reports them."""

from __future__ import annotations

from typing import Any

from aiostream_engine.observe.listener import StreamingListener

__all__ = ["Delays"]


class Delays(StreamingListener):
    """What each completed batch took, in seconds and in the order of completion.

    lateness_s: from the label of the batch, the end of its interval, to its cut.
    """

    def __init__(self) -> None:
        self.processing_s: list[float] = []
        self.scheduling_s: list[float] = []
        self.lateness_s: list[float] = []
        self.ticks_coalesced = 0

    def on_batch_completed(self, event: Any) -> None:
        batch = event.batch
        self.processing_s.append(batch.processing_delay_s)
        self.scheduling_s.append(batch.scheduling_delay_s)
        self.lateness_s.append((batch.submission_ms - batch.batch_time) / 1000)
        self.ticks_coalesced += batch.ticks_coalesced
