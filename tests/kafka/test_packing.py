"""What workers make of records: bytes, and Kafka's record batches, without a broker."""

from __future__ import annotations

import pickle
import random
import time
from typing import Any

import cloudpickle
import pytest
from aiokafka.record.default_records import DefaultRecordBatch

from aiostream_engine.kafka.encoding import EncodeRecord, Outgoing, RecordTooLargeError
from aiostream_engine.kafka.packing import CODECS, PackRecords, seal


def encoder(projection="pair", *, headers=None, bytes_max=1000) -> EncodeRecord:
    made = EncodeRecord("t", projection, "str", "json", headers, None, bytes_max)
    return pickle.loads(cloudpickle.dumps(made))


def records(batch) -> list[tuple[bytes | None, bytes | None]]:
    return [(record.key, record.value) for record in DefaultRecordBatch(bytes(batch.content))]


def test_the_short_way_and_the_long_one_give_the_same():
    long = encoder(headers=lambda record: [])
    for record in [("k", 1), (None, [2]), ("k", None)]:
        assert encoder()(record) == long(record)
    assert encoder()(["k", 1]) == long(("k", 1))


def test_nulls_stay_nulls():
    assert encoder()((None, None)) == Outgoing("t", None, None)


@pytest.mark.parametrize("bad", [1, ("k",), ("k", 1, 2), "ab"])
def test_what_is_no_pair_is_refused(bad):
    with pytest.raises(TypeError, match="takes \\(key, value\\) pairs"):
        encoder()(bad)


@pytest.mark.parametrize("headers", [None, lambda record: [("h", b"x")]])
def test_a_record_over_its_bound_is_refused_with_its_size(headers):
    with pytest.raises(RecordTooLargeError, match="more than record_bytes_max = 100"):
        encoder(headers=headers, bytes_max=100)(("k", "x" * 100))


def test_packed_records_are_all_there_in_the_order_of_their_key():
    pack = pickle.loads(pickle.dumps(PackRecords({"t": 3}, batch_bytes=300)))
    given = [encoder()((f"key{number % 7}", number)) for number in range(200)]
    batches = list(pack(iter(given)))
    assert sum(batch.records for batch in batches) == 200
    assert len(batches) > 10
    found = [record for batch in batches for record in records(batch)]
    for key in {one.key for one in given}:
        assert [value for k, value in found if k == key] == [one.value for one in given if one.key == key]


def test_a_record_larger_than_a_batch_has_one_of_its_own():
    batches = list(PackRecords({"t": 1}, batch_bytes=100)([Outgoing("t", None, b"x" * 500)] * 3))
    assert [batch.records for batch in batches] == [1, 1, 1]


def test_records_of_topics_that_are_not_known_are_handed_back():
    mixed = [Outgoing("t", b"k", b"1"), Outgoing("new", b"k", b"2"), Outgoing("t", b"k", b"3")]
    known, unknown = PackRecords({"t": 1}, batch_bytes=1000)(mixed)
    assert records(known) == [(b"k", b"1"), (b"k", b"3")]
    assert (unknown.partition, unknown.content) == (-1, [mixed[1]])


def test_a_sealed_batch_names_its_producer_and_has_a_right_checksum():
    (batch,) = PackRecords({"t": 1}, batch_bytes=1000, transactional=True)([Outgoing("t", b"k", b"v")])
    sealed = bytearray(batch.content)
    seal(sealed, 12, 3, 2**31 - 1)
    found = DefaultRecordBatch(bytes(sealed))
    assert found.validate_crc()
    assert found.is_transactional
    assert (found.producer_id, found.producer_epoch, found.base_sequence) == (12, 3, 2**31 - 1)


def test_values_alone_are_only_bytes_and_fill_one_partition_after_another():
    encode = encoder("value")
    pack = PackRecords({"t": 3}, batch_bytes=300, values_of=encode.values_of)
    batches = list(pack(map(encode, range(200))))
    assert [value for batch in batches for _, value in records(batch)] == [b"%d" % n for n in range(200)]
    assert {batch.partition for batch in batches} == {0, 1, 2}
    assert all(len(batch.content) <= 300 for batch in batches)


def test_a_null_among_values_keeps_its_place_between_the_others():
    encode = encoder("value")
    batches = list(PackRecords({"t": 1}, batch_bytes=1000, values_of="t")(map(encode, [1, None, 2])))
    assert [record for batch in batches for record in records(batch)] == [
        (None, b"1"),
        (None, None),
        (None, b"2"),
    ]


def test_a_value_larger_than_a_batch_has_one_of_its_own():
    batches = list(PackRecords({"t": 1}, batch_bytes=100, values_of="t")([b"x" * 500] * 3))
    assert [batch.records for batch in batches] == [1, 1, 1]


def test_values_of_a_topic_that_is_not_known_are_handed_back():
    (unknown,) = PackRecords({}, batch_bytes=100, values_of="t")([b"x"])
    assert (unknown.partition, unknown.content) == (-1, [Outgoing("t", None, b"x")])


def bare(bytes_max=1000):
    encode = EncodeRecord("t", "value", "bytes", "bytes", None, None, bytes_max)
    assert encode.keeps_bytes
    return pickle.loads(pickle.dumps(PackRecords({"t": 1}, batch_bytes=1000, values_of="t", encode=encode)))


def test_bytes_that_nobody_encoded_are_packed_with_what_is_like_bytes_and_nulls():
    batches = bare()([b"1", bytearray(b"2"), None, bytearray(b"3"), b"4"])
    assert [value for batch in batches for _, value in records(batch)] == [b"1", b"2", None, b"3", b"4"]


def test_bytes_that_nobody_encoded_have_the_same_bound():
    with pytest.raises(RecordTooLargeError, match="more than record_bytes_max = 100"):
        list(bare(bytes_max=100)([b"1", b"x" * 100]))


def test_what_is_not_like_bytes_is_refused_where_it_is_packed():
    with pytest.raises(TypeError):
        list(bare()([b"1", "text"]))


def odd_pairs(source: random.Random) -> list[Any]:
    """Pairs as most are, and now and then one that is not."""
    keys = [f"key{number}" for number in range(source.randrange(1, 60))]
    odd = [(None, 1), ("k", None), ["k", 1], ("k", "x" * 700), (None, None)]
    found: list[Any] = [
        (source.choice(keys), {"n": source.randrange(10**6)}) for _ in range(source.randrange(3000))
    ]
    for _ in range(source.choice([0, 0, 3])):
        found.insert(source.randrange(len(found) + 1), source.choice(odd))
    return found


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("seed", range(5))
def test_pairs_that_nobody_encoded_give_the_bytes_of_those_encoded_one_by_one(seed, codec, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)  # of records, and in the header of gzip
    given = odd_pairs(random.Random(seed))
    options = {"batch_bytes": random.Random(seed).choice([300, 5000, 200_000]), "compression": codec}
    encode = EncodeRecord("t", "pair", "str", "json", None, None, 1000)
    bare = pickle.loads(pickle.dumps(PackRecords({"t": 5}, encode=encode, **options)))
    random.seed(seed)  # of the partition of records without a key
    fast = list(bare(iter(given)))
    random.seed(seed)
    slow = list(PackRecords({"t": 5}, **options)(map(encode, given)))
    assert fast == slow
    assert sum(batch.records for batch in fast) == len(given)


@pytest.mark.parametrize("bad", ["k", ("k", {1, 2}, 3), ("k", object()), (7, "v"), ("k", "x" * 1000)])
def test_a_pair_that_cannot_be_encoded_is_in_hand_when_packing_fails(bad):
    encode = EncodeRecord("t", "pair", "str", "json", None, None, 1000)
    given = [("k", number) for number in range(700)]
    given[600] = bad
    with pytest.raises((TypeError, RecordTooLargeError)) as failure:
        list(PackRecords({"t": 5}, batch_bytes=5000, encode=encode)(given))
    assert failure.value.record_in_hand is bad


def test_pairs_of_a_topic_that_is_not_known_are_handed_back_encoded():
    encode = EncodeRecord("t", "pair", "str", "json", None, None, 1000)
    (unknown,) = PackRecords({}, batch_bytes=100, encode=encode)([("k", 1)])
    assert (unknown.partition, unknown.content) == (-1, [Outgoing("t", b"k", b"1")])
    (known,) = PackRecords({"t": 1}, batch_bytes=100, encode=encode)(unknown.content)
    assert records(known) == [(b"k", b"1")]


def test_only_pairs_with_named_serdes_are_packed_without_having_been_encoded():
    def encode(topic="t", projection="pair", key="str", headers=None, timestamp=None):
        return EncodeRecord(topic, projection, key, "json", headers, timestamp, 1000)

    assert encode().pairs_of == "t"
    others = [
        {"topic": str},
        {"projection": "value"},
        {"projection": tuple},
        {"key": str.encode},
        {"headers": list},
        {"timestamp": int},
    ]
    assert [encode(**other).pairs_of for other in others] == [None] * len(others)
