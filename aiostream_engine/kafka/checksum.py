"""CRC-32C of bytes of which a few were changed: as quick for a megabyte as for a kilobyte.

The checksum is linear: that of changed bytes is the old one, changed by that of the difference and all
that follows it, as if this were zeros; and zeros behind it multiply a checksum by a power of x modulo the
polynomial (as in Mark Adler's ``crc32_combine`` of zlib).
"""

from __future__ import annotations

from functools import cache

__all__ = ["changed_crc32c"]

_POLYNOMIAL = 0x82F63B78  # bits reflected, as in all of this: the first bit is that of x to the 0
_ONE = 1 << 31
_BYTE = 1 << 23  # x to the 8
_DIGIT_BITS = 6


def changed_crc32c(crc: int, difference: bytes, behind: int) -> int:
    """The checksum after a change of bytes.

    crc: before it. difference: old and new bytes, by exclusive or. behind: how many bytes follow them.
    """
    from aiokafka.record.util import calc_crc32c

    own: int = calc_crc32c(difference) ^ calc_crc32c(bytes(len(difference)))
    digit = 0
    while behind:
        own = _product(_powers(digit)[behind & (1 << _DIGIT_BITS) - 1], own)
        behind >>= _DIGIT_BITS
        digit += 1
    return crc ^ own


@cache
def _powers(digit: int) -> tuple[int, ...]:
    """By how much so many zero bytes, times 64 to the power of ``digit``, multiply a checksum."""
    unit = _BYTE if digit == 0 else _product(_powers(digit - 1)[1], _powers(digit - 1)[-1])
    found = [_ONE]
    while len(found) < 1 << _DIGIT_BITS:
        found.append(_product(unit, found[-1]))
    return tuple(found)


def _product(left: int, right: int) -> int:
    """Of two polynomials, modulo that of CRC-32C."""
    found = 0
    while left:
        if left & _ONE:
            found ^= right
        left = left << 1 & 0xFFFFFFFF
        right = right >> 1 ^ (_POLYNOMIAL if right & 1 else 0)
    return found
