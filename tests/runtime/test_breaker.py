"""When a stream that gives up its records stops, and when it does not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiostream_engine.config import CircuitBreakerConfig
from aiostream_engine.errors import CircuitBreakerError, OptionError
from aiostream_engine.observe.events import BatchCompleted, CircuitBroken
from aiostream_engine.runtime.breaker import CircuitBreaker, Outcomes
from tests.stage import Stage

BAD = -1


def parse(n: int) -> int:
    if n == BAD:
        raise ValueError("no number")
    return n


async def parse_async(n: int) -> int:
    return parse(n)


def stage(*batches: list[int], master: str = "local", **options: Any) -> Stage:
    options = {"share_max": 0.5, "window_batches": 2, "records_min": 10, **options}
    return Stage(list(batches), master=master, circuit_breaker=CircuitBreakerConfig(**options))


def played(stage: Stage, how: str = "map", on_error: str = "skip") -> Any:
    match how:
        case "map":
            step = stage.stream.map(parse, name="parse", on_error=on_error)
        case "retried":
            step = stage.stream.map(parse, name="parse", on_error=on_error, retries=3)
        case _:
            placement = how.removeprefix("async in ")
            step = stage.stream.map_async(parse_async, name="parse", on_error=on_error, placement=placement)
    if on_error == "dead-letter":
        step.dead_letters().foreach_rdd(lambda rdd: None)
    stage.look(step)
    return step


@pytest.mark.parametrize("on_error", ["skip", "dead-letter"])
@pytest.mark.parametrize("how", ["map", "retried", "async in loop", "async in worker"])
async def test_a_stream_whose_records_are_all_bad_stops_instead_of_giving_them_all_up(
    how: str, on_error: str
) -> None:
    """F15: the batch in which it is seen is not committed, and no later one is begun."""
    script = stage([1] * 8, [BAD] * 10, [BAD] * 10)
    played(script, how, on_error)
    with pytest.raises(CircuitBreakerError, match=r"step 'parse' gave up 10 of 18 records \(56%\)"):
        await script.play(3)
    assert script.commits == [1000]
    (broken,) = [event for event in script.events if isinstance(event, CircuitBroken)]
    assert (broken.step, broken.records_given_up, broken.records) == ("parse", 10, 18)
    statistics = script.ssc.statistics()
    assert statistics.records_given_up == 10
    assert statistics.given_up_share == pytest.approx(10 / 18)
    assert statistics.batches_failed == 1


async def test_in_worker_processes_as_well() -> None:
    """F15."""
    script = stage([BAD] * 40, master="local[2]")
    played(script)
    with pytest.raises(CircuitBreakerError, match="40 of 40"):
        await script.play(1)


async def test_some_bad_records_are_what_policies_are_for() -> None:
    """F15: at the bound, and not over it."""
    script = stage(*[[1, BAD] * 10] * 5)
    played(script)
    await script.play(5)
    assert script.records == [[1] * 10] * 5
    shares = [event.batch.given_up_share for event in script.events if isinstance(event, BatchCompleted)]
    assert shares == [0.5] * 5


async def test_few_records_prove_nothing_until_they_are_many() -> None:
    """F15: a slow stream is looked back on for longer than its window of batches."""
    script = stage(*[[BAD]] * 20)
    played(script)
    with pytest.raises(CircuitBreakerError, match=r"10 of 10 records .* last 10 batches"):
        await script.play(20)
    assert len(script.commits) == 9


async def test_a_breaker_that_is_switched_off_only_counts() -> None:
    """F15."""
    script = stage(*[[BAD] * 50] * 3, enabled=False)
    played(script)
    await script.play(3)
    assert script.ssc.statistics().records_given_up == 150
    assert script.ssc.statistics().given_up_share == 1.0


async def test_two_streams_on_one_engine_are_judged_apart() -> None:
    """F15, I9."""
    from aiostream_engine import EngineContext

    async with EngineContext("local") as engine:
        good, bad = (
            Stage([script] * 3, engine=engine, circuit_breaker=CircuitBreakerConfig(True, 0.5, 2, 10))
            for script in ([1] * 20, [BAD] * 20)
        )
        for script in (good, bad):
            played(script)
        async with good.started():
            with pytest.raises(CircuitBreakerError):
                await bad.play(3)
            await good.batch(3)
        assert len(good.commits) == 3


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda p: (max(p), min(p))), max_size=60),
    st.integers(1, 5),
    st.integers(1, 40),
)
def test_the_window_is_the_last_batches_with_records_and_enough_of_them(
    batches: list[tuple[int, int]], window: int, least: int
) -> None:
    """F15: against a model that keeps everything."""
    breaker = CircuitBreaker(CircuitBreakerConfig(window_batches=window, records_min=least, share_max=0.5))
    seen: list[tuple[int, int]] = []
    for tried, bad in batches:
        counts = ({"step": tried}, {"skipped:step": bad}) if tried else ({}, {})
        outcomes = Outcomes()
        outcomes.add(*counts)
        verdict = breaker.judge(outcomes)
        seen += [(tried, bad)] if tried else []
        count = min(window, len(seen))
        while count < len(seen) and sum(tried for tried, _ in seen[-count:]) < least:
            count += 1
        last = seen[-count:] if count else []
        assert (verdict.tried, verdict.given_up) == (sum(t for t, _ in last), sum(b for _, b in last))
        assert verdict.broken == (verdict.tried >= least and verdict.given_up * 2 > verdict.tried)


def test_the_worst_step_is_named() -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(records_min=1))
    verdict = breaker.judge(Outcomes(Counter(a=10, b=10), Counter(a=1, b=3)))
    assert (verdict.step, verdict.share) == ("b", 0.3)


@pytest.mark.parametrize(
    ("option", "value"), [("share_max", 1.5), ("share_max", -1), ("window_batches", 0), ("records_min", 0)]
)
def test_bounds_that_make_no_sense_are_refused(option: str, value: Any) -> None:
    with pytest.raises(OptionError, match=option):
        CircuitBreakerConfig(**{option: value})
