from __future__ import annotations

import math
import statistics
from functools import reduce

import pytest

from aiostream_engine.operators.statistics import StatCounter


def test_statistics_agree_with_those_of_python() -> None:
    values = [3.5, -1.0, 7.25, 0.0, 2.5]
    counter = StatCounter.of(values)
    assert (counter.count, counter.min, counter.max) == (5, -1.0, 7.25)
    assert counter.mean == pytest.approx(statistics.fmean(values))
    assert counter.sum == pytest.approx(sum(values))
    assert counter.variance == pytest.approx(statistics.pvariance(values))
    assert counter.sample_variance == pytest.approx(statistics.variance(values))
    assert counter.stdev == pytest.approx(statistics.pstdev(values))
    assert counter.sample_stdev == pytest.approx(statistics.stdev(values))


def test_merged_parts_give_the_statistics_of_the_whole() -> None:
    parts = [[1.0, 2.0], [], [100.0], [-3.0, 5.0, 6.0]]
    merged = reduce(StatCounter.merge, map(StatCounter.of, parts))
    whole = StatCounter.of([value for part in parts for value in part])
    assert merged.count == whole.count
    assert merged.mean == pytest.approx(whole.mean)
    assert merged.variance == pytest.approx(whole.variance)
    assert (merged.min, merged.max) == (whole.min, whole.max)


def test_merging_does_not_change_the_parts() -> None:
    one = StatCounter.of([1.0])
    one.merge(StatCounter.of([2.0]))
    assert one == StatCounter.of([1.0])


def test_nothing_has_no_variance_and_one_value_no_sample_variance() -> None:
    assert math.isnan(StatCounter().variance)
    assert StatCounter().sum == 0
    assert StatCounter.of([4]).variance == 0
    assert math.isnan(StatCounter.of([4]).sample_variance)


def test_a_large_offset_does_not_spoil_the_variance() -> None:
    values = [1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16]
    assert StatCounter.of(values).sample_variance == pytest.approx(30)
