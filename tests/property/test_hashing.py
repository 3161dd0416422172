"""The law of the stable hash: what is equal is in one place."""

from __future__ import annotations

import datetime as dt
import pickle
from decimal import Decimal
from fractions import Fraction
from typing import Any

import cloudpickle
from hypothesis import given
from hypothesis import strategies as st

from aiostream_engine.operators.hashing import stable_hash

numbers = st.one_of(
    st.integers(),
    st.booleans(),
    st.floats(allow_nan=False),
    st.fractions(),
    st.decimals(allow_nan=False),
    st.complex_numbers(allow_nan=False),
)
zones = st.integers(-14, 14).map(lambda hours: dt.timezone(dt.timedelta(hours=hours)))
atoms = st.one_of(
    st.none(),
    numbers,
    st.text(),
    st.binary(),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=zones, min_value=dt.datetime(1900, 1, 1), max_value=dt.datetime(2100, 1, 1)),
    st.timedeltas(),
    st.times(),
    st.uuids(),
)
hashables = st.recursive(
    atoms,
    lambda inner: st.one_of(st.tuples(inner), st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
)


@given(number=numbers)
def test_a_number_has_one_hash_in_all_its_types(number: Any) -> None:
    others: list[Any] = []
    for kind in (int, float, Fraction, Decimal, complex, bool):
        try:
            others.append(kind(number))
        except (TypeError, ValueError, OverflowError):
            continue
    for other in others:
        if other == number:
            assert stable_hash(other) == stable_hash(number)


@given(a=hashables, b=hashables)
def test_equal_keys_have_equal_hashes(a: Any, b: Any) -> None:
    if a == b:
        assert stable_hash(a) == stable_hash(b)


@given(key=hashables)
def test_a_key_keeps_its_hash_through_a_pickle(key: Any) -> None:
    for dumps in (pickle.dumps, cloudpickle.dumps):
        copy = pickle.loads(dumps(key))
        assert copy == key
        assert stable_hash(copy) == stable_hash(key)


@given(
    moment=st.datetimes(
        timezones=zones, min_value=dt.datetime(1900, 1, 1), max_value=dt.datetime(2100, 1, 1)
    ),
    zone=zones,
)
def test_an_instant_has_one_hash_in_all_time_zones(moment: dt.datetime, zone: dt.timezone) -> None:
    other = moment.astimezone(zone)
    assert other == moment
    assert stable_hash(other) == stable_hash(moment)
    assert (stable_hash(other.timetz()) == stable_hash(moment.timetz())) >= (
        other.timetz() == moment.timetz()
    )


@given(items=st.lists(st.integers() | st.text(), unique=True, max_size=6))
def test_the_order_in_which_a_set_was_built_does_not_matter(items: list[Any]) -> None:
    assert stable_hash(frozenset(items)) == stable_hash(frozenset(reversed(items)))
