from __future__ import annotations

import pytest

from aiostream_engine.errors import OptionError
from aiostream_engine.sources.rate_limit import TokenBucket


def test_without_a_rate_nothing_waits() -> None:
    bucket = TokenBucket()
    bucket.spend(10**9, 0.0)
    assert bucket.wait_s(0.0) == 0


def test_the_average_keeps_to_the_rate() -> None:
    bucket, now, taken = TokenBucket(100.0, 0.0), 0.0, 0
    while taken < 1000:
        now += bucket.wait_s(now)
        bucket.spend(1, now)
        taken += 1
    assert now == pytest.approx(9.9, abs=0.2)


def test_a_debt_is_waited_for() -> None:
    bucket = TokenBucket(10.0, 0.0)
    bucket.spend(51, 0.0)
    assert bucket.wait_s(0.0) == pytest.approx(5.1)
    assert bucket.wait_s(5.1) == 0


def test_idle_time_saves_up_no_more_than_the_burst() -> None:
    bucket = TokenBucket(100.0, 0.0, burst_s=0.5)
    assert bucket.available(1000.0) == 50


def test_waiting_exactly_as_told_is_enough() -> None:
    """A clock that is moved by hand would hang on what rounding leaves."""
    bucket, now = TokenBucket(3.0, 0.0), 0.0
    for _ in range(1000):
        now += bucket.wait_s(now)
        assert bucket.wait_s(now) == 0
        bucket.spend(1, now)


def test_a_new_rate_holds_from_now_on() -> None:
    bucket = TokenBucket(1.0, 0.0)
    bucket.spend(11, 0.0)
    bucket.set_rate(10.0, 0.0)
    assert bucket.wait_s(0.0) == pytest.approx(1.1)
    bucket.set_rate(None, 0.0)
    assert bucket.wait_s(0.0) == 0


@pytest.mark.parametrize("rate", [0, -1.0, float("nan")])
def test_a_rate_that_is_not_above_zero_is_refused(rate: float) -> None:
    """BP-1: zero is not 'no limit'."""
    with pytest.raises(OptionError, match="rate"):
        TokenBucket(rate)
