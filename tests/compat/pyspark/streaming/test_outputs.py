"""What a stream of the layer prints, saves and remembers."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest

from aiostream_engine.compat.pyspark.streaming.util import rddToFileName
from tests.compat.pyspark.streaming.cases import Batches, wait_for


def test_printing_shows_time_records_and_whether_there_are_more(ssc, capsys):
    """Row OUT-3."""
    stream = ssc.queueStream([["a", "b", "c"], ["d"]])
    stream.pprint(2)
    batches = Batches(stream)
    ssc.start()
    batches.first(3)
    text = capsys.readouterr().out
    rule = "-" * 43
    blocks = [
        f"{rule}\nTime: {time}\n{rule}\n{records}\n"
        for time, records in zip(batches.times, ["a\nb\n...\n", "d\n", ""], strict=False)
    ]
    assert text.startswith("".join(blocks))


def test_each_batch_is_saved_in_a_directory_of_its_own(ssc, tmp_path):
    """Row OUT-5."""
    stream = ssc.queueStream([["a", 1, None]])
    stream.saveAsTextFiles(str(tmp_path / "out"), "txt")
    batches = Batches(stream)
    ssc.start()
    batches.first(2)
    first, second = (rddToFileName(str(tmp_path / "out"), "txt", time) for time in batches.times[:2])
    assert re.fullmatch(r".*out-\d{13}\.txt", first)
    saved = sorted((tmp_path / first).glob("part-*"))
    assert "".join(part.read_text() for part in saved) == "a\n1\nNone\n"
    assert not "".join(part.read_text() for part in (tmp_path / second).glob("part-*"))


def test_names_of_files():
    assert rddToFileName("p", None, 123) == "p-123"
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000)
    assert rddToFileName("p", "x", moment) == f"p-{round(moment.timestamp() * 1000)}.x"


def test_remembered_batches_can_be_sliced(ssc):
    """Row DS-8: both ends are included; a time between two batches means the one before."""
    ssc.remember(60)
    stream = ssc.queueStream([[1], [2], [3]])
    batches = Batches(stream)
    ssc.start()
    batches.first(3)
    first, _, third = batches.times[:3]
    found = stream.slice(first.timestamp(), (third + timedelta(milliseconds=20)).timestamp())
    assert [rdd.collect() for rdd in found] == [[1], [2], [3]]
    assert stream.slice(first.timestamp() - 10, first.timestamp() - 5) == []


def test_remember_is_set_once(ssc):
    ssc.remember(1)
    with pytest.raises(Exception, match="set already"):
        ssc.remember(2)


@pytest.mark.parametrize(
    "function",
    [lambda rdd: None, lambda rdd, factor=2: None, lambda time, rdd: None, lambda *both: None, [].append],
)
def test_functions_with_and_without_time(ssc, function):
    """Row DS-13: told apart by what they require."""
    ssc.queueStream([[1]]).foreachRDD(function)
    batches = Batches(ssc.queueStream([[1]]))
    ssc.start()
    batches.first(2)
    assert ssc.awaitTerminationOrTimeout(0) is False


def test_functions_of_another_kind_are_refused(ssc):
    stream = ssc.queueStream([[1]])
    with pytest.raises(AssertionError, match="one or two arguments"):
        stream.transform(lambda a, b, c: a)
    with pytest.raises(AssertionError, match="two or three arguments"):
        stream.transformWith(lambda a: a, stream)


def test_a_method_is_called_without_its_object(ssc):
    class Sums:
        def __init__(self):
            self.sums = []

        def add(self, rdd):
            self.sums.append(rdd.sum())

    sums = Sums()
    ssc.queueStream([[1, 2], [3]]).foreachRDD(sums.add)
    ssc.start()
    wait_for(lambda: len(sums.sums) >= 2)
    assert sums.sums[:2] == [3, 3]


def test_functions_are_sent_with_what_they_refer_to_in_that_batch(ssc):
    """As in PySpark, which pickles them anew in every batch."""
    factors = [1]
    stream = ssc.queueStream([[1], [1], [1]]).map(lambda x: x * factors[0])
    batches = Batches(stream)
    stream.foreachRDD(lambda rdd: factors.__setitem__(0, factors[0] * 10))
    ssc.start()
    assert batches.first(3) == [[1], [10], [100]]


def test_windows_are_checked_when_they_are_made(ssc):
    """Row WIN-1."""
    stream = ssc.queueStream([[1]])
    with pytest.raises(ValueError, match=r"windowDuration must be multiple of .*\(50 ms\)"):
        stream.window(0.12)
    with pytest.raises(ValueError, match="slideDuration must be multiple"):
        stream.reduceByWindow(max, None, 0.1, 0.07)
