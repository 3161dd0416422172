"""A hash of keys that is the same in every process, run and machine.

Python salts ``hash(str)`` a process, so that it cannot place a key on a worker. Rules (H9):

* equal keys have equal hashes, so ``1``, ``1.0`` and ``True`` are one key, as they are in a dict;
* ``None``, numbers, ``str``, ``bytes``, tuples, frozensets, enums, dates, ``UUID``, paths and
  frozen dataclasses of those can be keys, and so can any object with ``__stable_hash__() -> int``;
* NaN is refused: it does not equal itself, so no group could ever be found again;
* unhashable (mutable) keys are refused.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import numbers
import pathlib
import uuid
from collections.abc import Callable
from typing import Any
from zlib import crc32

from ..errors import BadKeyError

__all__ = ["PartitionOf", "bounded", "stable_hash"]

_MASK = 0xFFFFFFFFFFFFFFFF


def stable_hash(key: Any) -> int:
    """The hash of ``key``; raises BadKeyError for a key that cannot be placed."""
    kind = type(key)
    if kind is str:
        return crc32(key.encode("utf-8", "surrogatepass"))
    if kind is int:
        return hash(key) & _MASK
    if kind is tuple:
        return _hash_tuple(key)
    if key is None:
        return 0x6E6F6E65
    return _hash_other(key)


def _hash_tuple(key: tuple[Any, ...]) -> int:
    result = 0x345678 ^ len(key)
    for item in key:
        result = (result * 1000003 ^ stable_hash(item)) & _MASK
    return result


def _hash_other(key: Any) -> int:
    method = getattr(type(key), "__stable_hash__", None)
    if method is not None:
        return int(method(key)) & _MASK
    for kinds, rule in _RULES:
        if isinstance(key, kinds):
            return rule(key)
    if dataclasses.is_dataclass(key) and type(key).__hash__ is not None:
        return _hash_tuple(
            tuple(getattr(key, field.name) for field in dataclasses.fields(key) if field.compare)
        )
    raise BadKeyError(
        f"{bounded(key)} of type {type(key).__name__} cannot be a key: use a str, number, bytes, None, a "
        "tuple or frozen dataclass of those, or give its class a __stable_hash__() method"
    )


def _hash_number(key: Any) -> int:
    if key != key:
        raise BadKeyError("NaN cannot be a key: it does not equal itself; map it to None first")
    return hash(key) & _MASK


def _hash_time(key: Any) -> int:
    # Equal instants and times of two zones are equal keys.
    if isinstance(key, datetime.datetime) and key.utcoffset() is not None:
        key = key.astimezone(datetime.UTC)
    elif isinstance(key, datetime.time) and (offset := key.utcoffset()) is not None:
        clock = datetime.datetime.combine(datetime.date.min, key, tzinfo=None) - datetime.datetime.min
        key = clock - offset
    text = str(key) if isinstance(key, datetime.timedelta) else key.isoformat()
    return crc32(text.encode())


def _hash_path(key: pathlib.PurePath) -> int:
    text = str(key)
    if isinstance(key, pathlib.PureWindowsPath):
        text = text.lower()  # as its equality does
    return crc32(text.encode("utf-8", "surrogateescape"))


def _hash_set(key: frozenset[Any]) -> int:
    return sum(stable_hash(item) for item in key) & _MASK


_RULES: list[tuple[Any, Callable[[Any], int]]] = [
    (str, lambda key: crc32(str.encode(key, "utf-8", "surrogatepass"))),
    (bytes, crc32),
    (numbers.Number, _hash_number),
    (tuple, _hash_tuple),
    (frozenset, _hash_set),
    (enum.Enum, lambda key: crc32(f"{type(key).__qualname__}.{key.name}".encode())),
    ((datetime.date, datetime.time, datetime.timedelta), _hash_time),
    (uuid.UUID, lambda key: hash(key.int) & _MASK),
    (pathlib.PurePath, _hash_path),
]


def bounded(key: Any) -> str:
    """The start of ``repr``; never fails."""
    try:
        text = repr(key)
    except Exception:
        text = "<unprintable>"
    return text if len(text) <= 100 else text[:97] + "..."


class PartitionOf(dict[Any, int]):
    """Key -> partition number, remembered for the length of one task: repeated keys cost one look-up."""

    __slots__ = ("partitions",)

    def __init__(self, partitions: int) -> None:
        super().__init__()
        self.partitions = partitions

    def __missing__(self, key: Any) -> int:
        number = self[key] = stable_hash(key) % self.partitions
        return number
