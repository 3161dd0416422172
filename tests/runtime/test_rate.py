"""The rate controller, against simulated sources and engines."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiostream_engine.config import BackpressureConfig
from aiostream_engine.runtime.rate import SLOW_START_RECORDS, RateController

INTERVAL_S = 0.5


def run_in(controller: RateController, *batches: tuple[int, int, float, float]) -> list[float | None]:
    return [controller.update(*batch) for batch in batches]


class Engine:
    """A source that offers ``load`` records a second, and an engine that does ``speed`` a second.

    Batches that take longer than the interval delay those behind them, as in a queue of batches.
    """

    def __init__(self, speed: float, *, overhead_s: float = 0.005, noise: float = 0.0, seed: int = 1) -> None:
        self.controller = RateController(BackpressureConfig(), INTERVAL_S)
        self.speed, self.overhead_s, self.noise = speed, overhead_s, noise
        self.random = random.Random(seed)
        self.credit = 0.0
        self.delay_s = 0.0
        self.number = 0
        self.rates: list[float] = []
        self.delays: list[float] = []

    def run(self, batches: int, load: float) -> None:
        for _ in range(batches):
            rate = self.controller.rate
            assert rate is not None
            self.credit += min(load, rate) * INTERVAL_S
            records = int(self.credit)
            self.credit -= records
            spread = 1 + self.noise * (2 * self.random.random() - 1)
            processing = self.overhead_s + records / (self.speed * spread)
            self.number += 1
            self.controller.update(self.number * 500, records, processing, self.delay_s)
            self.delay_s = max(0.0, self.delay_s + processing - INTERVAL_S)
            self.rates.append(self.controller.rate or 0)
            self.delays.append(self.delay_s)


@pytest.mark.parametrize("speed", [20, 1_000, 50_000, 5_000_000])
def test_under_tenfold_overload_the_rate_converges_below_the_processing_speed(speed):
    """G1."""
    engine = Engine(speed)
    engine.run(300, load=10 * speed)
    settled = engine.rates[100:]
    assert max(settled) <= speed
    assert min(settled) >= speed * 0.8
    assert max(engine.delays[100:]) <= INTERVAL_S


@pytest.mark.parametrize("seed", range(5))
def test_the_settled_rate_does_not_oscillate_by_more_than_two(seed):
    """G1: with processing times that vary by a fifth either way."""
    engine = Engine(50_000, noise=0.2, seed=seed)
    engine.run(400, load=500_000)
    settled = engine.rates[100:]
    assert max(settled) <= 2 * min(settled)


def test_no_batch_of_a_fresh_stream_is_far_longer_than_the_interval():
    """G1: the slow start; without it the first batch would hold the whole backlog."""
    engine = Engine(50_000)
    engine.run(30, load=50_000_000)
    assert max(engine.delays) <= INTERVAL_S


def test_a_fast_engine_reaches_millions_a_second_in_a_few_batches():
    engine = Engine(20_000_000)
    engine.run(8, load=100_000_000)
    assert engine.rates[-1] >= 10_000_000


def test_after_an_idle_time_the_rate_is_as_before_and_a_burst_is_bounded():
    """G2: empty batches teach nothing."""
    engine = Engine(50_000)
    engine.run(100, load=500_000)
    before = engine.controller.rate
    engine.run(1000, load=0)
    assert engine.controller.rate == before
    engine.run(50, load=500_000)
    assert max(engine.delays[-50:]) <= INTERVAL_S


def test_after_a_trickle_a_burst_gets_back_to_full_speed():
    """G2: a trickle measures mostly overhead; the rate it leaves must not last."""
    engine = Engine(50_000)
    engine.run(100, load=500_000)
    engine.run(100, load=20)
    engine.run(20, load=500_000)
    assert engine.rates[-1] >= 40_000


def test_the_least_rate_is_kept_however_slow_the_batches():
    """G2."""
    controller = RateController(BackpressureConfig(rate_min=10), INTERVAL_S)
    rates = run_in(controller, *((number, 1, 1000.0, 1000.0) for number in range(1, 50)))
    assert rates[-1] == 10


def test_the_formula_is_that_of_the_original():
    """BP-4: new = latest - P * error - I * historical - D * dError."""
    config = BackpressureConfig(initial_rate=1000, proportional=0.5, integral=0.3, derivative=0.1)
    controller = RateController(config, 1.0)
    assert controller.update(1000, 900, 1.0, 0.0) == 900  # the first busy batch initialises
    error, historical = 900 - 600, 0.2 * 600
    expected = 900 - 0.5 * error - 0.3 * historical - 0.1 * error / 1.0
    assert controller.update(2000, 600, 1.0, 0.2) == pytest.approx(expected)
    second, trend = expected - 800, (expected - 800 - error) / 2.0
    assert controller.update(4000, 800, 1.0, 0.0) == pytest.approx(expected - 0.5 * second - 0.1 * trend)


@pytest.mark.parametrize(
    "batch", [(2000, 0, 1.0, 0.0), (2000, 5, 0.0, 0.0), (1000, 5, 1.0, 0.0), (900, 5, 1.0, 0.0)]
)
def test_a_batch_without_records_or_time_or_progress_changes_nothing(batch):
    """BP-4."""
    controller = RateController(BackpressureConfig(), INTERVAL_S)
    before = run_in(controller, (1000, 1000, 1.0, 0.0))[-1]
    assert controller.update(*batch) == before
    assert controller.update(3000, 10, 1.0, 0.0) != before


def test_a_new_source_starts_with_a_small_batch():
    controller = RateController(BackpressureConfig(), INTERVAL_S)
    assert controller.rate == SLOW_START_RECORDS / INTERVAL_S
    assert not controller.estimating


def test_the_initial_rate_is_the_first_one():
    """BP-6."""
    assert RateController(BackpressureConfig(initial_rate=77), INTERVAL_S).rate == 77


def test_a_batch_that_used_its_allowance_and_was_quick_at_least_doubles_it():
    controller = RateController(BackpressureConfig(initial_rate=1000), INTERVAL_S)
    assert run_in(controller, (1, 500, 0.2, 0.0), (2, 1000, 0.001, 0.0)) == [2000, 20_000]


def test_an_allowance_that_is_not_used_does_not_grow():
    controller = RateController(BackpressureConfig(initial_rate=1000), INTERVAL_S)
    assert run_in(controller, (1, 100, 0.01, 0.0), (2, 100, 0.01, 0.0)) == [1000, 1000]


def test_the_slow_start_ends_with_the_first_batch_that_takes_half_of_the_interval():
    controller = RateController(BackpressureConfig(initial_rate=1000), INTERVAL_S)
    controller.update(1, 500, 0.3, 0.0)
    assert controller.estimating
    assert controller.rate == 1000  # it is faster than that: no reason to lower it


def test_the_rate_never_exceeds_its_bound():
    """BP-1."""
    controller = RateController(BackpressureConfig(rate_max=1500, initial_rate=1000), INTERVAL_S)
    assert run_in(controller, (1, 500, 0.01, 0.0), (2, 750, 0.3, 0.0), (3, 750, 0.1, 0.0)) == [1500] * 3


@pytest.mark.parametrize("bound", [None, 100.0])
def test_without_back_pressure_only_the_static_bound_holds(bound):
    """BP-1."""
    controller = RateController(BackpressureConfig(enabled=False, rate_max=bound), INTERVAL_S)
    assert controller.rate == bound
    assert controller.update(1, 1000, 10.0, 10.0) == bound


figures = st.floats(0, 1e6)


@given(st.lists(st.tuples(st.integers(0, 10**13), st.integers(-1, 10**9), figures, figures), max_size=30))
def test_whatever_happens_the_rate_stays_within_its_bounds(batches):
    controller = RateController(BackpressureConfig(rate_min=2, rate_max=1e6, derivative=0.5), INTERVAL_S)
    assert all(rate is not None and 2 <= rate <= 1e6 for rate in run_in(controller, *batches))
