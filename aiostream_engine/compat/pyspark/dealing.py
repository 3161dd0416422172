"""Dealing records out for a repartition as Spark does: by chunks, from another start for each partition."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["chunked", "dealt", "first_place"]

_WORD, _LONG = 2**32 - 1, 2**64 - 1
_ARRAY_SEED = 0x3C074A61


def chunked(size: int, records: Iterable[Any]) -> Iterator[list[Any]]:
    """``records`` in lists of ``size``; the last may be shorter."""
    iterator = iter(records)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def dealt(partitions: int, index: int, chunks: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """(number, chunk): one number further for each chunk, to be taken modulo ``partitions``."""
    return zip(itertools.count(first_place(index, partitions) + 1), chunks)


def first_place(index: int, partitions: int) -> int:
    """The first number of a xorshift generator seeded with ``index``, below ``partitions``."""
    state = _seed_of(index)
    while True:
        state ^= (state << 21) & _LONG
        state ^= state >> 35
        state ^= (state << 4) & _LONG
        bits = state & (2**31 - 1)
        if partitions & -partitions == partitions:  # a power of two: the high bits are the better ones
            return (partitions * bits) >> 31
        if bits - bits % partitions + partitions - 1 < 2**31:  # else the last numbers would be rarer
            return bits % partitions


def _seed_of(index: int) -> int:
    """Murmur3 of the number's eight bytes, twice, as one 64-bit number."""
    data = index.to_bytes(8, "big")
    low = _murmur3(data, _ARRAY_SEED)
    return (_murmur3(data, low) << 32) | low


def _murmur3(data: bytes, seed: int) -> int:
    state = seed
    for at in range(0, len(data), 4):
        word = int.from_bytes(data[at : at + 4], "little") * 0xCC9E2D51 & _WORD
        state ^= _rotated(word, 15) * 0x1B873593 & _WORD
        state = (_rotated(state, 13) * 5 + 0xE6546B64) & _WORD
    state ^= len(data)
    state = (state ^ state >> 16) * 0x85EBCA6B & _WORD
    state = (state ^ state >> 13) * 0xC2B2AE35 & _WORD
    return state ^ state >> 16


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & _WORD
