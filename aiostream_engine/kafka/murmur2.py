"""Which partition a key belongs to, as Kafka's own clients decide: murmur2 of its bytes."""

from __future__ import annotations

__all__ = ["murmur2", "partition_of"]

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The hash of the Java client's ``Utils.murmur2``, as an unsigned number of 32 bits."""
    length = len(data)
    tail = length & 3
    h = _SEED ^ length
    for start in range(0, length - tail, 4):
        k = int.from_bytes(data[start : start + 4], "little") * _M & _MASK
        h = (h * _M & _MASK) ^ ((k ^ k >> 24) * _M & _MASK)
    if tail:
        h = (h ^ int.from_bytes(data[length - tail :], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The number of a key's partition among ``partitions``, the same as of a Java producer."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
