"""A key goes to the partition to which every other client of Kafka sends it."""

from __future__ import annotations

import random

import pytest
from aiokafka.partitioner import murmur2 as reference

from aiostream_engine.kafka.murmur2 import murmur2, partition_of

# From the tests of Kafka's own clients (UtilsTest.testMurmur2).
KNOWN = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("data", KNOWN)
def test_the_hash_is_the_one_of_the_java_client(data):
    assert murmur2(data) == KNOWN[data] % 2**32


def test_keys_of_all_lengths_hash_as_elsewhere():
    source = random.Random(5)
    for length in range(200):
        data = source.randbytes(length)
        assert murmur2(data) == reference(data) % 2**32


def test_a_key_has_a_partition_that_exists():
    places = {partition_of(b"%d" % number, 7) for number in range(200)}
    assert places == set(range(7))
