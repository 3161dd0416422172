from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aiostream_engine.config import QueueLimits, RetryPolicy
from aiostream_engine.errors import OptionError, UnpicklableError
from aiostream_engine.sources.custom import CustomReceiverSource, Receiver, ReceiverOutput
from aiostream_engine.types import BatchTime, BlockRef

from .harness import FAST, Harness, records_of, until


async def test_a_generator_gives_its_records_and_its_end_finishes_the_source(harness: Harness) -> None:
    """E3"""

    async def numbers() -> AsyncIterator[int]:
        for number in range(5):
            yield number

    source = CustomReceiverSource(numbers)
    await harness.start(source)
    assert source.name == "receiver numbers[0]"
    assert await harness.drain(source) == [0, 1, 2, 3, 4]


async def test_a_generator_that_fails_is_called_again(harness: Harness) -> None:
    """E1"""
    lives = 0

    async def flaky() -> AsyncIterator[str]:
        nonlocal lives
        lives += 1
        yield f"life {lives}"
        if lives < 3:
            raise ConnectionError("gone")

    source = CustomReceiverSource(flaky, retry=FAST)
    await harness.start(source)
    assert await harness.drain(source) == ["life 1", "life 2", "life 3"]


async def test_a_generator_is_closed_at_stop(harness: Harness) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(0.001)
        finally:
            closed.set()

    source = CustomReceiverSource(endless)
    await harness.start(source)
    await harness.collect(source, 3)
    await source.stop()
    assert closed.is_set()


class Echo(Receiver):
    def __init__(self, *blocks: list[Any]) -> None:
        self.blocks = blocks
        self.acknowledged: list[list[Any]] = []

    async def run(self, output: ReceiverOutput) -> None:
        for block in self.blocks:
            await output.store_block(block)
            self.acknowledged.append(block)


async def test_a_reliable_receiver_hears_when_the_engine_owns_a_block(harness: Harness) -> None:
    """RCV-21"""
    receiver = Echo(["a", "b"], [], ["c"])
    source = CustomReceiverSource(receiver)
    await harness.start(source)
    assert await harness.drain(source) == ["a", "b", "c"]
    assert receiver.acknowledged == [["a", "b"], [], ["c"]]


async def test_a_block_waits_for_room_before_it_is_acknowledged(harness: Harness) -> None:
    """E5, RCV-3"""
    receiver = Echo(*[[number] * 10 for number in range(5)])
    source = CustomReceiverSource(receiver)
    await harness.start(source, limits=QueueLimits(records_max=20))
    await until(lambda: source.info().queue_fill >= 1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(receiver.acknowledged) == 2
    assert len(await harness.drain(source)) == 50
    assert len(receiver.acknowledged) == 5


async def test_the_hook_has_the_block_before_the_receiver_hears(harness: Harness) -> None:
    """RCV-7: where a write-ahead log stands."""
    receiver = Echo(["a"], ["b"])
    logged: list[tuple[list[Any], int]] = []

    async def log(ref: BlockRef) -> None:
        logged.append((records_of((ref,)), len(receiver.acknowledged)))

    source = CustomReceiverSource(receiver, on_block=log)
    await harness.start(source)
    await harness.drain(source)
    assert logged == [(["a"], 0), (["b"], 1)]


async def test_single_records_and_blocks_keep_their_order(harness: Harness) -> None:
    class Mixed(Receiver):
        async def run(self, output: ReceiverOutput) -> None:
            await output.store(1)
            await output.store_block([2, 3])
            output.store_nowait(4)

    source = CustomReceiverSource(Mixed())
    await harness.start(source)
    assert await harness.drain(source) == [1, 2, 3, 4]


async def test_a_large_block_is_pickled_away_from_the_loop(harness: Harness) -> None:
    receiver = Echo(list(range(50_000)))
    source = CustomReceiverSource(receiver)
    await harness.start(source)
    assert await harness.drain(source) == list(range(50_000))


async def test_storing_without_waiting_says_when_it_is_full(harness: Harness) -> None:
    refused = 0

    class Impatient(Receiver):
        async def run(self, output: ReceiverOutput) -> None:
            nonlocal refused
            for number in range(20):
                try:
                    output.store_nowait(number)
                except asyncio.QueueFull:
                    refused += 1

    source = CustomReceiverSource(Impatient())
    await harness.start(source, limits=QueueLimits(records_max=5))
    assert await harness.drain(source) == [0, 1, 2, 3, 4]
    assert refused == 15


async def test_an_error_can_be_reported_without_an_end(harness: Harness) -> None:
    """RCV-8"""

    class Reporter(Receiver):
        async def run(self, output: ReceiverOutput) -> None:
            output.report_error(ValueError("odd message"))
            await output.store("goes on")

    source = CustomReceiverSource(Reporter())
    await harness.start(source)
    assert await harness.drain(source) == ["goes on"]
    assert source.info().last_error == "ValueError: odd message"
    assert source.info().restarts == 0


async def test_a_record_that_cannot_be_sent_is_named(harness: Harness) -> None:
    async def bad() -> AsyncIterator[Any]:
        yield "fine"
        yield threading.Lock()

    # Trying again would not help, and is not done.
    source = CustomReceiverSource(bad, name="mine", retry=RetryPolicy(None, 3600, 3600))
    await harness.start(source)
    with pytest.raises(UnpicklableError, match=r"mine.*lock"):
        for batch in range(1, 10):
            await until(lambda: source.pending)
            harness.directory.ledger.release((await source.cut(BatchTime(batch))).blocks)


async def test_a_record_whose_repr_fails_is_still_named(harness: Harness) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no")

        def __reduce__(self) -> str:
            raise TypeError("never")

    async def bad() -> AsyncIterator[Any]:
        yield Odd()

    source = CustomReceiverSource(bad)
    await harness.start(source)
    await until(lambda: source.pending)
    with pytest.raises(UnpicklableError, match="Odd"):
        await source.cut(BatchTime(1))


async def test_a_block_with_a_bad_record_is_refused_whole(harness: Harness) -> None:
    errors: list[UnpicklableError] = []

    class Careless(Receiver):
        async def run(self, output: ReceiverOutput) -> None:
            try:
                await output.store_block(["good", threading.Lock()])
            except UnpicklableError as error:
                errors.append(error)
            await output.store_block(["after"])

    source = CustomReceiverSource(Careless())
    await harness.start(source)
    assert await harness.drain(source) == ["after"]
    assert len(errors) == 1


def _sync_generator() -> Iterator[int]:
    yield 1


async def _coroutine() -> None:
    return None


async def _generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("wrong", [3, None, _sync_generator, _coroutine, Echo])
def test_what_is_no_receiver_is_refused_with_a_hint(wrong: Any) -> None:
    with pytest.raises(OptionError, match="receiver is"):
        CustomReceiverSource(wrong)


async def test_a_running_generator_is_refused() -> None:
    running = _generator()
    with pytest.raises(OptionError, match="function"):
        CustomReceiverSource(running)  # type: ignore[arg-type]


async def test_a_function_that_gives_no_generator_fails_at_once(harness: Harness) -> None:
    source = CustomReceiverSource(lambda: [1, 2])  # type: ignore[arg-type, return-value]
    await harness.start(source)
    await until(lambda: source.pending)
    with pytest.raises(OptionError, match="async generator"):
        await source.cut(BatchTime(1))
