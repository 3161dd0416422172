"""Estimates of memory are near enough for a bound."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from aiostream_engine.state.sizes import estimated_bytes


class Plain:
    def __init__(self, number: int) -> None:
        self.number, self.text = number, str(number) * 10


class Slotted:
    __slots__ = ("missing", "text")

    def __init__(self, number: int) -> None:
        self.text = str(number) * 50


class Lying:
    def __sizeof__(self) -> int:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "make",
    [
        lambda n: "x" * 1000 + str(n),
        lambda n: [float(n + m) for m in range(100)],
        lambda n: {m + 1000 * n: str(m) * 10 for m in range(100)},
        lambda n: (n + 10**9, "x" * 200 + str(n), b"y" * 300 + bytes([n % 256])),
        lambda n: {(n, m) for m in range(1000, 1100)},
        Plain,
        Slotted,
        lambda n: [[Plain(n) for _ in range(10)], {n: Slotted(n)}],
    ],
)
def test_an_estimate_is_within_a_factor_of_two(make: Callable[[int], Any]) -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        values = [make(number) for number in range(1000, 1200)]
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken / 2 < sum(map(estimated_bytes, values)) < taken * 2


@pytest.mark.parametrize("value", [Lying(), [Lying()], {}, [], (), set(), None, object(), int, len])
def test_every_value_has_an_estimate(value: Any) -> None:
    assert 0 < estimated_bytes(value) < 100_000


def test_a_value_that_holds_itself_has_an_estimate() -> None:
    loop: list[Any] = [1, 2]
    loop.append(loop)
    assert estimated_bytes(loop) > 0
