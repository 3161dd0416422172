"""The verifying sink finds each kind of fault, and only that."""

import pytest

from aiostream_engine.sinks.base import WriteKey
from aiostream_engine.testing import Delivery, VerifyingSink, numbered_records
from aiostream_engine.types import BatchTime

KEY = WriteKey("verify", 1, BatchTime(1), 0, 1)


async def chunks(*parts):
    for part in parts:
        yield part


def delivered(*records, expected=None) -> Delivery:
    sink = VerifyingSink({"a": expected} if expected is not None else None)
    for record in records:
        sink.check(record)
    return sink.report()["a"]


FIVE = list(numbered_records("a", 5))


async def test_a_complete_ordered_delivery_is_exactly_once():
    sink = VerifyingSink({"a": 5})
    await sink.write(KEY, chunks(FIVE[:2], FIVE[2:]))
    sink.assert_exactly_once()
    sink.assert_at_least_once()
    assert sink.received == 5
    assert sink.keys == [KEY]


def test_a_gap_is_a_loss_and_named():
    delivery = delivered(FIVE[0], FIVE[1], FIVE[3])
    assert (delivery.lost, delivery.lost_first) == (1, [2])
    assert delivery.out_of_order == delivery.duplicated == 0


def test_a_missing_end_is_a_loss_when_the_number_is_known():
    assert delivered(*FIVE[:3], expected=5).lost == 2
    assert delivered(*FIVE[:3]).lost == 0


def test_a_source_that_gave_nothing_has_lost_all():
    sink = VerifyingSink({"a": 3})
    with pytest.raises(AssertionError, match=r"a: received 0 of 3, lost 3.*first lost: \[0, 1, 2\]"):
        sink.assert_exactly_once()


def test_a_second_copy_is_a_duplicate_and_not_out_of_order():
    delivery = delivered(*FIVE, FIVE[1])
    assert (delivery.duplicated, delivery.out_of_order, delivery.lost) == (1, 0, 0)


def test_a_duplicate_breaks_exactly_once_and_not_at_least_once():
    sink = VerifyingSink({"a": 5})
    for record in [*FIVE, FIVE[4]]:
        sink.check(record)
    sink.assert_at_least_once()
    with pytest.raises(AssertionError, match="duplicated 1"):
        sink.assert_exactly_once()


def test_a_record_after_a_later_one_is_out_of_order_and_not_lost():
    delivery = delivered(FIVE[0], FIVE[2], FIVE[1])
    assert (delivery.out_of_order, delivery.lost) == (1, 0)


def test_a_damaged_record_is_corrupt_and_counts_as_lost():
    delivery = delivered(*FIVE[:4], FIVE[4]._replace(payload=b"?"), expected=5)
    assert (delivery.corrupt, delivery.lost) == (1, 1)


def test_a_record_beyond_the_expected_number_is_unexpected():
    delivery = delivered(*FIVE, expected=4)
    assert (delivery.unexpected, delivery.lost) == (1, 0)


def test_sources_are_told_apart():
    sink = VerifyingSink({"a": 1, "b": 1})
    for source in "ab":
        sink.check(next(numbered_records(source, 1)))
    sink.assert_exactly_once()


def test_numbered_records_go_on_from_a_start_and_have_the_asked_size():
    records = list(numbered_records("a", 2, start=3, payload_bytes=100))
    assert [record.sequence for record in records] == [3, 4]
    assert all(record.intact and len(record.payload) == 100 for record in records)
