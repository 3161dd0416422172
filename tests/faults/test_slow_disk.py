"""A disk that takes longer for a sync than a batch may take: batches wait, the event loop does not."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from aiostream_engine.config import CheckpointConfig, SchedulerConfig
from aiostream_engine.context import StreamingContext
from aiostream_engine.durable.files import Files
from aiostream_engine.observe.events import TicksCoalesced
from aiostream_engine.testing import ManualClock, ScriptedReplayableSource, use_files
from tests.faults.world import KEY, KeyedSink, Outside, script

pytestmark = pytest.mark.faults

GIVE_UP_S = 20.0


class SlowFiles(Files):
    """Syncs of the journal return when the event loop says so, and tell how many are under way."""

    def __init__(self) -> None:
        self.slow = False
        self.begun = threading.Event()
        self.may_return = threading.Semaphore(0)
        self.under_way = self.most_at_once = self.given_up = 0
        self._lock = threading.Lock()

    def sync(self, fd: int) -> None:
        with self._lock:
            self.under_way += 1
            self.most_at_once = max(self.most_at_once, self.under_way)
        if self.slow:
            self.begun.set()
            self.given_up += not self.may_return.acquire(timeout=GIVE_UP_S)
        super().sync(fd)
        with self._lock:
            self.under_way -= 1


def stream(
    tmp_path: Path, files: SlowFiles, missed_ticks: str
) -> tuple[StreamingContext, ManualClock, Outside, ScriptedReplayableSource]:
    clock, outside = ManualClock(), Outside()
    ssc = StreamingContext(
        1.0,
        "local",
        parallelism=2,
        clock=clock,
        checkpoint=CheckpointConfig(str(tmp_path / "checkpoint"), key=KEY),
        scheduler=SchedulerConfig(missed_ticks=missed_ticks),  # type: ignore[arg-type]
        stop_when_finished=False,
    )
    use_files(ssc, files)
    source = ScriptedReplayableSource(script(12), name="script", partitions=2)
    ssc.from_source(source).map_values(str, name="text").to(KeyedSink(outside, "text"))
    return ssc, clock, outside, source


@pytest.mark.parametrize("missed_ticks", ["coalesce", "every"])
async def test_a_checkpoint_longer_than_the_interval_holds_batches_back_and_not_the_loop(
    tmp_path: Path, missed_ticks: str
) -> None:
    """C15, C17: never two syncs at once, bounded batches in flight, ticks kept or merged by policy."""
    files = SlowFiles()
    ssc, clock, outside, source = stream(tmp_path, files, missed_ticks)
    coalesced: list[int] = []
    ssc.add_listener(lambda e: coalesced.append(e.ticks) if isinstance(e, TicksCoalesced) else None)
    async with ssc:
        await ssc.start()
        files.slow = True
        await clock.advance(1.0)
        await clock.until(files.begun.is_set, timeout_s=GIVE_UP_S)
        turns = 0
        for _ in range(6):  # six intervals pass while the disk works on one sync
            await clock.advance(1.0)
            await asyncio.sleep(0)
            turns += 1
        statistics = ssc.statistics()
        assert turns == 6
        assert source.commits == []
        assert 1 <= statistics.batches_submitted <= SchedulerConfig().batches_in_flight_max
        files.slow = False
        for _ in range(1000):
            files.may_return.release()
        await clock.advance(1.0)
        await clock.until(lambda: max(source.commits, default=0) >= 8000, timeout_s=GIVE_UP_S)
        await clock.settle()
    assert files.given_up == 0  # each waited for the loop, which was not held up
    assert files.most_at_once == 1
    labels = [int(time) for time in source.commits]
    assert labels == sorted(set(labels))
    if missed_ticks == "every":
        assert labels == list(range(1000, labels[-1] + 1, 1000))
        assert coalesced == []
    else:
        assert sum(coalesced) == 8 - len([label for label in labels if label <= 8000]) > 0
    written = sorted(record for (_, _), records in outside.outputs().items() for record in records)
    expected = [(key, str(value)) for item in script(12)[: len(labels)] for key, value in item]
    assert written == sorted(expected)
