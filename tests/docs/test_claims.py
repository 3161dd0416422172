"""Sentences of the pages on errors, guarantees and asynchronous steps, one by one."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine import DeadLetter, OnError, RetryPolicy, StepError, StreamingContext
from aiostream_engine.errors import OptionError, SourceError
from aiostream_engine.observe.events import Event, StreamingStarted
from aiostream_engine.sinks.base import IdempotentSink, PlainSink, TransactionalSink
from aiostream_engine.sinks.files import TextFileSink
from aiostream_engine.sinks.memory import ListSink
from aiostream_engine.sources.base import EphemeralSource, ReceiverSource, ReplayableSource

DEADLINE_S = 30.0
ROOT = Path(__file__).parents[2]


SOURCE_KINDS: dict[str, type] = {
    "replayable": ReplayableSource,
    "receiver": ReceiverSource,
    "ephemeral": EphemeralSource,
}
SINK_KINDS: dict[str, type] = {
    "plain": PlainSink,
    "idempotent": IdempotentSink,
    "transactional": TransactionalSink,
}


def connectors(room: str, kinds: tuple[type, ...]) -> list[type]:
    """The public classes of a room that can be used as they are."""
    found: set[type] = set()
    for path in (ROOT / "aiostream_engine" / room).glob("*.py"):
        module = importlib.import_module(f"aiostream_engine.{room}.{path.stem}")
        values = [value for value in vars(module).values() if inspect.isclass(value)]
        found.update(value for value in values if issubclass(value, kinds))
    bases = {base for value in found for base in value.__mro__[1:]}
    return [value for value in found - bases if not value.__name__.startswith("_")]


def context(**options: Any) -> StreamingContext:
    return StreamingContext(0.05, "local", **options)


async def finished(ssc: StreamingContext) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await ssc.run()


# -- error-policies.md -------------------------------------------------------------------------


async def test_an_error_has_the_fields_that_the_page_shows():
    async with context() as ssc:
        ssc.queue_stream([["12;x"]]).map(int, name="parse").to(ListSink())
        with pytest.raises(StepError) as caught:
            await finished(ssc)
    error = caught.value
    assert (error.step, error.partition, error.record) == ("parse", 0, "'12;x'")
    assert error.error_type == "ValueError"
    assert error.batch is not None
    assert error.batch % 50 == 0
    assert "ValueError: invalid literal" in error.worker_traceback


@pytest.mark.parametrize("policy", OnError)
async def test_the_page_names_every_policy_and_each_does_what_it_says(policy: OnError):
    page = (ROOT / "docs" / "error-policies.md").read_text()
    assert f'`"{policy.value}"`' in page
    sink, letters = ListSink(), ListSink(name="letters")
    async with context() as ssc:
        numbers = ssc.queue_stream([["1", "x", "2"]], finish_when_empty=True).map(int, on_error=policy)
        numbers.to(sink)
        if policy is OnError.DEAD_LETTER:
            numbers.dead_letters().to(letters)
        if policy is OnError.FAIL:
            with pytest.raises(StepError):
                await finished(ssc)
        else:
            await finished(ssc)
    assert sink.records == ([] if policy is OnError.FAIL else [1, 2])
    assert [letter.record for letter in letters.records] == (["x"] if policy is OnError.DEAD_LETTER else [])


def test_the_page_names_every_field_of_a_dead_letter():
    page = " ".join((ROOT / "docs" / "error-policies.md").read_text().split())
    assert ", ".join(DeadLetter._fields) in page


async def test_the_function_runs_once_for_results_and_dead_letters(tmp_path: Path):
    calls = tmp_path / "calls"

    def parse(text: str) -> int:
        with calls.open("a") as file:
            file.write(f"{text}\n")
        return int(text)

    async with context() as ssc:
        rows = ssc.queue_stream([["1", "x"]], finish_when_empty=True).map(parse, on_error="dead-letter")
        rows.to(ListSink())
        rows.dead_letters().to(ListSink(name="letters"))
        await finished(ssc)
    assert sorted(calls.read_text().split()) == ["1", "x"]


async def test_the_other_outputs_of_a_batch_still_run_when_one_fails():
    sink = ListSink()

    async def refuse(rdd: Any) -> None:
        raise RuntimeError("no")

    async with context() as ssc:
        numbers = ssc.queue_stream([[1]])
        numbers.foreach_rdd(refuse)
        numbers.to(sink)
        with pytest.raises(RuntimeError, match="no"):
            await finished(ssc)
    assert sink.records == [1]


async def test_a_batch_goes_without_an_output_that_is_skipped():
    calls = 0

    async def refuse(rdd: Any) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("no")

    async with context() as ssc:
        ssc.queue_stream([[1], [2]], finish_when_empty=True).foreach_rdd(refuse, on_error="skip")
        await finished(ssc)
    assert calls >= 2


async def test_an_output_is_run_again_as_often_as_its_policy_says():
    calls = 0

    async def refuse(rdd: Any) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("no")

    async with context() as ssc:
        retry = RetryPolicy(attempts_max=3, wait_s=0.001)
        ssc.queue_stream([[1]]).foreach_rdd(refuse, retry=retry)
        with pytest.raises(RuntimeError, match="no"):
            await finished(ssc)
    assert calls == 3


async def test_outputs_have_no_dead_letters():
    async with context() as ssc:
        with pytest.raises(OptionError, match="dead-letter"):
            ssc.queue_stream().foreach_rdd(print, on_error="dead-letter")


async def test_what_was_received_is_processed_before_a_source_that_gave_up_fails_the_stream():
    async def broken():
        yield 1
        yield 2
        raise ConnectionError("gone")

    sink = ListSink()
    async with context() as ssc:
        retry = RetryPolicy(attempts_max=1)
        ssc.receiver_stream(broken, retry=retry).to(sink)
        with pytest.raises(SourceError, match="gone"):
            await finished(ssc)
    assert sink.records == [1, 2]


# -- guarantees.md -----------------------------------------------------------------------------


async def test_the_guarantees_are_logged_at_start_shown_by_explain_and_carried_by_the_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "aiostream_engine")
    heard: list[Event] = []
    async with context() as ssc:
        lines = ssc.text_file_stream(str(tmp_path), name="logs")
        lines.to(TextFileSink(tmp_path / "out", name="copy"))
        lines.pprint()
        ssc.add_listener(heard.append)
        explained = ssc.explain()
        await ssc.start()
        await ssc.stop()
    (event,) = [event for event in heard if isinstance(event, StreamingStarted)]
    assert len(event.guarantees) == 2
    for line in event.guarantees:
        assert line in explained
        assert line in caplog.messages
    assert "logs (replayable)" in event.guarantees[0]
    assert "copy) (idempotent)" in event.guarantees[0]
    assert "at most once" in event.guarantees[0]


@pytest.mark.parametrize(("room", "kinds"), [("sources", SOURCE_KINDS), ("sinks", SINK_KINDS)])
def test_every_source_and_sink_is_in_the_table_of_its_kind(room: str, kinds: dict[str, type]):
    page = (ROOT / "docs" / "guarantees.md").read_text()
    for connector in connectors(room, tuple(kinds.values())):
        kind = next(name for name, base in kinds.items() if issubclass(connector, base))
        row = rf"^\| {kind} \| .*`{connector.__name__}`"
        assert re.search(row, page, re.MULTILINE), f"{connector.__name__} is {kind}"


async def test_outputs_run_one_after_the_other_in_the_order_of_their_definition():
    order: list[str] = []
    async with context() as ssc:
        numbers = ssc.queue_stream([[1]], finish_when_empty=True)
        for name in "abc":

            async def note(rdd: Any, name: str = name) -> None:
                order.append(f"{name} begins")
                await asyncio.sleep(0.001)
                order.append(f"{name} ends")

            numbers.foreach_rdd(note, name=name)
        await finished(ssc)
    assert order[:6] == ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]


# -- async-steps.md ----------------------------------------------------------------------------


async def test_concurrency_is_bounded_over_all_partitions_and_order_is_kept():
    busy = busiest = 0

    async def slow(number: int) -> int:
        nonlocal busy, busiest
        busy += 1
        busiest = max(busiest, busy)
        await asyncio.sleep(0.001 * (number % 3))
        busy -= 1
        return number

    sink = ListSink()
    async with context(parallelism=4) as ssc:
        numbers = ssc.queue_stream([range(100)], finish_when_empty=True)
        numbers.map_async(slow, concurrency=7).to(sink)
        await finished(ssc)
    assert sink.records == list(range(100))
    assert busiest <= 7


@pytest.mark.parametrize("placement", ["loop", "worker"])
async def test_the_error_of_an_asynchronous_step_is_that_of_its_function(placement: str):
    async def lookup(number: int) -> int:
        raise LookupError(f"no {number}")

    async with context() as ssc:
        ssc.queue_stream([[7]]).map_async(lookup, name="look", placement=placement).to(ListSink())
        with pytest.raises(StepError) as caught:
            await finished(ssc)
    error = caught.value
    assert (error.step, error.error_type, error.message, error.record) == ("look", "LookupError", "no 7", "7")
    assert "in lookup" in error.worker_traceback


async def test_calls_under_way_are_cancelled_when_one_fails_for_good():
    cancelled = 0

    async def call(number: int) -> int:
        nonlocal cancelled
        if number == 3:
            await asyncio.sleep(0)
            raise LookupError("three")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return number

    async with context() as ssc:
        ssc.queue_stream([range(10)]).map_async(call).to(ListSink())
        with pytest.raises(StepError, match="three"):
            await finished(ssc)
    assert cancelled == 9


async def test_a_try_that_takes_too_long_counts_as_failed():
    async def for_ever(number: int) -> None:
        await asyncio.Event().wait()

    letters = ListSink()
    async with context() as ssc:
        stream = ssc.queue_stream([[1]], finish_when_empty=True)
        waited = stream.map_async(for_ever, timeout_s=0.01, retry=1, on_error="dead-letter")
        waited.pprint()
        waited.dead_letters().to(letters)
        await finished(ssc)
    (letter,) = letters.records
    assert letter.error_type.endswith("TimeoutError")
    assert letter.attempts == 2
