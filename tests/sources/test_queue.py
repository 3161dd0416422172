from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Any

import pytest

from aiostream_engine.config import QueueLimits
from aiostream_engine.errors import ConfigurationError, LifecycleError, OptionError, UnpicklableError
from aiostream_engine.sources.queue import QueueSource
from aiostream_engine.types import BatchTime

from .harness import Harness, until


async def test_one_item_makes_one_batch(harness: Harness) -> None:
    """SRC-16"""
    source = QueueSource([[1, 2], [3]])
    await harness.start(source)
    assert [await harness.cut(source) for _ in range(3)] == [[1, 2], [3], []]
    assert not source.finished, "an empty queue is not the end"


async def test_all_items_make_one_batch_when_asked(harness: Harness) -> None:
    """SRC-16"""
    source = QueueSource([[1, 2], [3]], one_at_a_time=False)
    await harness.start(source)
    assert await harness.cut(source) == [1, 2, 3]


@pytest.mark.parametrize("kind", [list, deque])
async def test_the_users_own_queue_may_grow(harness: Harness, kind: type) -> None:
    """SRC-16: a change after creation is seen."""
    queue = kind()
    source = QueueSource(queue)
    await harness.start(source)
    assert await harness.cut(source) == []
    queue.append([1])
    await until(harness._ready.is_set)
    assert await harness.cut(source) == [1]
    assert len(queue) == 0


async def test_an_asyncio_queue_is_taken_from(harness: Harness) -> None:
    queue: asyncio.Queue[Any] = asyncio.Queue()
    source = QueueSource(queue)
    await harness.start(source)
    await queue.put([1])
    assert await harness.cut(source) == [1]


async def test_the_default_stands_in_for_an_item(harness: Harness) -> None:
    """SRC-16"""
    source = QueueSource([[1]], default=["nothing"])
    await harness.start(source)
    assert [await harness.cut(source) for _ in range(3)] == [[1], ["nothing"], ["nothing"]]


async def test_an_empty_list_without_default_is_fine(harness: Harness) -> None:
    """SRC-18"""
    source = QueueSource([])
    await harness.start(source)
    assert await harness.cut(source) == []


async def test_it_finishes_when_closed_and_empty(harness: Harness) -> None:
    """E3"""
    source = QueueSource()
    await harness.start(source)
    source.put([1])
    source.close()
    assert not source.finished
    assert await harness.drain(source) == [1]
    with pytest.raises(LifecycleError):
        source.put([2])


async def test_it_can_finish_by_being_empty(harness: Harness) -> None:
    source = QueueSource([[1], [2]], finish_when_empty=True)
    await harness.start(source)
    assert await harness.drain(source) == [1, 2]


async def test_datasets_are_handed_through(harness: Harness) -> None:
    class Rdd:
        pass

    rdd = Rdd()
    source = QueueSource([rdd, [1]], one_at_a_time=False)
    await harness.start(source)
    batch = await source.cut(BatchTime(1))
    assert batch.datasets == (rdd,)
    assert (len(batch.blocks), batch.records) == (1, -1)


@pytest.mark.parametrize("kind", [list, tuple, set, iter, deque])
async def test_collections_of_all_kinds_are_records(harness: Harness, kind: Any) -> None:
    source = QueueSource([kind([1, 2])])
    await harness.start(source)
    assert await harness.cut(source) == [1, 2]


@pytest.mark.parametrize("item", ["text", b"bytes", {"a": 1}])
async def test_a_single_record_in_place_of_a_collection_is_told(harness: Harness, item: Any) -> None:
    source = QueueSource([item])
    await harness.start(source)
    with pytest.raises(ConfigurationError, match="collection"):
        await harness.cut(source)


async def test_an_endless_item_is_refused(harness: Harness) -> None:
    source = QueueSource([iter(int, 1)])
    await harness.start(source, limits=QueueLimits(records_max=100))
    with pytest.raises(ConfigurationError, match="records_max"):
        await harness.cut(source)


async def test_an_item_is_spread_over_all_workers(harness: Harness) -> None:
    source = QueueSource([list(range(10)), [1], list(range(30_000))])
    await harness.start(source, parallelism=4)
    for expected in (list(range(10)), [1], list(range(30_000))):
        assert await harness.cut(source) == expected
    assert [len(batch.blocks) for batch in harness.batches] == [4, 1, 4]


async def test_a_record_that_cannot_be_sent_is_named_and_nothing_is_left(harness: Harness) -> None:
    source = QueueSource([[bytes(100_000), threading.Lock()]])
    await harness.start(source, parallelism=2)
    with pytest.raises(UnpicklableError, match="lock"):
        await harness.cut(source)


async def test_it_is_bounded(harness: Harness) -> None:
    source = QueueSource(items_max=2)
    await harness.start(source)
    source.put([1])
    source.put([2])
    with pytest.raises(asyncio.QueueFull):
        source.put([3])
    assert source.info().queue_fill == 1.0


async def test_put_wakes_the_engine(harness: Harness) -> None:
    source = QueueSource()
    await harness.start(source)
    harness._ready.clear()
    source.put([1])
    assert harness._ready.is_set()
    assert source.pending


async def test_what_waits_at_stop_can_still_be_cut(harness: Harness) -> None:
    source = QueueSource([[1], [2]], default=["none"])
    await harness.start(source)
    await source.stop()
    assert await harness.drain(source) == [1, 2]
    assert await harness.cut(source) == []


@pytest.mark.parametrize("options", [{"queue": (1, 2)}, {"queue": "text"}, {"items_max": 0}])
def test_bad_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        QueueSource(**options)
