"""The checksum of changed bytes is known without reading the rest."""

from __future__ import annotations

import random

import pytest
from aiokafka.record.util import calc_crc32c

from aiostream_engine.kafka.checksum import changed_crc32c


@pytest.mark.parametrize("behind", [0, 1, 4, 63, 64, 65, 4095, 4096, 262_087, 1_000_003])
def test_the_checksum_after_a_change_is_that_of_the_new_bytes(behind):
    source = random.Random(behind)
    head, old, new = source.randbytes(22), source.randbytes(14), source.randbytes(14)
    tail = source.randbytes(behind)
    difference = bytes(a ^ b for a, b in zip(old, new, strict=True))
    assert changed_crc32c(calc_crc32c(head + old + tail), difference, behind) == calc_crc32c(
        head + new + tail
    )


def test_what_did_not_change_has_the_same_checksum():
    assert changed_crc32c(0x12345678, bytes(14), 1000) == 0x12345678
