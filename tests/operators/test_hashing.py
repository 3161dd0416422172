"""H8, H9: which keys there are, and that they hash alike everywhere."""

from __future__ import annotations

import datetime as dt
import enum
import os
import pathlib
import subprocess
import sys
import uuid
from collections import namedtuple
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from aiostream_engine.errors import BadKeyError
from aiostream_engine.operators.hashing import PartitionOf, bounded, stable_hash

Point = namedtuple("Point", "x y")
UTC = dt.UTC
CET = dt.timezone(dt.timedelta(hours=1))


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Name(enum.StrEnum):
    FULL = "full"


@dataclass(frozen=True)
class Order:
    id: int
    customer: str


class Custom:
    def __init__(self, number: int) -> None:
        self.number = number

    def __stable_hash__(self) -> int:
        return self.number


KEYS: list[Any] = [
    None,
    0,
    -1,
    2**70,
    1.5,
    float("inf"),
    1 + 2j,
    Decimal("1.10"),
    Fraction(1, 3),
    "",
    "häß",
    "\ud800",
    b"\x00",
    (),
    (1, ("a", None)),
    frozenset({1, "a"}),
    Colour.RED,
    dt.date(2024, 2, 29),
    dt.datetime(2024, 2, 29, 12, 30),
    dt.time(1, 2, 3, 4),
    dt.timedelta(days=-1),
    uuid.UUID(int=7),
    pathlib.PurePosixPath("a/b"),
    Order(1, "x"),
]

EQUAL: list[tuple[Any, Any]] = [
    (1, 1.0),
    (1, True),
    (0, False),
    (0.0, -0.0),
    (1, Decimal(1)),
    (1, Fraction(1)),
    (1, 1 + 0j),
    (2**53, float(2**53)),
    (1, Level.LOW),
    ("full", Name.FULL),
    ((1, 2), Point(1, 2)),
    ((1, 2), (1.0, True + 1)),
    (frozenset({1, 2}), frozenset({2.0, 1})),
    (dt.datetime(2024, 1, 1, 12, tzinfo=UTC), dt.datetime(2024, 1, 1, 13, tzinfo=CET)),
    (dt.time(12, 0, 0, 5, tzinfo=UTC), dt.time(13, 0, 0, 5, tzinfo=CET)),
    (pathlib.PurePosixPath("a"), pathlib.PosixPath("a")),
    (pathlib.PureWindowsPath("A"), pathlib.PureWindowsPath("a")),
    (Order(1, "x"), Order(True, "x")),
]


@pytest.mark.parametrize(("a", "b"), EQUAL, ids=repr)
def test_equal_keys_have_equal_hashes(a: Any, b: Any) -> None:
    """H9: what is one key in a dict is one key here."""
    assert a == b
    assert stable_hash(a) == stable_hash(b)


def test_different_keys_mostly_differ() -> None:
    assert len({stable_hash(key) for key in KEYS}) >= len(KEYS) - 2
    assert len({stable_hash(f"key {n}") % 7 for n in range(100)}) == 7
    assert stable_hash((1, 2)) != stable_hash((2, 1))
    assert stable_hash(dt.time(1, tzinfo=UTC)) != stable_hash(dt.time(1, 0, 0, 1, tzinfo=UTC))


def test_a_class_can_bring_a_hash_of_its_own() -> None:
    assert stable_hash(Custom(5)) == 5


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_the_hash_does_not_depend_on_the_salt_of_the_process(seed: str) -> None:
    """H8: another PYTHONHASHSEED, another process, the same place."""
    code = (
        "import sys\n"
        "from aiostream_engine.operators.hashing import stable_hash\n"
        "keys = ['word', b'bytes', ('a', 1, None), frozenset({'x', 'y', 'z'}), 2.5, -3, None]\n"
        "print(*map(stable_hash, keys))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    keys = ["word", b"bytes", ("a", 1, None), frozenset({"x", "y", "z"}), 2.5, -3, None]
    assert done.stdout.split() == [str(stable_hash(key)) for key in keys]


def test_the_hash_of_text_is_pinned_across_versions() -> None:
    """H6: a checkpoint made by an older version finds its keys again."""
    pinned = {"word": 3287381265, b"word": 3287381265, 7: 7, -1: 2**64 - 2, None: 0x6E6F6E65}
    assert {key: stable_hash(key) for key in pinned} == pinned


@pytest.mark.parametrize("nan", [float("nan"), Decimal("nan"), complex("nan"), (1, float("nan"))], ids=repr)
def test_nan_is_refused_since_no_group_could_find_it_again(nan: Any) -> None:
    """H9: a NaN key is an error that says what to do."""
    with pytest.raises(BadKeyError, match="NaN cannot be a key"):
        stable_hash(nan)


@pytest.mark.parametrize("key", [[1], {"a": 1}, {1}, bytearray(b"x"), ([],), object(), print, int], ids=repr)
def test_a_key_without_a_place_is_refused_by_type(key: Any) -> None:
    """H9: mutable and unknown types are refused, and the remedy is named."""
    with pytest.raises(BadKeyError, match="cannot be a key: use a str, number"):
        stable_hash(key)


def test_a_dataclass_that_can_change_is_no_key() -> None:
    @dataclass
    class Mutable:
        id: int

    with pytest.raises(BadKeyError, match="Mutable"):
        stable_hash(Mutable(1))


def test_the_place_of_a_key_is_remembered_for_equal_keys() -> None:
    place = PartitionOf(5)
    assert place[1] == place[1.0] == place[True] == 1
    assert len(place) == 1


def test_a_repr_for_errors_is_bounded_and_never_fails() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert bounded(Broken()) == "<unprintable>"
    assert len(bounded("x" * 1000)) == 100
