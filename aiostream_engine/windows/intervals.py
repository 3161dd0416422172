"""Interval arithmetic on whole milliseconds: ticks, windows, and how long data is needed.

Every interval is open at its begin and closed at its end, as batch labels name the *end* of
what they cover (row CTX-22). All functions are pure; nothing here reads a clock.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..errors import GraphError, OptionError

__all__ = [
    "Interval",
    "Slide",
    "check_window",
    "entering",
    "first_tick_after",
    "is_due",
    "is_due_within",
    "last_tick_at",
    "leaving",
    "milliseconds",
    "remember_at_least",
    "remember_of_parent",
    "window_at",
]

# Binary floats cannot hold 0.1 s; what is closer than this to a whole millisecond is meant as one.
_ROUNDING_MS = 1e-6


def milliseconds(option: str, seconds: float) -> int:
    """A duration in seconds as whole milliseconds.

    option: how the caller knows the duration, for the text of the error.

    Raises OptionError when it is not a positive number of whole milliseconds.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise OptionError(f"{option} is {seconds!r}: give a duration in seconds, such as 0.5")
    if not math.isfinite(seconds) or seconds <= 0:
        raise OptionError(f"{option} is {seconds!r} s: it must be more than zero and finite")
    exact = seconds * 1000
    rounded = round(exact)
    if rounded < 1 or abs(exact - rounded) > max(_ROUNDING_MS, exact * 1e-12):
        raise OptionError(
            f"{option} is {seconds!r} s ({exact:g} ms): it must be a whole number of milliseconds"
        )
    return rounded


class Interval(NamedTuple):
    """The times t with ``begin < t <= end``, in epoch milliseconds; empty when end <= begin."""

    begin: int
    end: int

    @property
    def duration(self) -> int:
        """Milliseconds from begin to end, 0 when it is empty."""
        return max(0, self.end - self.begin)

    def __contains__(self, time: object) -> bool:
        return isinstance(time, int) and self.begin < time <= self.end

    def __bool__(self) -> bool:
        return self.end > self.begin

    def ticks(self, slide: int, zero: int = 0) -> range:
        """The multiples of ``slide``, counted from ``zero``, that lie inside, in ascending order."""
        return range(first_tick_after(self.begin, slide, zero), self.end + 1, slide)


def first_tick_after(now_ms: int, interval_ms: int, zero_ms: int = 0) -> int:
    """The first multiple of the interval, counted from ``zero_ms``, that is later than ``now_ms``.

    Without a zero time these are the epoch multiples of row CTX-22; the zero time of a new
    stream is then the first tick less one interval. A restarted one hands in its own (CTX-23).
    """
    return zero_ms + ((now_ms - zero_ms) // interval_ms + 1) * interval_ms


def last_tick_at(time: int, slide: int, zero: int = 0) -> int:
    """The last multiple of ``slide``, counted from ``zero``, that is not later than ``time``."""
    return zero + (time - zero) // slide * slide


def is_due(time: int, zero: int, slide: int) -> bool:
    """True when a stream of this slide has an RDD at ``time``: at zero + n * slide, n >= 1."""
    return time > zero and (time - zero) % slide == 0


def is_due_within(previous: int, time: int, zero: int, slide: int) -> bool:
    """True when a tick of the slide lies in ``(previous, time]``, so that the batch ``time`` owes it.

    ``previous`` is the label of the batch before, or the zero time. Without coalesced ticks
    this is :func:`is_due`; with them, no slide is lost, and no slide is answered twice.
    """
    last = last_tick_at(time, slide, zero)
    return last > max(previous, zero)


class Slide(NamedTuple):
    """The length and step of a window, checked, in milliseconds."""

    window: int
    slide: int


def check_window(
    window_s: float, slide_s: float | None, parent_slide_ms: int, *, what: str = "window"
) -> Slide:
    """Window length and slide in seconds, checked against the parent's slide (row WIN-1).

    slide_s: None takes the parent's slide.
    what: how to call the operator in the text of the error.

    Raises OptionError for values that are no durations, GraphError for lengths that are not
    multiples of the parent's slide.
    """
    window = milliseconds(f"{what} length", window_s)
    slide = parent_slide_ms if slide_s is None else milliseconds(f"{what} slide", slide_s)
    for name, value in (("length", window), ("slide", slide)):
        if value % parent_slide_ms:
            raise GraphError(_not_a_multiple(f"{what} {name}", value, parent_slide_ms))
    return Slide(window, slide)


def _not_a_multiple(name: str, value: int, unit: int) -> str:
    below = value // unit * unit
    near = f"{below} ms or {below + unit} ms" if below else f"{unit} ms"
    return f"{name} of {value} ms is not a multiple of the parent's slide of {unit} ms: use {near}"


def window_at(time: int, window: int) -> Interval:
    """The window of length ``window`` that ends at ``time``."""
    return Interval(time - window, time)


def leaving(previous: Interval, current: Interval) -> Interval:
    """What the previous window held and the current does not (row WIN-19).

    All of the previous window when the two do not overlap.
    """
    return Interval(previous.begin, min(previous.end, current.begin))


def entering(previous: Interval, current: Interval) -> Interval:
    """What the current window holds and the previous did not (row WIN-19).

    What lies between two windows that do not touch belongs to neither.
    """
    return Interval(max(previous.end, current.begin), current.end)


def remember_at_least(slide: int, checkpoint: int | None = None) -> int:
    """How long a stream keeps its RDDs for itself (row DS-6): its slide, or two checkpoints."""
    if checkpoint is not None and slide <= checkpoint:
        return 2 * checkpoint
    return slide


def remember_of_parent(remember: int, window: int = 0) -> int:
    """How long the parent must keep its RDDs for a child that keeps its own for ``remember``.

    A windowed child still needs, for its oldest RDD, the parent's of one more window (WIN-7).
    What the parent may forget after batch T are its RDDs with a label up to T less this.
    """
    return remember + window
