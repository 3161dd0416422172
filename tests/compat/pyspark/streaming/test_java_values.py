"""Values that are read as in Python and called as in Java."""

from __future__ import annotations

import pytest

from aiostream_engine.compat.pyspark.streaming.java_values import JavaMap, JavaObject, JavaTime


def test_a_field_may_be_read_or_called():
    info = JavaObject("Info", numRecords=3, name="a", active=True, batchTime=JavaTime(1500))
    assert info.numRecords == 3
    assert info.numRecords() == 3
    assert type(info.numRecords()) is int
    assert info.name().upper() == info.name.upper() == "A"
    assert info.active() is True
    assert info().batchTime().milliseconds() == info.batchTime.milliseconds == 1500


def test_a_missing_value_is_false_equals_none_and_gives_none():
    info = JavaObject("Info", failureReason=None)
    assert info.failureReason() is None
    assert info.failureReason == None  # noqa: E711 - what programs write
    assert not info.failureReason


def test_a_map_has_both_kinds_of_methods():
    entries = JavaMap({0: JavaObject("Input", numRecords=2)})
    assert entries().get(0).numRecords() == 2
    assert entries[0].numRecords == 2
    assert entries.size() == len(entries) == 1
    assert entries.containsKey(0)
    assert not entries.isEmpty()
    assert entries.keySet() == {0}


def test_values_print_as_java_prints_them():
    info = JavaObject("Info", time=JavaTime(7), active=False, reason=None, n=1, map=JavaMap({1: "x"}))
    assert info.toString() == str(info) == "Info(7 ms,false,null,1,{1=x})"


def test_an_unknown_field_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Info has no 'nothing'"):
        _ = JavaObject("Info").nothing
