"""Interval arithmetic, against brute force over every millisecond."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiostream_engine.errors import GraphError, OptionError
from aiostream_engine.windows.intervals import (
    Interval,
    check_window,
    entering,
    first_tick_after,
    is_due,
    is_due_within,
    last_tick_at,
    leaving,
    milliseconds,
    remember_at_least,
    remember_of_parent,
    window_at,
)

times = st.integers(-300, 300)
slides = st.integers(1, 40)


def covered(interval: Interval) -> set[int]:
    """Every millisecond of an interval, by its definition."""
    return {time for time in range(-1000, 1001) if interval.begin < time <= interval.end}


def multiples(zero: int, slide: int) -> list[int]:
    """Ticks counted from zero, on both sides of it."""
    return [zero + n * slide for n in range(-1000, 1001)]


@given(times, times)
def test_an_interval_contains_what_lies_after_its_begin_up_to_its_end(begin, end):
    interval = Interval(begin, end)
    assert {time for time in range(-1000, 1001) if time in interval} == covered(interval)
    assert interval.duration == len(covered(interval))
    assert bool(interval) == bool(covered(interval))


@given(times, times, slides, times)
def test_the_ticks_of_an_interval_are_the_multiples_inside(begin, end, slide, zero):
    expected = [tick for tick in multiples(zero, slide) if begin < tick <= end]
    assert list(Interval(begin, end).ticks(slide, zero)) == expected


@given(times, slides, times)
def test_the_first_tick_after_now_is_the_next_multiple_and_never_now(now, interval, zero):
    expected = min(tick for tick in multiples(zero, interval) if tick > now)
    assert first_tick_after(now, interval, zero) == expected


def test_ticks_fall_on_epoch_multiples_when_no_zero_is_given():
    """CTX-22: first tick = (floor(now / interval) + 1) * interval."""
    assert first_tick_after(1_700_000_000_123, 500) == 1_700_000_000_500
    assert first_tick_after(1_700_000_000_500, 500) == 1_700_000_001_000


@given(times, slides, times)
def test_the_last_tick_at_a_time_is_the_latest_multiple_not_after_it(time, slide, zero):
    assert last_tick_at(time, slide, zero) == max(tick for tick in multiples(zero, slide) if tick <= time)


@given(times, times, slides)
def test_a_stream_is_due_at_every_slide_after_zero_and_at_nothing_else(time, zero, slide):
    assert is_due(time, zero, slide) == (time in [zero + n * slide for n in range(1, 1000)])


@given(times, st.integers(0, 100), times, slides)
def test_a_coalesced_batch_owes_a_slide_when_a_tick_of_it_lies_since_the_batch_before(
    previous, gap, zero, slide
):
    time = previous + gap
    expected = any(is_due(t, zero, slide) for t in range(previous + 1, time + 1))
    assert is_due_within(previous, time, zero, slide) == expected


@given(st.lists(st.integers(1, 6), min_size=1, max_size=20), st.integers(1, 5))
def test_coalescing_never_answers_a_slide_twice_nor_loses_the_last_one(steps, ratio):
    """D2: what is owed is answered by exactly the first batch at or after it."""
    interval = 10
    labels, label = [], 0
    for step in steps:
        label += step * interval
        labels.append(label)
    answered = [
        time
        for previous, time in zip([0, *labels], labels, strict=False)
        if is_due_within(previous, time, 0, ratio * interval)
    ]
    owed = [tick for tick in range(1, label + 1) if tick % (ratio * interval) == 0]
    assert answered == sorted({min(time for time in labels if time >= tick) for tick in owed})


@given(times, st.integers(1, 100), st.integers(1, 150))
def test_a_window_moves_by_what_leaves_and_what_enters(time, window, step):
    """WIN-19, also where the slide is longer than the window."""
    previous, current = window_at(time - step, window), window_at(time, window)
    assert covered(leaving(previous, current)) == covered(previous) - covered(current)
    assert covered(entering(previous, current)) == covered(current) - covered(previous)


def test_everything_leaves_when_windows_do_not_overlap():
    assert leaving(Interval(0, 10), Interval(20, 30)) == Interval(0, 10)
    assert entering(Interval(0, 10), Interval(20, 30)) == Interval(20, 30)


@given(st.integers(1, 10**9))
def test_every_whole_millisecond_survives_the_way_through_float_seconds(duration):
    assert milliseconds("interval", duration / 1000) == duration


@pytest.mark.parametrize("seconds", [0, -1, -0.5, float("nan"), float("inf"), "1", None, True])
def test_what_is_no_positive_duration_is_refused_by_name(seconds):
    with pytest.raises(OptionError, match="interval is"):
        milliseconds("interval", seconds)


@pytest.mark.parametrize("seconds", [0.0001, 0.0005, 0.0015, 1.00025, 1e-9])
def test_a_fraction_of_a_millisecond_is_refused_and_named(seconds):
    with pytest.raises(OptionError, match=r"whole number of milliseconds"):
        milliseconds("interval", seconds)


def test_window_and_slide_that_are_multiples_of_the_parents_slide_are_accepted():
    assert check_window(3, 1.5, 500) == (3000, 1500)


def test_the_slide_of_a_window_is_the_parents_when_not_given():
    assert check_window(3, None, 500) == (3000, 500)


@pytest.mark.parametrize(
    ("window", "slide", "text"),
    [
        (0.7, 0.5, "window length of 700 ms .* 500 ms: use 500 ms or 1000 ms"),
        (1, 0.2, "window slide of 200 ms .* 500 ms: use 500 ms"),
    ],
)
def test_a_window_that_does_not_fit_the_parent_is_refused_with_the_numbers_and_a_remedy(window, slide, text):
    """WIN-1."""
    with pytest.raises(GraphError, match=text):
        check_window(window, slide, 500)


@pytest.mark.parametrize(("window", "slide"), [(0, 1), (-1, 1), (1, 0), (1, -1)])
def test_a_window_or_slide_of_zero_or_less_is_refused(window, slide):
    with pytest.raises(OptionError, match="more than zero"):
        check_window(window, slide, 500)


def test_a_stream_remembers_its_slide_or_twice_its_checkpoint_interval():
    """DS-6."""
    assert remember_at_least(500) == 500
    assert remember_at_least(500, checkpoint=5000) == 10_000
    assert remember_at_least(500, checkpoint=100) == 500


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 8))
def test_a_parent_remembers_all_that_a_remembered_window_reads(slide, window, kept):
    """DS-6, WIN-7: recomputing the oldest window still kept finds every batch it reads."""
    now = 1000
    remember = remember_at_least(slide) + kept
    forgotten_through = now - remember_of_parent(remember, window)
    oldest_kept = now - remember + 1
    assert min(covered(window_at(oldest_kept, window))) > forgotten_through
